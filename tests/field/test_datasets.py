"""Data sets of the hub: what a folder becomes, counted as it is read; and PerSyn's own exports as prompts again."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow
import pyarrow.parquet
import pytest

from engine.report import export
from engine.sources import imported
from storage.records import Prompt, StoredResponse, TrainingRow
from tests.field.reading import jsonl, prompts, refusal, source

ROWS = [{"prompt": f"what {n}?", "answer": str(n), "picture": b"\xff\x00"} for n in range(4)]


def parquet(path: Path, rows: list[dict[str, Any]] = ROWS) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), path)


def clone(folder: Path) -> None:
    card = "---\nconfigs:\n- config_name: default\n  data_files:\n  - split: train\n    path: data/train-*\n---\n"
    parquet(folder / "data" / "train-00000-of-00002.parquet", ROWS[:1])
    parquet(folder / "data" / "train-00001-of-00002.parquet", ROWS[1:])
    (folder / "README.md").write_text(card)


def configurations(folder: Path) -> None:
    names = ("main", "m"), ("other", "o")
    card = "".join(f"- config_name: {name}\n  data_files: {place}/*.parquet\n" for name, place in names)
    card = f"---\nconfigs:\n{card}---\n"
    parquet(folder / "m" / "train.parquet")
    parquet(folder / "o" / "train.parquet")
    (folder / "README.md").write_text(card)


def lines(folder: Path) -> None:
    folder.mkdir()
    (folder / "train.jsonl").write_bytes(jsonl(*({**row, "picture": None} for row in ROWS)))
    (folder / "test.jsonl").write_bytes(jsonl({"prompt": "other?", "answer": "1"}))


def pointers(folder: Path) -> None:
    folder.mkdir()
    (folder / "train.parquet").write_text(
        "version https://git-lfs.github.com/spec/v1\noid sha256:4d7a2146\nsize 9\n"
    )


def saved(folder: Path) -> None:
    import datasets

    datasets.Dataset.from_list(ROWS).save_to_disk(folder)


def saved_splits(folder: Path) -> None:
    import datasets

    datasets.DatasetDict({"train": datasets.Dataset.from_list(ROWS)}).save_to_disk(folder)


@pytest.mark.parametrize(
    ("make", "settings"),
    [(clone, {}), (configurations, {"name": "main"}), (lines, {}), (saved, {}), (saved_splits, {})],
    ids=["d93 clone", "d94 configuration", "lines", "d90 saved", "d91 saved splits"],
)
def test_a_folder_is_read_and_counted(
    tmp_path: Path, make: Callable[[Path], None], settings: dict[str, Any]
) -> None:
    make(tmp_path / "set")
    found = prompts(source(tmp_path / "set", "huggingface", verifier="math", **settings))
    assert [prompt.answer for prompt in found] == ["0", "1", "2", "3"]
    assert found[3].source == "set#3"


@pytest.mark.parametrize(
    ("make", "settings", "said"),
    [
        (configurations, {}, ("has several configurations: main, other", "set `name: main`")),
        (configurations, {"name": "mian"}, ("no configuration `mian`, but main, other", "set `name: main`")),
        (clone, {"subset": "test"}, ("has no split `test`, but train", "set `subset: train`")),
        (saved_splits, {"subset": "test"}, ("has no split `test`, but train", "set `subset: train`")),
        (pointers, {}, ("train.parquet: is a pointer of Git LFS", "git lfs pull")),
        (
            lambda folder: folder.write_bytes(jsonl(ROWS[0] | {"picture": 0})),
            {},
            ("is a file, not a dataset",),
        ),
    ],
    ids=["d94 two", "mistyped", "split", "saved split", "pointers", "d98 file"],
)
def test_a_folder_that_cannot_be_read_says_what_it_has(
    tmp_path: Path, make: Callable[[Path], None], settings: dict[str, Any], said: tuple[str, ...]
) -> None:
    make(tmp_path / "set")
    words = refusal(source(tmp_path / "set", "huggingface", **settings))
    assert all(part in words for part in said)


TURNS = [("system", "s"), ("user", "u"), ("assistant", "a"), ("user", "v")]
FIELDS = {
    "messages": {},
    "sharegpt": {"messages": "conversations"},
    "alpaca": {"prompt": "instruction", "answer": "output"},
}


def exported(form: str) -> bytes:
    turns = tuple({"role": role, "content": text} for role, text in TURNS)
    response = StoredResponse(2, 1, 1, 0, "", "said", "ok", "stop", 1, 1, 0.0, 0.0)
    row = TrainingRow(Prompt(turns, id=1, source="x:1"), response, "big", 1.0, -0.5, 0.25, False)
    return jsonl(export.record(form, row))


@pytest.mark.parametrize("form", FIELDS)
def test_r01_an_export_is_prompts_again(tmp_path: Path, form: str) -> None:
    (tmp_path / "out.jsonl").write_bytes(exported(form))
    (prompt,) = prompts(source(tmp_path / "out.jsonl", "jsonl", verifier="text", fields=FIELDS[form]))
    assert [(turn["role"], turn["content"]) for turn in prompt.messages] == TURNS
    assert prompt.answer == "said"


@pytest.mark.parametrize("form", FIELDS)
def test_r01_an_export_is_imported_responses_again(tmp_path: Path, form: str) -> None:
    (tmp_path / "out.jsonl").write_bytes(exported(form))
    fields = {"model": "teacher", **FIELDS[form]} | ({"response": "output"} if form == "alpaca" else {})
    fields.pop("answer", None)
    given = source(tmp_path / "out.jsonl", "imported", fields=fields)
    (answer,) = imported.answers(given)  # type: ignore[arg-type]
    assert (answer.model, answer.text, answer.reward) == ("big", "said", 0.25)
    assert [(turn["role"], turn["content"]) for turn in answer.prompt.messages] == TURNS
    assert answer.prompt.answer is None
