"""`persyn data export`: what is written, and what it refuses to touch."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow.parquet
import pytest

from engine.report import export as exporting
from storage import datasets
from storage.records import Prompt, StoredResponse, TrainingRow
from storage.store import Store

Persyn = Callable[..., Any]
PROVENANCE = {"teacher", "quality", "learnability", "reward", "source", "prompt_id", "response_id"}


def _first(path: Path, filled: Any) -> dict[str, Any]:
    """The row of the fixture's first prompt."""
    rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    assert len(rows) == 2
    return next(row for row in rows if row["prompt_id"] == filled.prompts[0])


def test_messages(persyn: Persyn, filled: Any, tmp_path: Path) -> None:
    ran = persyn("data", "export", "demo/persyn", "--out", "rows.jsonl", "--json")
    assert ran.json["rows"] == 2
    assert ran.json["teachers"] == {"alpha": 2}
    assert ran.json["means"] == {"quality": 0.5, "learnability": -0.5, "reward": 0.25}
    out = tmp_path / "rows.jsonl"
    assert out.stat().st_mode & 0o777 == 0o600
    assert _first(out, filled) == {
        "messages": [
            {"role": "user", "content": "What is 1 + 1?"},
            {"role": "assistant", "content": "The answer is 2."},
        ],
        "teacher": "alpha",
        "quality": 1.0,
        "learnability": -0.5,
        "reward": 0.25,
        "source": "file:0",
        "prompt_id": filled.prompts[0],
        "response_id": filled.answers[0, "alpha"],
    }
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".rows")] == []


def test_sharegpt_and_alpaca(persyn: Persyn, filled: Any, tmp_path: Path) -> None:
    for form in ("sharegpt", "alpaca"):
        assert persyn("data", "export", str(filled.dataset), "-f", form, "-o", f"{form}.jsonl").code == 0
    row = _first(tmp_path / "sharegpt.jsonl", filled)
    assert row["conversations"] == [
        {"from": "human", "value": "What is 1 + 1?"},
        {"from": "gpt", "value": "The answer is 2."},
    ]
    assert set(row) > PROVENANCE
    row = _first(tmp_path / "alpaca.jsonl", filled)
    assert (row["instruction"], row["input"], row["output"]) == ("What is 1 + 1?", "", "The answer is 2.")
    assert set(row) > PROVENANCE


def test_several_turns_become_history() -> None:
    turns = ("system", "S"), ("user", "a"), ("assistant", "b"), ("user", "c")
    prompt = Prompt(tuple({"role": role, "content": text} for role, text in turns), id=1)
    response = StoredResponse(2, 1, 3, 0, "sha", "d", "ok", "stop", 1, 1, 0.0, 0.0)
    row = exporting.record("alpaca", TrainingRow(prompt, response, "t", None, None, None, False))
    assert (row["system"], row["instruction"], row["output"], row["history"]) == ("S", "c", "d", [["a", "b"]])


def test_parquet(persyn: Persyn, filled: Any, tmp_path: Path) -> None:
    assert persyn("data", "export", "demo/persyn", "-f", "parquet", "-o", "rows.parquet").code == 0
    rows = pyarrow.parquet.read_table(tmp_path / "rows.parquet").to_pylist()
    found = {row["prompt_id"]: row for row in rows}
    assert found[filled.prompts[0]]["messages"][1] == {"role": "assistant", "content": "The answer is 2."}
    assert [found[number]["reward"] for number in filled.prompts[:2]] == [0.25, None]


def test_a_huggingface_folder_has_a_card_and_loads(persyn: Persyn, filled: Any, tmp_path: Path) -> None:
    import datasets as hub

    assert persyn("data", "export", "demo/persyn", "-f", "huggingface", "-o", "folder").code == 0
    folder = tmp_path / "folder"
    assert folder.stat().st_mode & 0o777 == 0o700
    assert sorted(str(p.relative_to(folder)) for p in folder.rglob("*") if p.is_file()) == [
        "README.md",
        "data/train-00000.parquet",
    ]
    card = (folder / "README.md").read_text(encoding="utf-8")
    assert "| alpha | 2 | 100.0% |" in card
    assert "| quality | 0.5000 | 2 |" in card
    loaded = hub.load_dataset(str(folder), split="train", cache_dir=str(tmp_path / "cache"))
    assert loaded.num_rows == 2
    assert loaded[0]["teacher"] == "alpha"


