import pytest

from storage import browse, responses, search
from storage.errors import StoreError
from storage.listing import Listing


@pytest.fixture
def filled(store, make):
    a = make.generation("a")
    _, ids = make.prompt_set(["synthesis"] * 6)
    texts = ["The cat sat", "the DOG sat down", "cat and dog", "", 'say "cat" OR dog*', "Ängström 🙂 naïve"]
    responses.add(store, None, [make.answer(item, a, body) for item, body in zip(ids, texts, strict=True)])
    return ids, a


def hits(store, words, **options):
    return [hit.response_id for hit in search.search(store, words, **options)]


def test_nothing_is_found_before_sync_and_everything_after(store, filled) -> None:
    assert hits(store, "cat") == []
    assert search.sync(store) == 6 + 6  # answers and prompts
    assert search.sync(store) == 0
    assert hits(store, "cat") == [5, 3, 1]


def test_every_word_must_be_there_in_any_case_and_order(store, filled) -> None:
    search.sync(store)
    assert hits(store, "dog CAT") == [5, 3]
    assert hits(store, "sat the") == [2, 1]
    assert hits(store, "ca") == []
    assert hits(store, "naïve") == [6]


@pytest.mark.parametrize("walked", [1, 3000])
def test_pages_newest_first(store, filled, monkeypatch, walked) -> None:
    # On PostgreSQL the newest rows are read one by one; what they lack is found through the index.
    monkeypatch.setattr(search, "_WALKED_ROWS", walked)
    search.sync(store)
    assert hits(store, "cat", limit=2) == [5, 3]
    seen, after = [], None
    while page := hits(store, "cat", limit=1, after=after):
        seen += page
        after = page[-1]
    assert seen == [5, 3, 1]


HOSTILE = ['"', 'cat" OR "dog', "cat*", "text:cat", "NEAR(cat dog)", "-cat", "^cat", "(cat", "cat & !dog"]
HOSTILE += ["'; DROP TABLE responses; --", "\x00cat", "\ud800", "a:b", "<->", "%", "\\"]


def test_words_are_never_operators(store, filled) -> None:
    search.sync(store)
    for words in HOSTILE:
        search.search(store, words)
    assert hits(store, "cat*") == hits(store, "^cat") == hits(store, "\x00cat") == [5, 3, 1]
    assert hits(store, 'dog" OR "cat') == [5]
    assert len(browse.browse(store, Listing())) == 6


def test_an_or_is_a_word(store, filled) -> None:
    search.sync(store)
    assert hits(store, "cat OR sat") == []
    assert hits(store, "cat OR dog") == [5]


@pytest.mark.parametrize("words", ["", "   ", "\n\t", "\x00"])
def test_nothing_to_search_for(store, words) -> None:
    with pytest.raises(StoreError, match="nothing to search for"):
        search.search(store, words)


def test_sync_goes_on_in_steps(store, filled) -> None:
    added = []
    while count := search.sync(store, limit=2):
        added.append(count)
    assert added == [4, 4, 4]


def test_error_rows_are_left_out_until_a_retry_replaces_them(store, make) -> None:
    a = make.generation("a")
    _, ids = make.prompt_set(["synthesis"] * 5)
    responses.add(store, None, [make.answer(item, a, status="error") for item in ids])
    assert [search.sync(store, limit=2) for _ in range(4)] == [2, 2, 1, 0], "prompts alone"
    # Two lie below the mark of the index or above it: each is indexed once.
    responses.add(store, None, [make.answer(item, a, "mended") for item in ids[:4]])
    while search.sync(store, limit=2):
        pass
    assert len(hits(store, "mended")) == 4
    responses.add(store, None, [make.answer(ids[4], a, "mended late")])
    assert search.sync(store) == 1
    assert len(hits(store, "mended")) == 5
    assert hits(store, "late") == [5]


def test_the_snippet_shows_the_words(store, make) -> None:
    a = make.generation("a")
    _, ids = make.prompt_set(["synthesis"])
    responses.add(store, None, [make.answer(ids[0], a, "filler " * 100 + "needle" + " filler" * 100)])
    search.sync(store)
    (hit,) = search.search(store, "needle")
    assert "needle" in hit.snippet
    assert hit.snippet.startswith("…")
    assert hit.snippet.endswith("…")
    assert len(hit.snippet) <= 162


@pytest.mark.parametrize("walked", [1, 3000])
def test_an_answer_is_found_by_the_words_of_its_prompt(store, make, monkeypatch, walked) -> None:
    monkeypatch.setattr(search, "_WALKED_ROWS", walked)
    a, b = make.generation("a"), make.generation("b")
    _, ids = make.prompt_set(["synthesis"] * 4)  # "What is 0?" …
    responses.add(store, None, [make.answer(item, a, f"it is {place}") for place, item in enumerate(ids)])
    responses.add(store, None, [make.answer(ids[2], b, "what a question")])
    search.sync(store)
    assert hits(store, "what") == [5, 4, 3, 2, 1]
    assert hits(store, "WHAT 2") == [5, 3]
    assert hits(store, "2") == [5, 3]
    assert hits(store, "it what") == [], "not half of them here and half of them there"
    found = search.search(store, "what", limit=2)
    assert [(hit.found_in, hit.snippet) for hit in found] == [
        ("answer", "what a question"),
        ("prompt", "What is 3?"),
    ]
    assert hits(store, "what", limit=2, after=4) == [3, 2]
    _, more = make.prompt_set(["synthesis"] * 2, "later", first=7)
    responses.add(store, None, [make.answer(more[0], a, "seven")])
    assert hits(store, "7") == []
    assert search.sync(store) == 3
    assert hits(store, "7") == [6]


def test_a_store_of_the_first_version_is_searched_by_prompts_too(store, make) -> None:
    """Prompts and answers were there, and the answers indexed, before the index of prompts was."""
    a = make.generation("a")
    _, ids = make.prompt_set(["synthesis"] * 2)
    responses.add(store, None, [make.answer(item, a, "yes") for item in ids])
    assert search._response_step(store, 10) == 2
    assert search.sync(store) == 2
    assert hits(store, "what 1") == [2]
