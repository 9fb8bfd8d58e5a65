import pytest

from storage import prompts
from storage.errors import StoreError
from storage.records import Prompt


def test_a_prompt_comes_back_as_it_was_added(store) -> None:
    prompt = Prompt(
        [{"role": "system", "content": "s"}, {"role": "user", "content": "u"}],
        answer="42",
        verifier={"kind": "number", "tolerance": 0.1},
        source="reasoning_gym:gcd",
        split="validation",
    )
    made = prompts.open_set(store, "spec", "name")
    assert prompts.add(store, None, made.id, [prompt], 0) == 1
    ((ordinal, found),) = prompts.page(store, made.id)
    assert ordinal == 0
    assert (found.messages, found.answer, found.verifier) == (prompt.messages, "42", prompt.verifier)
    assert (found.source, found.split) == (prompt.source, "validation")
    assert prompts.get(store, [found.id])[found.id].messages == prompt.messages


def test_a_set_is_made_once_and_finished(store, make) -> None:
    made = prompts.open_set(store, "spec", "name")
    assert prompts.open_set(store, "spec", "other name") == made
    assert (made.complete, made.counts) == (False, {})
    prompts.finish_set(store, None, made.id, {"kept": 3})
    again = prompts.find_set(store, "spec")
    assert (again.complete, again.counts) == (True, {"kept": 3})
    assert prompts.find_set(store, "unknown") is None


def test_two_sets_share_the_prompts_they_have_in_common(store, make) -> None:
    _, first = make.prompt_set(["synthesis"] * 4, "one")
    _, second = make.prompt_set(["calibration"] * 4, "two", first=2)
    assert first[2:] == second[:2]
    assert len({*first, *second}) == 6


def test_the_same_messages_with_another_answer_or_verifier_are_another_prompt(store) -> None:
    messages = [{"role": "user", "content": "u"}]
    variants = [
        Prompt(messages, "1", split="synthesis"),
        Prompt(messages, "2", split="synthesis"),
        Prompt(messages, "1", {"kind": "k"}, split="synthesis"),
        Prompt(messages, "1", source="elsewhere", split="evaluation"),
    ]
    assert len({prompts.prompt_sha(prompt) for prompt in variants}) == 3


def test_reading_a_source_again_after_a_kill_changes_nothing(store, make) -> None:
    made = prompts.open_set(store, "spec", "name")
    items = [make.prompt(number) for number in range(10)]
    assert prompts.add(store, None, made.id, items[:6], 0) == 6
    before = prompts.page(store, made.id)
    assert prompts.add(store, None, made.id, items, 0) == 4
    after = prompts.page(store, made.id)
    assert after[:6] == before
    assert [ordinal for ordinal, _ in after] == [*range(10)]


def test_a_prompt_twice_in_one_batch_is_one_member(store, make) -> None:
    made = prompts.open_set(store, "spec", "name")
    assert prompts.add(store, None, made.id, [make.prompt(1), make.prompt(1), make.prompt(2)], 0) == 2
    assert [ordinal for ordinal, _ in prompts.page(store, made.id)] == [0, 2]


def test_a_source_that_gives_other_prompts_on_resume_is_reported(store, make) -> None:
    made = prompts.open_set(store, "spec", "name")
    prompts.add(store, None, made.id, [make.prompt(1)], 0)
    with pytest.raises(StoreError, match="already holds other prompts"):
        prompts.add(store, None, made.id, [make.prompt(2)], 0)
    assert prompts.counts(store, made.id) == {"synthesis": 1}


def test_a_prompt_needs_a_split(store) -> None:
    made = prompts.open_set(store, "spec", "name")
    with pytest.raises(StoreError, match="without a split"):
        prompts.add(store, None, made.id, [Prompt([{"role": "user", "content": "u"}])], 0)


def test_pages_follow_the_ordinals_across_splits(store, make) -> None:
    splits = ["calibration", "synthesis", "validation", "synthesis", "calibration", "evaluation"] * 5
    set_id, ids = make.prompt_set(splits)
    wanted = [
        (place, ids[place]) for place, split in enumerate(splits) if split in ("calibration", "synthesis")
    ]
    seen, after = [], -1
    while page := prompts.page(store, set_id, ("synthesis", "calibration"), after, 4):
        assert len(page) <= 4
        seen += [(ordinal, prompt.id) for ordinal, prompt in page]
        after = page[-1][0]
    assert seen == wanted
    iterated = prompts.iterate(store, set_id, ("calibration", "synthesis"), size=3)
    assert [prompt.id for prompt in iterated] == [identifier for _, identifier in wanted]
    assert [prompt.split for prompt in prompts.iterate(store, set_id, size=7)] == splits
    assert prompts.counts(store, set_id) == {
        "calibration": 10,
        "synthesis": 10,
        "validation": 5,
        "evaluation": 5,
    }
