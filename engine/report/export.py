"""Datasets as files that other trainers read. Streamed; nothing is overwritten; half an export never shows.

Each row keeps where it came from: the teacher, its scores, the prompt's source, the ids of prompt and response.
Texts are written as they are stored. They were made by models: an export is data, never a command.
"""

import json
import shutil
import tempfile
from bisect import bisect_left
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import chain, islice
from pathlib import Path
from typing import Any

from engine.base import atomic_write
from engine.base.errors import ConfigError
from engine.base.sanitize import strip_control
from engine.models.reasoning import target
from storage import datasets, listing
from storage.listing import Listing
from storage.records import Dataset, TrainingRow
from storage.store import Store
from storage.text import clean

FORMATS = ("messages", "sharegpt", "alpaca", "parquet", "huggingface")
"""messages, sharegpt and alpaca are JSONL; huggingface is a folder that `datasets.load_dataset` reads."""

PAGE = 1000
SHARD_ROWS = 100_000
"""Rows of one Parquet file of a `huggingface` export."""

_SPEAKERS = {"system": "system", "user": "human", "assistant": "gpt"}

Progress = Callable[[int, int], None]
"""Called with (rows written, rows in all)."""


@dataclass(frozen=True, slots=True)
class Only:
    """Some of a dataset's rows."""

    ids: Sequence[int]
    """Of responses, ascending; others may be among them."""
    words: str
    """What they have in common, for messages and the card."""

    def has(self, response_id: int) -> bool:
        """Whether this response is among them."""
        place = bisect_left(self.ids, response_id)
        return place < len(self.ids) and self.ids[place] == response_id

    def among(self, ids: Iterable[int]) -> int:
        """How many of these responses are among them."""
        return sum(map(self.has, ids))


def passing(store: Store, dataset: Dataset, wanted: Listing) -> Only | None:
    """The rows that pass these filters, by the dataset's own scores: those that the export has. None for no filter.

    Raises:
        StoreError: the filter's words hold no word.
    """
    named = {"teacher": wanted.teacher, "status": wanted.status, "split": wanted.split, "words": wanted.words}
    parts = [f"{name} {value}" for name, value in named.items() if value]
    scores = ("quality", "learnability", "reward")
    parts += [f"{name} ≥ {least}" for name in scores if (least := getattr(wanted, name)) is not None]
    if not parts:
        return None
    return Only(listing.kept(store, replace(wanted, dataset_id=dataset.id)), ", ".join(parts))


@dataclass
class Written:
    """What an export holds."""

    path: str
    format: str
    rows: int = 0
    excluded: int = 0
    """Rows of the dataset that an operator took out: not exported."""
    filtered: int = 0
    """Other rows of the dataset that do not pass the filter: not exported."""
    teachers: Counter[str] = field(default_factory=Counter)
    sums: dict[str, float] = field(default_factory=dict)
    counts: Counter[str] = field(default_factory=Counter)

    def add(self, row: Mapping[str, Any]) -> None:
        """Counts a row."""
        self.rows += 1
        self.teachers[row["teacher"]] += 1
        for name in ("quality", "learnability", "reward"):
            if row[name] is not None:
                self.counts[name] += 1
                self.sums[name] = self.sums.get(name, 0.0) + row[name]

    @property
    def means(self) -> dict[str, float]:
        """Mean of each score over the rows that have it."""
        return {name: total / self.counts[name] for name, total in self.sums.items()}


