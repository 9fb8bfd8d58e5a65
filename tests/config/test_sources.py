"""Prompt sources: what they yield, and how a bad row is named."""

import json
from pathlib import Path

import pytest

from engine.base.errors import ConfigError
from engine.sources import source_kinds
from engine.sources.kinds.reasoning_gym import ReasoningGymSource
from engine.sources.question import core_question
from engine.sources.tables import FileSource
from storage.records import Prompt


def rows(source):
    return [prompt for _, prompt in source_kinds.read(source)]


def jsonl(tmp_path: Path, *lines: str, **more) -> FileSource:
    path = tmp_path / "prompts.jsonl"
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return FileSource(source="jsonl", path=str(path), **more)


def test_reasoning_gym_carries_what_its_verifier_needs():
    (prompt,) = rows(ReasoningGymSource(source="reasoning_gym", task="gcd", size=1, seed=3))
    entry = prompt.verifier["entry"]
    assert prompt.verifier["task"] == "gcd"
    assert prompt.messages == ({"role": "user", "content": entry["question"]},)
    assert prompt.answer == entry["answer"]
    assert json.loads(json.dumps(entry)) == entry


def test_a_prompt_or_messages_column_is_read(tmp_path: Path):
    conversation = [{"role": "system", "content": "s"}, {"role": "user", "content": "u"}]
    source = jsonl(
        tmp_path, '{"prompt": "one", "answer": 3}', "", json.dumps({"messages": conversation}), verifier=None
    )
    one, two = rows(source)
    assert one.messages == ({"role": "user", "content": "one"},)
    assert one.answer == "3"
    assert list(two.messages) == conversation
    assert two.source == "prompts.jsonl:3"


def test_csv_and_parquet_are_read(tmp_path: Path):
    import pyarrow as pa
    import pyarrow.parquet as pq

    (tmp_path / "p.csv").write_text('q,a\n"two\nlines",4\n', encoding="utf-8")
    (prompt,) = rows(
        FileSource(source="csv", path=str(tmp_path / "p.csv"), fields={"prompt": "q", "answer": "a"})
    )
    assert (prompt.messages[0]["content"], prompt.answer) == ("two\nlines", "4")
    pq.write_table(pa.table({"prompt": ["x", "y"]}), tmp_path / "p.parquet")
    found = rows(FileSource(source="parquet", path=str(tmp_path / "p.parquet")))
    assert [prompt.messages[0]["content"] for prompt in found] == ["x", "y"]


@pytest.mark.parametrize(
    ("line", "part"),
    [
        ('{"prompt": "x"', r"prompts\.jsonl:2: malformed JSONL"),
        ('{"prompt": ' + "[" * 100_000 + "}", r"prompts\.jsonl:2: malformed JSONL"),
        ('{"prompt": "x", "answer": ' + "9" * 5000 + "}", r"prompts\.jsonl:2: malformed JSONL"),
        ("[1]", r"prompts\.jsonl:2: malformed JSONL: expected an object, found a list"),
        ('{"prompt": "  "}', r"prompts\.jsonl:2: no text in `prompt`"),
        ('{"question": "x"}', r"the row has: question"),
        ('{"messages": [{"role": "user"}]}', r"prompts\.jsonl:2: not a message"),
        ('{"messages": [{"role": "assistant", "content": "x"}]}', r"last message is from `assistant`"),
    ],
)
def test_a_bad_row_is_named_by_file_and_line(tmp_path: Path, line: str, part: str):
    with pytest.raises(ConfigError, match=part) as caught:
        rows(jsonl(tmp_path, '{"prompt": "fine"}', line))
    assert caught.value.remedy


def test_a_missing_or_empty_file_is_refused(tmp_path: Path):
    with pytest.raises(ConfigError, match="no such file"):
        source_kinds.check(FileSource(source="jsonl", path=str(tmp_path / "none.jsonl")))
    with pytest.raises(ConfigError, match="has no rows"):
        source_kinds.check(jsonl(tmp_path, ""))


def test_an_unknown_task_gets_the_nearest_one():
    with pytest.raises(ConfigError, match="did you mean `chain_sum`"):
        source_kinds.check(ReasoningGymSource(source="reasoning_gym", task="chain_sums", size=1))
    with pytest.raises(ConfigError, match="reasoning_gym:gcd"):
        source_kinds.check(
            ReasoningGymSource(source="reasoning_gym", task="gcd", size=1, options={"nope": 1})
        )
    nothing_left = {"min_word_len": 30, "max_word_len": 80}
    with pytest.raises(ConfigError, match="reasoning_gym:spell_backward"):
        source_kinds.check(
            ReasoningGymSource(source="reasoning_gym", task="spell_backward", size=1, options=nothing_left)
        )


def test_core_questions_ignore_dress_but_not_meaning():
    def core(text: str) -> str:
        return core_question(Prompt(messages=({"role": "user", "content": text},)))

    assert core("What is 2 + 3?") == core("what is  2 + 3 ")
    assert core("What is 2 + 3?") != core("What is 2 - 3?")
    assert core("Is it 2.5?") != core("Is it 25?")


def test_the_fingerprint_follows_content_not_place(tmp_path: Path):
    first = jsonl(tmp_path, '{"prompt": "x"}')
    (tmp_path / "b").mkdir()
    moved = jsonl(tmp_path / "b", '{"prompt": "x"}')
    assert source_kinds.fingerprint(first) == source_kinds.fingerprint(moved)
    changed = jsonl(tmp_path / "b", '{"prompt": "y"}')
    assert source_kinds.fingerprint(first) != source_kinds.fingerprint(changed)
