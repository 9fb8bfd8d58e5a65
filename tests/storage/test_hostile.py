"""Text that models really produce goes in, and comes out the same wherever it can."""

import pytest
from sqlalchemy import text as sql

from storage import browse, jobs, prompts, registry, responses, scores, search
from storage.records import Model, Prompt, Score

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
        jobs.event(store, lease, "info", text)
        jobs.record_metrics(store, lease, [(text, text, 1, 1.0)])
        assert jobs.events(store, job.id)[0].message == kept(text)
        make = make_for(store)
        a = make.generation("a")
        _, ids = make.prompt_set(["synthesis"])
        responses.add(store, lease, [make.answer(ids[0], a)])
        scorer = scores.put_scorer(store, "s", {"k": text})
        assert scores.put_scorer(store, "s", {"k": text}) == scorer
        scores.add(store, lease, scorer, [(1, Score(1.0, detail={"why": text}))])
        assert browse.get(store, 1).scores[0].score.detail == {"why": kept(text)}


BROKEN = "CAST(x'ff41' AS TEXT)"
"""Text that is no UTF-8, as a broken file holds it; no driver lets it in."""
READ = "�A"


def test_text_that_is_no_utf8_is_read_with_replacement_characters(sqlite_path, make_for) -> None:
    from storage import listing
    from storage.store import Store

    with Store.open(sqlite_path) as store:
        make = make_for(store)
        a = make.generation("a")
        _, ids = make.prompt_set(["synthesis"] * 9)
        responses.add(store, None, [make.answer(number, a, f"yes {number}") for number in ids])
        job = make.job()
        lease = jobs.claim(store, job.id, "test")
        jobs.event(store, lease, "info", "hello")
        with store.write() as connection:
            for change in (
                f"UPDATE responses SET text = {BROKEN} WHERE id IN (3, 4, 8)",
                f"UPDATE events SET message = {BROKEN}",
                f"UPDATE jobs SET name = {BROKEN}",
                f"""UPDATE prompts SET messages = '[{{"role":"user","content":"' || {BROKEN} || '"}}]' WHERE id = 2""",
                f"UPDATE prompts SET messages = {BROKEN} WHERE id = 5",
            ):
                connection.execute(sql(change))
        with store.read() as connection:
            texts = connection.execute(sql("SELECT text FROM responses ORDER BY id")).scalars().all()
        wanted = [READ if number in (3, 4, 8) else f"yes {ids[number - 1]}" for number in range(1, 10)]
        assert texts == wanted
    # A row at a time, and some at a time, each on a connection that has met no such text yet.
    with Store.open(sqlite_path) as store, store.read() as connection:
        rows = connection.execute(sql("SELECT text FROM responses ORDER BY id"))
        assert [row[0] for row in rows] == wanted
    with Store.open(sqlite_path) as store, store.read() as connection:
        parts = connection.execute(sql("SELECT text FROM responses ORDER BY id")).partitions(2)
        assert [row[0] for part in parts for row in part] == wanted
    with Store.open(sqlite_path) as store:
        assert jobs.events(store, job.id)[0].message == READ
        assert jobs.recent(store)[0].name == READ
        cards = listing.cards(store, range(1, 10))
        assert (cards[3].text, cards[2].prompt, cards[5].prompt) == (READ, READ, READ)
        lines = browse.lines(store, range(1, 10))
        assert [line.prompt.messages[0]["content"] for line in (lines[1], lines[4])] == [READ, READ]
        while search.sync(store):
            pass


def test_a_document_that_is_no_json_is_named(sqlite_path, make_for) -> None:
    from storage.errors import StoreError
    from storage.store import Store

    with Store.open(sqlite_path) as store:
        make_for(store).job()
        with store.write() as connection:
            connection.execute(sql(f"UPDATE jobs SET spec = {BROKEN}"))
        with pytest.raises(StoreError, match="no JSON"):
            jobs.get(store, 1)
