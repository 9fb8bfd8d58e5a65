"""Taking rows out of a dataset and putting them back, and the way back from either."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from persyn_tui.app.base.formatting import count
from storage import datasets, listing
from storage.errors import PersynError, StoreError
from storage.records import Dataset
from storage.store import Store


@dataclass(frozen=True, slots=True)
class _Change:
    """What was done to the rows of some prompts in a dataset."""

    dataset: Dataset
    prompts: Sequence[int]
    out: bool
    """Whether they were taken out; else they were put back."""


@dataclass
class Exclusions:
    """The changes of this session. Its methods are called in a thread, and return what is to be said."""

    done: list[_Change] = field(default_factory=list)
    """Those that can be taken back, newest last."""

    def turn(self, store: Store, dataset: Dataset, name: str, ids: Sequence[int]) -> str:
        """Takes the rows of these responses out of the dataset in view, or puts them back where all of them are out.

        Raises:
            StoreError: the dataset holds none of them.
        """
        found = listing.cards(store, ids, dataset.id).values()
        held = [card for card in found if card.dataset_id == dataset.id]
        if not held:
            these = "this response" if len(ids) == 1 else "any of these responses"
            raise StoreError(f"`{name}` does not hold {these}", "{data.filter:f} chooses another dataset")
        out = not all(card.excluded for card in held)
        # Only what changes, so that undo gives back no more.
        change = _Change(dataset, [card.prompt_id for card in held if card.excluded != out], out)
        said = _make(store, change, name)
        self.done.append(change)
        return f"{said} · {{data.undo:u}} undoes"

    def undo(self, store: Store, name_of: Callable[[Dataset], str]) -> str:
        """Takes the last change back; it stays the last where that fails."""
        last = self.done.pop()
        try:
            return _make(store, _Change(last.dataset, last.prompts, not last.out), name_of(last.dataset))
        except PersynError:
            self.done.append(last)
            raise


def _make(store: Store, change: _Change, name: str) -> str:
    changed = datasets.exclude(store, change.dataset.id, change.prompts, change.out)
    left = datasets.count(store, change.dataset.id)
    rows = f"{count(changed)} row{'' if changed == 1 else 's'}"
    return f"{rows} {'excluded from' if change.out else 'back in'} `{name}`, {count(left)} left"
