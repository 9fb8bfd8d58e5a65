import itertools

import pytest

from storage import datasets, listing, prompts, responses, routing, scores, search
from storage.errors import StoreError
from storage.listing import Listing
from storage.records import DatasetRow, NewPlan, Score


@pytest.fixture
def filled(store, make, monkeypatch):
    """Eight answers of `a` (ids 1–8) and four of `b` (9–12); scores, and two datasets that share prompt 1."""
    monkeypatch.setattr(listing, "FIRST", 2)
    monkeypatch.setattr(listing, "CHUNK", 3)
    a, b = make.generation("a"), make.generation("b")
    _, ids = make.prompt_set(["calibration"] * 3 + ["synthesis"] * 5)
    responses.add(store, None, [make.answer(item, a, f"alpha {item}") for item in ids])
    responses.add(store, None, [make.answer(item, b, "beta", status="refused") for item in ids[:4]])
    quality = scores.put_scorer(store, "exact_answer", {})
    learnability = scores.put_scorer(store, "learnability", {})
    scores.add(store, None, quality, [(n, Score(float(n % 2))) for n in range(1, 9)])
    scores.add(store, None, learnability, [(n, Score(-n / 10)) for n in range(1, 7)])
    made = []
    for number, rows in enumerate(([(1, 0.5), (2, None)], [(1, -0.5), (3, 0.25)])):
        plan = routing.open_plan(store, None, NewPlan(f"p{number}", "mix", 1, None, {}))
        made.append(datasets.open_dataset(store, None, f"d{number}", plan.id, f"run/d{number}", {}).id)
        datasets.add(store, None, made[-1], [DatasetRow(ids[n - 1], n, reward=reward) for n, reward in rows])
    return ids, made


def ids_of(store, **wanted) -> list[int]:
    return list(itertools.chain.from_iterable(listing.stream(store, Listing(**wanted))))


def test_every_id_comes_once_in_chunks_of_which_the_first_is_small(store, filled) -> None:
    parts = [list(part) for part in listing.stream(store, Listing())]
    assert parts == [[12, 11], [10, 9, 8], [7, 6, 5], [4, 3, 2], [1]]
    assert ids_of(store, descending=False) == list(range(1, 13))
    assert [list(part) for part in listing.stream(store, Listing(teacher="nobody"))] == []


def test_filters_and_what_came_after(store, filled) -> None:
    first, second = filled[1]
    assert ids_of(store, teacher="b") == [12, 11, 10, 9]
    assert ids_of(store, status="refused", descending=False) == [9, 10, 11, 12]
    assert ids_of(store, status="ok", split="calibration") == [3, 2, 1]
    assert ids_of(store, dataset_id=first) == [2, 1]
    assert ids_of(store, dataset_id=second, teacher="a") == [3, 1]
    assert ids_of(store, quality=1.0) == [7, 5, 3, 1]
    assert ids_of(store, learnability=-0.25) == [2, 1]
    assert ids_of(store, reward=0.0) == [3], "of two datasets the newer one's reward counts"
    assert ids_of(store, reward=0.0, dataset_id=first) == [1]
    assert [list(p) for p in listing.stream(store, Listing(), above=9, upto=11)] == [[11, 10]]
    assert (responses.newest_id(store), responses.count_above(store, 9)) == (12, 3)


def test_sorting_puts_what_has_no_score_last_in_both_directions(store, filled) -> None:
    rest = [12, 11, 10, 9, 8, 7]
    assert ids_of(store, sort="learnability") == [1, 2, 3, 4, 5, 6, *rest]
    assert ids_of(store, sort="learnability", descending=False) == [6, 5, 4, 3, 2, 1, *rest]
    assert ids_of(store, sort="quality")[:8] == [7, 5, 3, 1, 8, 6, 4, 2]
    assert ids_of(store, sort="reward")[:3] == [3, 1, 12]
    assert ids_of(store, sort="tokens") == list(range(12, 0, -1))


def test_words_are_found_as_far_as_they_are_indexed(store, filled) -> None:
    assert ids_of(store, words="beta") == []
    assert search.reached(store) == (0, 12)
    search.sync(store)
    assert search.reached(store) == (12, 12)
    assert ids_of(store, words="BETA", descending=False) == [9, 10, 11, 12]
    with pytest.raises(StoreError):
        ids_of(store, words=" ")


def test_a_stream_ends_when_it_is_told_to_and_the_store_stays_usable(store, filled) -> None:
    told = itertools.chain([False], itertools.repeat(True))
    assert len([*listing.stream(store, Listing(), stop=lambda: next(told))]) == 1
    assert [list(p) for p in listing.stream(store, Listing(sort="quality"), stop=lambda: True)] == [[7, 5]]
    assert len(ids_of(store)) == 12


def test_a_long_sort_is_interrupted(sqlite_path, make_for) -> None:
    from sqlalchemy import text

    from storage.store import Store

    with Store.open(sqlite_path) as store:
        make = make_for(store)
        who, (_, ids) = make.generation("a"), make.prompt_set(["synthesis"])
        responses.add(store, None, [make.answer(ids[0], who)])
        with store.write() as connection:
            connection.execute(
                text(
                    "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 30000) INSERT INTO "
                    "responses SELECT i + 1, prompt_id, teacher_id, i, generation_id, status, finish_reason, 1, i, "
                    "0, 0, 1, NULL, 0, '', '', '' FROM responses, n"
                )
            )
        asked = []
        parts = listing.stream(store, Listing(sort="tokens"), stop=lambda: asked.append(1) or True)
        assert [list(part) for part in parts] == [[]]
        assert asked
        assert (
            len(list(itertools.chain.from_iterable(listing.stream(store, Listing(sort="tokens"))))) == 30001
        )


def test_a_card_holds_what_a_line_shows(store, filled) -> None:
    ids, (first, second) = filled
    datasets.exclude(store, second, [ids[0]])
    found = listing.cards(store, [1, 3, 9, 99])
    assert sorted(found) == [1, 3, 9]
    card = found[1]
    assert (card.prompt, card.teacher, card.tokens, card.finish_reason) == ("What is 0?", "a", 3, "stop")
    assert (card.quality, card.learnability, card.reward) == (1.0, -0.1, -0.5)
    assert (card.dataset, card.dataset_id, card.more_datasets, card.excluded) == ("run/d1", second, 1, True)
    assert (card.reward_dataset_id, found[9].reward_dataset_id) == (second, None)
    in_view = listing.cards(store, [1], first)[1]
    assert (in_view.dataset, in_view.reward, in_view.excluded) == ("run/d0", 0.5, False)
    assert (found[9].status, found[9].quality, found[9].dataset, found[9].reward) == (
        "refused",
        None,
        "",
        None,
    )
    assert prompts.splits_of(store, ids[0]) == ["calibration"]


def test_a_reward_is_never_another_datasets_than_the_one_in_view(store, filled) -> None:
    ids, (first, second) = filled
    datasets.add(store, None, second, [DatasetRow(ids[1], 2, reward=0.75)])
    assert listing.cards(store, [2])[2].reward == 0.75
    assert listing.cards(store, [2], first)[2].reward is None, (
        "its row there has none; the other is of another scale"
    )
    assert listing.rewards(store, [1, 2, 3, 9]) == {1: (-0.5, second), 2: (0.75, second), 3: (0.25, second)}
    assert listing.rewards(store, [1, 2, 3, 9], first) == {1: (0.5, first)}