def export(
    store: Store,
    dataset: Dataset,
    form: str,
    out: Path,
    progress: Progress = lambda done, total: None,
    only: Only | None = None,
) -> Written:
    """What was written to `out`, which did not exist before: a file (0600), or a folder (0700) for `huggingface`.

    Args:
        dataset: a complete one.
        form: one of `FORMATS`.
        out: file or folder to make, in a folder that exists.
        progress: called about every thousand rows.
        only: which of its rows; None for all.

    Raises:
        ConfigError: `out` exists or is a symbolic link, its folder does not exist, the dataset is not complete or
            has no rows, or none of those that are asked for.
        StoreMissingError: the store's file is no longer the one that was opened.
    """
    store.check_file()
    if form not in FORMATS:
        raise ConfigError(f"--format {form}: unknown", f"use one of: {', '.join(FORMATS)}")
    if not dataset.complete:
        raise ConfigError(f"dataset `{dataset.name}` is not complete yet", "let its run finish, then export")
    atomic_write.refuse(out)
    total = datasets.count(store, dataset.id)
    if total == 0:
        raise ConfigError(f"dataset `{dataset.name}` has no rows", "see `persyn data datasets` for others")
    excluded = datasets.count(store, dataset.id, include_excluded=True) - total
    chosen = total if only is None else only.among(listing.kept(store, Listing(dataset_id=dataset.id)))
    if not chosen:
        words = only.words if only else ""
        raise ConfigError(f"no row of dataset `{dataset.name}` passes: {words}", "filter less")
    written = Written(str(out), form, excluded=excluded, filtered=total - chosen)
    counted = _counted(rows(store, dataset, only), written, chosen, progress)
    try:
        if form == "huggingface":
            _folder(counted, written, dataset, out, only.words if only else "")
        else:
            _file(counted, form, out)
    except OSError as error:
        raise atomic_write.failed(out, error) from error
    return written


def messages(row: TrainingRow) -> list[dict[str, str]]:
    """The conversation of a row, the response as its last turn."""
    asked = [(m["role"], m["content"]) for m in row.prompt.messages]
    # A store that another program has written to may hold what no file can.
    return [
        {"role": role, "content": clean(text)} for role, text in (*asked, ("assistant", row.response.text))
    ]


def _provenance(row: TrainingRow) -> dict[str, Any]:
    return {
        "teacher": row.teacher,
        "quality": row.quality,
        "learnability": row.learnability,
        "reward": None if row.reward is None else float(f"{row.reward:.12g}"),  # 0.4, not 0.39999999999999997
        "source": row.prompt.source,
        "prompt_id": row.prompt.id,
        "response_id": row.response.id,
    }


def record(form: str, row: TrainingRow) -> dict[str, Any]:
    """One row as the format `form` has it; `parquet` and `huggingface` rows are those of `messages`."""
    turns = messages(row)
    if form == "sharegpt":
        talk = [{"from": _SPEAKERS[turn["role"]], "value": turn["content"]} for turn in turns]
        return {"conversations": talk, **_provenance(row)}
    if form == "alpaca":
        system = "\n".join(turn["content"] for turn in turns if turn["role"] == "system")
        spoken = [turn["content"] for turn in turns if turn["role"] != "system"]
        history = [spoken[i : i + 2] for i in range(0, len(spoken) - 2, 2)]
        return {
            "instruction": spoken[-2],
            "input": "",
            "output": spoken[-1],
            "system": system,
            "history": history,
            **_provenance(row),
        }
    return {"messages": turns, **_provenance(row)}


def rows(store: Store, dataset: Dataset, only: Only | None = None) -> Iterator[TrainingRow]:
    """The rows, their responses as a student learns them."""
    after = 0
    while page := datasets.rows(store, dataset.id, after_prompt_id=after, limit=PAGE):
        for row in page:
            if only is not None and not only.has(row.response.id or 0):
                continue
            yield replace(row, response=replace(row.response, text=target(dataset, row)))
        after = page[-1].prompt.id or 0


def _counted(
    rows: Iterator[TrainingRow], written: Written, total: int, progress: Progress
) -> Iterator[TrainingRow]:
    for row in rows:
        written.add(_provenance(row))
        if written.rows % PAGE == 0:
            progress(written.rows, total)
        yield row
    progress(written.rows, total)


