"""The datasets of a store as people tell them apart: by name, by number where two share one, by their rewards."""

import time
from collections import Counter
from collections.abc import Collection, Mapping, Sequence

from engine.job import reward_config
from engine.job.reward_config import RewardProvenance
from storage.records import Dataset

LETTERS = "abcdefghijklmnopqrstuvwxyz"


class Datasets:
    """All datasets of a store, the newest first."""

    def __init__(self, found: Sequence[Dataset] = ()) -> None:
        self.all = found
        many = Counter(one.name for one in found)
        self._names = {one.id: f"{one.name} #{one.id}" if many[one.name] > 1 else one.name for one in found}
        recorded = {one.id: reward_config.recorded(one.manifest) for one in reversed(found)}
        self._settings = list(dict.fromkeys(known for known in recorded.values() if known is not None))
        """Oldest first, so that a new one takes no other's letter."""
        self._words = dict(zip(self._settings, reward_config.distinct(self._settings), strict=True))
        self._recorded = recorded

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Datasets) and self.all == other.all

    def get(self, id: int | None) -> Dataset | None:
        return next((one for one in self.all if one.id == id), None)

    def find(self, text: str) -> list[Dataset]:
        """The dataset of this number, or of this name with its number; else those of this name, newest first."""
        exact = [one for one in self.all if text in (str(one.id), f"{one.name} #{one.id}")]
        return exact[:1] or [one for one in self.all if one.name == text]

    def name(self, dataset: Dataset) -> str:
        """Its name; with its number where another has the same name."""
        return self._names[dataset.id]

    @property
    def names(self) -> list[str]:
        """As `name`, of all."""
        return list(self._names.values())

    def number(self, id: int) -> str:
        """`#12` for a dataset whose name is not unique; empty for the others, and for one that came later."""
        return f"#{id}" if self._names.get(id, "").endswith(f" #{id}") else ""

    def about(self, dataset: Dataset, rows: int | None = None) -> str:
        """`#12 (job 3, α 0.8 zscore, 738 rows, 2026-01-02 10:03)`, as far as that is known."""
        return f"#{dataset.id} ({', '.join(self.facts(dataset, rows))})"

    def facts(self, dataset: Dataset, rows: int | None = None) -> list[str]:
        """What tells it from others of the same name; its `rows` are those it was built with unless they are given."""
        manifest = dataset.manifest
        rows = manifest.get("rows") if rows is None else rows
        built = manifest.get("built_at")
        when = "" if built is None else time.strftime("%Y-%m-%d %H:%M", time.localtime(built))
        parts = [
            f"job {manifest['job']}" if "job" in manifest else "",
            self.reward_words(dataset.id),
            "" if rows is None else f"{rows:,} row{'' if rows == 1 else 's'}",
            "" if dataset.complete else "not complete",
            when,
        ]
        return [part for part in parts if part] or ["nothing more is recorded"]

    def which(self, several: Sequence[Dataset], rows: Mapping[int, int] | None = None) -> str:
        """`#12 (…) or #7 (…)`: of several of one name."""
        return " or ".join(self.about(one, (rows or {}).get(one.id)) for one in several)

    # Rewards

    @property
    def scales(self) -> int:
        """How many settings the rewards of these datasets were made with."""
        return len(self._settings)

    def words_of(self, made_with: RewardProvenance | None) -> str:
        """A setting in words that tell it from the others here; empty for None."""
        return "" if made_with is None else self._words.get(made_with, made_with.words)

    def reward_words(self, id: int | None) -> str:
        """What a dataset's rewards were made with; empty where it has none."""
        return self.words_of(self._recorded.get(id or 0))

    def letter(self, id: int | None) -> str:
        """The letter of its setting; empty where all rewards of the store are on one scale."""
        own = self._recorded.get(id or 0)
        if own is None or self.scales < 2:
            return ""
        place = self._settings.index(own)
        return LETTERS[place] if place < len(LETTERS) else "*"

    def legend(self, among: Collection[str] = LETTERS) -> list[str]:
        """`a α 0.4 zscore`, …: what the letters asked for stand for; empty where there are none."""
        named = zip(LETTERS, self._words.values(), strict=False)
        return [f"{letter} {words}" for letter, words in named if letter in among] if self.scales > 1 else []

    def within(self, name: str) -> str:
        """`persyn` of `run/persyn`; where datasets of several runs are called so, with a short name of the run.

        Not where several have the whole name: their numbers tell them apart.
        """
        run, _, last = name.rpartition("/")
        runs = {one.name.rpartition("/")[0] for one in self.all if one.name.rpartition("/")[2] == last}
        if len(runs) < 2 or not run or sum(one.name == name for one in self.all) > 1:
            return last
        told = len({each[:3] for each in runs}) == len(runs)
        short = run if len(run) <= 4 else f"{run[:3]}…" if told else f"…{run[-3:]}"
        return f"{short}/{last}"
