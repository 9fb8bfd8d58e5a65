"""Text that models really produce goes in, and comes out the same wherever it can."""

import pytest

from storage import jobs, prompts, registry, responses, scores, search
from storage.records import Model, Prompt, Verdict

NASTY = [
    "lone \ud800 surrogate \udfff",
    "nul \x00 inside",
    "escape \x1b[31m red \x1b[0m and bell \x07",
    "bidi \u202e override \u2066",
    "c1 \x85 \x9b and del \x7f",
    "quotes ' \" ` -- ; DROP TABLE responses; %s %(name)s :name ? $1 {0}",
    "backslashes \\ \\u0000 \\x00 \\ud800",
    "emoji 🙂👩‍👩‍👧 combining e\u0301\u0323 noncharacter \uffff \U0010ffff",
    "crlf \r\n tab \t vertical \v form \f",
    "",
    " ",
    "x" * 1_000_000,
]


def kept(text: str) -> str:
    """What the store promises to give back."""
    return "".join("\ufffd" if char == "\x00" or "\ud800" <= char <= "\udfff" else char for char in text)


def test_responses_keep_hostile_text(store, make) -> None:
    a = make.generation("a")
    _, ids = make.prompt_set(["synthesis"] * len(NASTY))
    rows = [make.answer(identifier, a, body) for identifier, body in zip(ids, NASTY, strict=True)]
    assert responses.add(store, None, rows) == len(NASTY)
    found = responses.of_prompts(store, ids, [a])
    assert [found[identifier][a.teacher_id].text for identifier in ids] == [kept(body) for body in NASTY]
    while search.sync(store):
        pass
    assert len(search.search(store, "surrogate")) == 1
    assert len(search.search(store, "DROP TABLE")) == 1


def test_prompts_keep_hostile_text_and_hash_as_they_are_stored(store) -> None:
    made = prompts.open_set(store, "s", "s")
    items = [
        Prompt([{"role": "user", "content": body}], body, {"kind": body[:50]}, body[:50], split="synthesis")
        for body in NASTY
    ]
    assert prompts.add(store, None, made.id, items, 0) == len(NASTY)
    found = list(prompts.iterate(store, made.id))
    assert [prompt.messages[0]["content"] for prompt in found] == [kept(body) for body in NASTY]
    assert [prompt.answer for prompt in found] == [kept(body) for body in NASTY]
    # What is read back is the same prompt: adding it again adds nothing.
    assert prompts.add(store, None, made.id, found, 0) == 0


@pytest.mark.parametrize("text", NASTY[:-1])
def test_everything_else_takes_hostile_text(sqlite_path, make_for, text) -> None:
    from storage.store import Store

    with Store.open(sqlite_path) as store:
        registry.put(store, Model(text, "teacher", "x", "m", system=text, options={text: [text]}), "i")
        found = registry.get(store, text)
        assert (found.name, found.system, found.options) == (
            kept(text),
            kept(text),
            {kept(text): [kept(text)]},
        )
        job, _ = jobs.submit(store, {"k": text}, "spec", text)
        lease = jobs.claim(store, job.id, text)
        jobs.event(store, lease, "k", text, data={"k": text})
        jobs.record_metrics(store, lease, [(text, text, 1, 1.0)])
        assert jobs.events(store, job.id)[0].message == kept(text)
        make = make_for(store)
        a = make.generation("a")
        _, ids = make.prompt_set(["synthesis"])
        responses.add(store, lease, [make.answer(ids[0], a)])
        scorer = scores.put_scorer(store, "s", {"k": text})
        assert scores.put_scorer(store, "s", {"k": text}) == scorer
        scores.add(store, lease, scorer, [(1, Verdict(1.0, detail={"why": text}))])
        assert responses.get(store, 1).scores[0].verdict.detail == {"why": kept(text)}
