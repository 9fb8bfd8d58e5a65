"""Rows (messages, response) become token ids on disk; only response positions carry loss.

The texts are read once, as a stream; what stays is one int32 per token in a memory-mapped file and two
integers per row, so 200,000 rows never are in memory at once. Labels are *positions* (everything from the
prompt/response boundary on), never "ids that are not the padding id": a tokenizer whose pad token is its
EOS token therefore keeps the EOS label, and the student learns to stop.
"""

import hashlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from engine.base.errors import TrainingError
from engine.models.chat_template import encode, end_of_turn_ids
from storage.records import Messages

Overlong = Literal["drop", "truncate", "raise"]
"""What happens to a row longer than `max_length`: left out; cut at the end of the response (it then has no
end-of-turn label); or an error. A row whose prompt alone fills `max_length` is left out by `truncate` too."""

Row = tuple[Messages, str]
"""A prompt and the response to it."""


@dataclass(frozen=True, slots=True)
class Rows:
    """What a student learns from; both are read once, in order."""

    training: Iterable[Row]
    held_out: Iterable[Row] | None = None
    """What its loss is measured on, without being trained on."""


@dataclass(frozen=True, slots=True)
class Example:
    """One tokenised row."""

    ids: NDArray[np.int32]
    """Prompt, response and end-of-turn, shape (tokens,)."""
    boundary: int
    """Number of prompt tokens; `ids[boundary:]` are predicted with loss."""


@dataclass(frozen=True, slots=True)
class Counts:
    """What became of the rows."""

    rows: int
    """Rows read."""
    kept: int
    dropped: int
    """Too long, left out."""
    truncated: int
    """Too long, cut; part of `kept`."""
    empty: int
    """No response token; left out."""
    tokens: int
    """Tokens of the kept rows, prompt included."""
    target_tokens: int
    """Tokens with loss."""


@dataclass(frozen=True, slots=True)
class Examples:
    """Tokenised rows in a memory-mapped file."""

    tokens: "np.memmap[Any, np.dtype[np.int32]]"
    """All rows one after the other, shape (counts.tokens,)."""
    offsets: NDArray[np.int64]
    """Row i is `tokens[offsets[i]:offsets[i + 1]]`, shape (N + 1,)."""
    boundaries: NDArray[np.int32]
    """Prompt tokens of each row, shape (N,)."""
    counts: Counts
    sha256: str
    """Of the ids and boundaries; a checkpoint belongs to exactly one such value."""
    eos_appended: bool
    """The chat template writes no end-of-turn after an assistant turn, so EOS was put there."""

    def __len__(self) -> int:
        return len(self.boundaries)

    def __reduce__(self) -> tuple[Any, ...]:
        """What another process is sent: where the ids lie, which it maps by itself, and all else."""
        rest = (self.offsets, self.boundaries, self.counts, self.sha256, self.eos_appended)
        return _mapped, (self.tokens.filename, *rest)

    def __getitem__(self, row: int) -> Example:
        return Example(self.tokens[self.offsets[row] : self.offsets[row + 1]], int(self.boundaries[row]))

    @property
    def lengths(self) -> NDArray[np.int64]:
        """Tokens of each row, prompt included, shape (N,)."""
        return np.diff(self.offsets)

    @property
    def targets(self) -> NDArray[np.int64]:
        """Tokens with loss of each row, shape (N,)."""
        return self.lengths - self.boundaries


@dataclass(frozen=True, slots=True)
class Tokenised:
    """`Rows` as token ids on disk."""

    training: Examples
    held_out: Examples | None = None


def tokenise(
    tokenizer: Any,
    rows: Iterable[Row],
    folder: Path,
    max_length: int,
    overlong: Overlong = "drop",
) -> Examples:
    """Return the rows as token ids, written to `folder/tokens.int32` while they are read.

    Args:
        tokenizer: with a chat template.
        rows: (messages, response) pairs; read once, in order.
        folder: created when missing; an older file in it is replaced.
        max_length: most tokens of a row, prompt and end-of-turn included.
        overlong: see `Overlong`.

    Raises:
        TrainingError: no row is left, or a row is too long and `overlong` is `raise`.
        TemplateError: the chat template breaks the prompt/response boundary.
    """
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "tokens.int32"
    digest = hashlib.sha256()
    lengths: list[int] = []
    boundaries: list[int] = []
    read = dropped = truncated = empty = 0
    eos_appended = tokenizer.eos_token_id is not None and not end_of_turn_ids(tokenizer)

    with path.open("wb") as file:
        for messages, response in rows:
            read += 1
            encoded = encode(tokenizer, messages, response)
            ids = [*encoded.ids, tokenizer.eos_token_id] if eos_appended else list(encoded.ids)
            if len(encoded.ids) <= encoded.boundary:
                empty += 1
                continue
            if len(ids) > max_length:
                if overlong == "raise":
                    raise TrainingError(
                        f"row {read} has {len(ids)} tokens, more than max_length {max_length}",
                        "raise distill.max_length, or set distill.overlong to drop or truncate",
                    )
                if overlong == "drop" or encoded.boundary >= max_length:
                    dropped += 1
                    continue
                truncated += 1
                ids = ids[:max_length]
            block = np.asarray(ids, dtype="<i4").tobytes()
            digest.update(block)
            file.write(block)
            lengths.append(len(ids))
            # The first token of a sequence has no predecessor to be predicted from.
            boundaries.append(max(encoded.boundary, 1))

    if not lengths:
        raise TrainingError(
            f"no row to train on: {read} read, {dropped} longer than {max_length} tokens, {empty} empty",
            "raise distill.max_length, or check the dataset's filters",
        )
    offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
    bounds = np.asarray(boundaries, dtype=np.int32)
    digest.update(offsets.tobytes() + bounds.tobytes())
    counts = Counts(
        rows=read,
        kept=len(lengths),
        dropped=dropped,
        truncated=truncated,
        empty=empty,
        tokens=int(offsets[-1]),
        target_tokens=int(offsets[-1] - bounds.sum()),
    )
    return _mapped(path, offsets, bounds, counts, digest.hexdigest(), eos_appended)


def _mapped(path: Path, *rest: Any) -> Examples:
    return Examples(np.memmap(path, dtype="<i4", mode="r"), *rest)


def tokenise_rows(
    tokenizer: Any,
    rows: Rows,
    folder: Path,
    max_length: int,
    overlong: Overlong,
    notice: Callable[[str], None],
) -> Tokenised:
    """Return rows to train on and rows held out as token ids, under `folder`; what was left out is told to `notice`.

    Arguments and errors as for `tokenise`.
    """
    training = tokenise(tokenizer, rows.training, folder / "rows", max_length, overlong)
    held_out = None
    if rows.held_out is not None:
        held_out = tokenise(tokenizer, rows.held_out, folder / "eval_rows", max_length, overlong)
    counts = training.counts
    if counts.dropped:
        notice(f"{counts.dropped} of {counts.rows} rows left out: over {max_length} tokens")
    if counts.truncated:
        notice(f"{counts.truncated} of {counts.rows} rows were cut to {max_length} tokens")
    if counts.empty:
        notice(f"{counts.empty} of {counts.rows} rows have an empty response: left out")
    if training.eos_appended:
        notice("the chat template ends no assistant turn: EOS was put after each response")
    return Tokenised(training, held_out)


def mask_preview(tokenizer: Any, example: Example) -> list[tuple[str, bool]]:
    """Return each token's text and whether it carries loss, for a person to look at."""
    return [
        (str(tokenizer.decode([int(token)])), index >= example.boundary)
        for index, token in enumerate(example.ids)
    ]
