"""Which adapter and which evaluation a strategy has, also after an operator has changed its dataset since."""

from dataclasses import dataclass

from engine.job.context import RunContext
from storage import datasets, results
from storage.records import Adapter, Evaluation

TRAINING = "training"
"""The key in an adapter's metrics of the hash that it shares with those trained on other rows of its dataset."""


@dataclass(frozen=True, slots=True)
class Trained:
    """A strategy's adapters."""

    now: Adapter | None
    """Of the dataset as it is now; perhaps incomplete."""
    before: Adapter | None
    """The newest complete one of the same dataset with other rows excluded, while there is no complete one now."""

    @property
    def whole(self) -> Adapter | None:
        """The complete one to show."""
        return self.now if self.now is not None and self.now.complete else self.before

    @property
    def changed(self) -> bool:
        """Whether the dataset has changed since `whole` was trained."""
        return self.before is not None


def trained(context: RunContext, strategy: str) -> Trained:
    """The adapters of a strategy."""
    now = results.adapter(context.store, context.adapter_sha(strategy))
    if now is not None and now.complete:
        return Trained(now, None)
    dataset = datasets.find(context.store, context.identity.dataset_sha(strategy))
    if dataset is None:
        return Trained(now, None)
    shared = context.identity.adapter_sha(strategy)
    others = [
        adapter
        for adapter in results.adapters(context.store, dataset.id)
        if adapter.complete and shared in (adapter.spec_sha, adapter.metrics.get(TRAINING))
    ]
    return Trained(now, others[-1] if others else None)


def evaluation(context: RunContext, adapter: Adapter | None) -> Evaluation | None:
    """The complete evaluation of an adapter, or of the student before training (None)."""
    sha = context.identity.evaluation_sha(None if adapter is None else adapter.spec_sha)
    found = results.evaluation(context.store, sha)
    return found if found is not None and found.complete else None


def rows(adapter: Adapter) -> int | None:
    """Rows that an adapter was trained on, where that is known."""
    kept = dict(adapter.metrics.get("rows") or {}).get("kept")
    return None if kept is None else int(kept)


def outdated(context: RunContext) -> list[str]:
    """Strategies whose dataset is whole but has no complete adapter as it is now: what another run would train."""
    return [
        name
        for name in context.run.strategies
        if (dataset := datasets.find(context.store, context.identity.dataset_sha(name))) is not None
        and dataset.complete
        and ((now := trained(context, name).now) is None or not now.complete)
    ]
