"""Stage `prompts`: read the sources, drop duplicates, share the prompts out over the splits, store them.

Two passes over the sources, so that nothing but one 64-bit hash per prompt is in memory. A prompt's split
depends on the hash of its core question: adding prompts to a file moves few of the others, and the same
question can never stand in two splits.
"""

import hashlib
import time
from collections import Counter
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from engine.base.errors import ConfigError
from engine.config.stages import SplitConfig
from engine.job.batch_writer import LOCAL_S, LOOK_S, BatchWriter
from engine.job.context import RunContext
from engine.registry import context_limits
from engine.sources import source_kinds
from engine.sources.question import core_question
from storage import prompts as stored
from storage.records import Prompt, Split

READING = "reading the sources"


def run(context: RunContext) -> None:
    """Fills the run's prompt set, or finds it complete."""
    context.progress.doing(READING)
    with context.control.at_once():  # hashes whole files
        sha = context.identity.prompt_set_sha
    found = stored.open_set(context.store, sha, context.run.name)
    context.prompt_set = found.id
    if not found.complete:
        chosen, bound = _share_out(context)
        counts = _store(context, chosen, chosen.count + bound)
        stored.finish_set(context.store, context.lease, found.id, counts)
    _tell(context)


class Thresholds:
    """Which split each core question goes to, as thresholds on its hash.

    Args:
        hashes: unique, one per prompt that no source has bound to a split.
        split: how many prompts go where.

    Raises:
        ConfigError: there are too few prompts.
    """

    def __init__(self, hashes: NDArray[np.uint64], split: SplitConfig) -> None:
        ordered = np.sort(hashes)
        wanted: list[tuple[Split, int | None]] = [
            ("evaluation", split.evaluation),
            ("validation", split.validation),
            ("calibration", split.calibration),
            ("synthesis", split.synthesis),
        ]
        self._limits: list[tuple[Split, int]] = []
        start = 0
        for name, count in wanted:
            size = len(ordered) - start if count is None else count
            if start + size > len(ordered):
                raise ConfigError(
                    f"split.{name}: {size:,} prompts are asked for and {max(0, len(ordered) - start):,} are left "
                    f"of {len(ordered):,} (duplicates dropped)",
                    "lower the split, or add prompts (a reasoning_gym source: raise `size`)",
                )
            start += size
            # Hashes are unique, so everything up to the last chosen one belongs to this split.
            self._limits.append((name, int(ordered[start - 1]) if start else -1))
        self._count = start

    @property
    def count(self) -> int:
        """How many prompts they share out."""
        return self._count

    def split_of(self, value: int) -> Split | None:
        """The split of a hash; None beyond `synthesis: N`."""
        for name, last in self._limits:
            if value <= last:
                return name
        return None


def _share_out(context: RunContext) -> tuple[Thresholds, int]:
    """First pass: counts, checks lengths, and fixes the thresholds; how many prompts their sources have bound."""
    run, seen, free = context.run, set[int](), list[int]()
    forced: Counter[str] = Counter()
    checker = context_limits.Checker(context.run)
    counted = _Counted(context, _expected(context), "prompts read")
    for split, where, prompt in _read(context):
        counted.one()
        checker.check(where, prompt)
        value = _hash(prompt, run.split.seed)
        if value in seen:
            continue
        seen.add(value)
        if split is None:
            free.append(value)
        else:
            forced[split] += 1
    if not seen:
        raise ConfigError("prompts: the sources have no prompts at all", "check `prompts` in the run file")
    calibration = forced["calibration"] + run.split.calibration
    if context.calibration.needed and not calibration:
        raise ConfigError(
            "split.calibration is 0 and no source has `split: calibration`", "set it to 100 or more"
        )
    return Thresholds(np.array(free, dtype=np.uint64), run.split), forced.total()


def _store(context: RunContext, chosen: Thresholds, total: int) -> dict[str, int]:
    """Second pass: stores each prompt once, with its split."""
    seen = set[int]()
    counts: Counter[str] = Counter()
    context.progress.expect(total, unit="prompts stored")
    ordinal = 0

    def commit(batch: list[Prompt]) -> None:
        nonlocal ordinal
        stored.add(context.store, context.lease, context.prompt_set, batch, ordinal)
        ordinal += len(batch)
        context.progress.advance(len(batch))
        context.progress.doing(READING)

    writer = BatchWriter[Prompt](commit)
    for split, _, prompt in _read(context):
        value = _hash(prompt, context.run.split.seed)
        if value in seen:
            counts["duplicates"] += 1
            continue
        seen.add(value)
        place = split or chosen.split_of(value)
        if place is None:
            continue
        counts[place] += 1
        row = Prompt(prompt.messages, prompt.answer, prompt.verifier, prompt.source, split=place)
        writer.add(row, LOCAL_S)
        writer.flush_if_due()
    writer.flush()
    return dict(counts)


class _Counted:
    """Counts prompts as the stage's progress, not each by itself.

    Args:
        context: the job's.
        total: how many come; None where nobody knows, and as many as have come are shown.
        unit: what they are, in the plural.
    """

    def __init__(self, context: RunContext, total: int | None, unit: str) -> None:
        self._progress, self._total, self._unit = context.progress, total, unit
        self._count = self._shown = 0
        self._at = time.monotonic()
        self._progress.expect(total or 0, unit=unit)

    def one(self) -> None:
        """Counts one more."""
        self._count += 1
        if time.monotonic() - self._at < LOOK_S:
            return
        self._at = time.monotonic()
        if self._total is None:
            self._progress.expect(self._count, done=self._count, unit=self._unit)
        self._progress.advance(0 if self._total is None else self._count - self._shown)
        self._shown = self._count
        self._progress.doing(READING)  # the next one may take long


def _expected(context: RunContext) -> int | None:
    """How many prompts the sources have, duplicates included; None where one does not say."""
    try:
        return sum(source_kinds.count(source)[0] for source in context.run.prompts)
    except ConfigError:
        return None


def _read(context: RunContext) -> Iterator[tuple[Split | None, str, Prompt]]:
    # Sources bound to evaluation come first: a question they share with another source stays theirs.
    for source in sorted(context.run.prompts, key=lambda source: source.split != "evaluation"):
        rows = source_kinds.read(source)
        while True:
            # A source may take minutes for one prompt, as a data set that is fetched does.
            with context.control.at_once():
                found = next(rows, None)
            if found is None:
                break
            yield source.split, *found


def _hash(prompt: Prompt, seed: int) -> int:
    text = f"{seed}\x1f{core_question(prompt)}"
    return int.from_bytes(hashlib.blake2b(text.encode("utf-8", "replace"), digest_size=8).digest(), "big")


def _tell(context: RunContext) -> None:
    counts = stored.counts(context.store, context.prompt_set)
    order = ("calibration", "validation", "synthesis", "evaluation")
    parts = [f"{counts.get(name, 0):,} {name}" for name in order]
    total = sum(counts.get(name, 0) for name in order)
    context.progress.expect(total, done=total)
    context.progress.say("prompts: " + ", ".join(parts))