def _file(rows: Iterator[TrainingRow], form: str, out: Path) -> None:
    def fill(temporary: Path) -> None:
        if form == "parquet":
            _parquet(rows, temporary)
        else:
            with temporary.open("w", encoding="utf-8") as file:
                file.writelines(json.dumps(record(form, row), ensure_ascii=False) + "\n" for row in rows)

    atomic_write.write(out, fill)


def _folder(rows: Iterator[TrainingRow], written: Written, dataset: Dataset, out: Path, filters: str) -> None:
    temporary = Path(tempfile.mkdtemp(prefix=f".{out.name}.", suffix=".tmp", dir=out.parent))  # 0700
    try:
        (temporary / "data").mkdir(mode=0o700)
        for shard, first in enumerate(rows):
            some = chain([first], islice(rows, SHARD_ROWS - 1))
            _parquet(some, temporary / "data" / f"train-{shard:05d}.parquet")
        (temporary / "README.md").write_text(card(written, dataset, filters), encoding="utf-8")
        for path in temporary.rglob("*"):
            if path.is_file():
                path.chmod(0o600)
                atomic_write.flush(path)
        # An empty folder of our own making is replaced atomically; anything else of that name fails here.
        out.mkdir(mode=0o700)
        temporary.rename(out)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    atomic_write.flush(out.parent)


def _parquet(rows: Iterator[TrainingRow], path: Path) -> None:
    import pyarrow as arrow
    import pyarrow.parquet

    turn = arrow.struct([("role", arrow.string()), ("content", arrow.string())])
    schema = arrow.schema(
        [("messages", arrow.list_(turn)), ("teacher", arrow.string())]
        + [(name, arrow.float64()) for name in ("quality", "learnability", "reward")]
        + [("source", arrow.string()), ("prompt_id", arrow.int64()), ("response_id", arrow.int64())]
    )
    with arrow.parquet.ParquetWriter(path, schema) as writer:
        while page := [record("messages", row) for row in islice(rows, PAGE)]:
            writer.write_table(arrow.Table.from_pylist(page, schema=schema))


def card(written: Written, dataset: Dataset, filters: str = "") -> str:
    """The README of a `huggingface` export: what the rows are, and what is known of them; `filters` says which."""
    manifest = dataset.manifest
    strategy = _cell(manifest.get("strategy", "?"))
    shares = "\n".join(
        f"| {_cell(name)} | {count:,} | {count / written.rows:.1%} |"
        for name, count in written.teachers.most_common()
    )
    means = "\n".join(
        f"| {name} | {value:.4f} | {written.counts[name]:,} |" for name, value in written.means.items()
    )
    left_out = ", ".join(f"{count:,} {_cell(why)}" for why, count in manifest.get("left_out", {}).items())
    reward = ", ".join(f"{_cell(key)} {_cell(value)}" for key, value in manifest.get("reward", {}).items())
    only = f" Of its rows only these: {_cell(filters)}; {written.filtered:,} others are not here."
    return f"""---
configs:
- config_name: default
  data_files:
  - split: train
    path: data/*.parquet
tags: [synthetic, distillation]
---

# {_cell(dataset.name)}

{written.rows:,} prompts, each with the response of one teacher, chosen by the strategy `{strategy}` of PerSyn
(Zhang et al., arXiv 2510.10925). The responses were generated by models; their licences and faults come along.

| teacher | rows | share |
|---|---:|---:|
{shares}

| score | mean | rows that have it |
|---|---:|---:|
{means}

Reward settings: {reward or "not recorded"}. Left out when it was built: {left_out or "nothing"};
{written.excluded:,} rows excluded by hand.{only if filters else ""}

Columns: `messages` (the response is the last turn), `teacher`, `quality` (raw), `learnability` (mean log-likelihood
under the untrained student, nats per token), `reward` (normalized within the prompt; empty where only one teacher
answered), `source` (where the prompt came from), `prompt_id` and `response_id` (rows of the store).
"""


def _cell(text: object) -> str:
    """Text that stays within its place in Markdown."""
    return strip_control(" ".join(str(text).replace("|", "/").replace("`", "'").split()))
