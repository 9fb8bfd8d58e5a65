"""What a store holds, to read: jobs, models, responses and datasets as records, and datasets for other trainers."""

from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Self

from engine.base.errors import ConfigError
from engine.base.suggest import hint
from engine.report import export
from storage import browse, datasets, jobs, registry, routing
from storage.job_records import Job
from storage.listing import Listing
from storage.records import Dataset, Model, ResponseContext, ResponseLine, Status, TrainingRow
from storage.store import Store

if TYPE_CHECKING:
    import datasets as hf_datasets

PAGE = 500


def open_store(location: str | Path | None = None) -> "StoreReader":
    """The store at a path or PostgreSQL URL, to read; None: `PERSYN_STORE`, else the platform's data folder.

    Raises:
        StoreMissingError: there is no store here.
        StoreError: it is of another version, or no store of this program.
    """
    return StoreReader(Store.open(location, create=False, read_only=True))


class StoreReader:
    """An open store of which nothing is changed. Close it, or use it in a `with` block."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def jobs(self) -> list[Job]:
        """Every job, newest first."""
        found: list[Job] = []
        while page := jobs.recent(self._store, before_id=found[-1].id if found else None, limit=PAGE):
            found += page
        return found

    def models(self) -> list[Model]:
        """The registered teachers, students, reward models and judges."""
        return registry.models(self._store)

    def responses(
        self, *, teacher: str | None = None, status: Status | None = None, strategy: str | None = None
    ) -> Iterator[ResponseLine]:
        """The stored responses that pass every filter, by id; read in pages, so a store of any size fits in memory.

        Args:
            teacher: name of the teacher.
            status: "ok", "truncated", "empty", "refused", "error" or "too_long".
            strategy: only those in the newest dataset of this strategy.

        Raises:
            ConfigError: there is no such teacher, or no such dataset.
        """
        names = [model.name for model in registry.models(self._store, "teacher", archived=True)]
        if teacher is not None and teacher not in names:
            known = ", ".join(names) or "none yet"
            raise ConfigError(
                f"{self._store.name} holds no teacher `{teacher}`{hint(teacher, names)}", f"teachers: {known}"
            )
        dataset = None if strategy is None else self._newest(strategy).id
        listing = Listing(teacher, status, dataset, descending=False)
        after = 0
        while page := browse.browse(self._store, listing, after, PAGE):
            yield from page
            after = page[-1].response.id

    def response(self, number: int) -> ResponseContext | None:
        """One response with its prompt, scores, assignments and datasets; None where there is no such number."""
        return browse.get(self._store, number)

    def datasets(self) -> list[Dataset]:
        """Every dataset, newest first."""
        return datasets.newest_first(self._store)

    def rows(self, dataset: str | int, *, excluded: bool = False) -> Iterator[TrainingRow]:
        """The training rows of a dataset, by prompt.

        Args:
            dataset: the number of a dataset, or a strategy, of which the newest one is taken.
            excluded: whether rows that an operator took out come too.

        Raises:
            ConfigError: there is no such dataset.
        """
        number, after = self._newest(dataset).id, 0
        while page := datasets.rows(self._store, number, after, PAGE, include_excluded=excluded):
            yield from page
            after = page[-1].prompt.id or 0

    def dataset(self, dataset: str | int) -> "hf_datasets.Dataset":
        """A dataset as a `datasets.Dataset` of conversations, with scores and provenance beside each.

        The columns of `persyn data export --format messages`: `messages` (a list of {role, content}, the response
        last), on which TRL, Axolotl and Unsloth train as it is, `teacher`, `quality`, `learnability` (nats per token),
        `reward`, `source`, `prompt_id` and `response_id`. It is made in memory.

        Args:
            dataset: see `rows`.

        Raises:
            ConfigError: there is no such dataset.
        """
        import datasets as hf  # takes a second, and not every reader needs it

        found = self._newest(dataset)
        return hf.Dataset.from_list(
            [export.record("messages", row) for row in export.rows(self._store, found)]
        )

    def router(self) -> Path:
        """The folder of the router trained last, for `Router.load`.

        Raises:
            ConfigError: no router was trained.
        """
        found = routing.newest_router(self._store)
        if found is None:
            raise ConfigError(f"{self._store.name} holds no router", "run with the strategy `persyn` first")
        return self._store.folder / found.path

    def close(self) -> None:
        """Closes every connection."""
        self._store.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _newest(self, dataset: str | int) -> Dataset:
        found = datasets.newest_first(self._store)
        for one in found:
            if dataset in (one.id, one.manifest.get("strategy"), one.name):
                return one
        known = ", ".join(f"{one.id} ({one.name})" for one in found[:10]) or "none yet"
        raise ConfigError(f"{self._store.name} holds no dataset `{dataset}`", f"datasets: {known}")