def test_large_folders_are_cut_into_files(
    filled: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(exporting, "SHARD_ROWS", 1)
    with Store.open(filled.path) as store:
        written = exporting.export(store, datasets.newest_first(store)[0], "huggingface", tmp_path / "folder")
    parts = sorted((tmp_path / "folder" / "data").iterdir())
    assert [pyarrow.parquet.read_table(part).num_rows for part in parts] == [1, 1]
    assert written.rows == 2


def test_excluded_rows_are_left_out(persyn: Persyn, filled: Any, tmp_path: Path) -> None:
    persyn("data", "exclude", "demo/persyn", str(filled.prompts[1]))
    data = persyn("data", "export", "demo/persyn", "-o", "rows.jsonl", "--json").json
    assert (data["rows"], data["excluded"]) == (1, 1)


def test_of_a_dataset_only_the_rows_that_pass_are_written(
    persyn: Persyn, filled: Any, tmp_path: Path
) -> None:
    ran = persyn("data", "export", "demo/persyn", "-o", "all.jsonl", "--teacher", "alpha", "--json").json
    assert (ran["rows"], ran["filtered"]) == (2, 0)
    asked = ("--min-quality", "0.5", "-f", "huggingface", "-o", "good")
    ran = persyn("data", "export", "demo/persyn", *asked, "--json").json
    assert (ran["rows"], ran["excluded"], ran["filtered"]) == (1, 0, 1)
    (row,) = pyarrow.parquet.read_table(tmp_path / "good" / "data" / "train-00000.parquet").to_pylist()
    assert row["quality"] == 1.0
    card = (tmp_path / "good" / "README.md").read_text(encoding="utf-8")
    assert "only these: quality ≥ 0.5; 1 others are not here" in card
    persyn("data", "exclude", "demo/persyn", str(row["prompt_id"]))
    ran = persyn("data", "export", "demo/persyn", "--min-quality", "0.5", "-o", "none.jsonl")
    assert ran.code == 2
    assert "no row of dataset `demo/persyn` passes: quality ≥ 0.5" in ran.err
    ran = persyn("data", "export", "demo/persyn", "--teacher", "alpa", "-o", "none.jsonl")
    assert "did you mean `alpha`?" in ran.err
    assert not (tmp_path / "none.jsonl").exists()


@pytest.mark.parametrize("form", ["messages", "huggingface"])
@pytest.mark.parametrize("kind", ["file", "folder", "link", "dangling"])
def test_nothing_is_overwritten(kind: str, form: str, persyn: Persyn, filled: Any, tmp_path: Path) -> None:
    target, out = tmp_path / "target", tmp_path / "out"
    if kind == "file":
        out.write_text("mine")
    elif kind == "folder":
        out.mkdir()
    else:
        if kind == "link":
            target.write_text("mine")
        out.symlink_to(target)
    ran = persyn("data", "export", "demo/persyn", "-f", form, "-o", "out")
    assert ran.code == 2
    assert "nothing is overwritten" in ran.err
    assert target.exists() == (kind == "link")
    if kind in ("file", "link"):
        assert out.read_text() == "mine"
    assert not list(tmp_path.glob(".out*"))


def test_an_unwritable_or_missing_place(persyn: Persyn, filled: Any) -> None:
    ran = persyn("data", "export", "demo/persyn", "-o", "no/such/out.jsonl")
    assert ran.code == 2
    assert "no such folder" in ran.err
    assert persyn("data", "export", "demo/persyn", "-f", "xml", "-o", "out").code == 2


def test_an_incomplete_dataset_is_refused(persyn: Persyn, filled: Any) -> None:
    with Store.open(filled.path) as store:
        plan = datasets.newest_first(store)[0].plan_id
        datasets.open_dataset(store, None, "other", plan, "demo/half", {})
    ran = persyn("data", "export", "demo/half", "-o", "out")
    assert ran.code == 2
    assert "not complete" in ran.err


def test_a_reward_is_written_without_the_noise_of_its_last_bits() -> None:
    turns = ({"role": "user", "content": "?"},)
    response = StoredResponse(1, 1, 1, 0, "sha", "!", "ok", "stop", 1, 1, 0.0, 0.0)
    rows = [
        TrainingRow(
            Prompt(turns, id=1), response, "t", quality=1.0, learnability=None, reward=reward, excluded=False
        )
        for reward in (0.1 * 4 - 1e-17, 0.6 - 0.2, None, -1 / 3)
    ]
    written = [exporting.record("messages", row)["reward"] for row in rows]
    assert written == [0.4, 0.4, None, -0.333333333333]
