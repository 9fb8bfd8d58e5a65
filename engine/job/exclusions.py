"""Which prompts an operator took out of a dataset, held still for as long as a job trains on it."""

from collections.abc import Sequence

from storage import datasets
from storage.store import Store


class Exclusions:
    """Excluded prompts by dataset, read once.

    A row excluded while the job runs counts in the next one, so that what is trained and what its hash says stay
    the same.
    """

    def __init__(self, store: Store) -> None:
        self._store = store
        self._known: dict[str, Sequence[int]] = {}

    def of(self, dataset_sha: str) -> Sequence[int]:
        """Ids of the prompts excluded when the dataset was first found complete, in order; empty before."""
        if dataset_sha not in self._known:
            dataset = datasets.find(self._store, dataset_sha)
            if dataset is None or not dataset.complete:
                return ()
            self._known[dataset_sha] = datasets.excluded(self._store, dataset.id)
        return self._known[dataset_sha]

    def forget(self) -> None:
        """Reads anew: for who looks at a store in which an operator goes on excluding."""
        self._known.clear()
