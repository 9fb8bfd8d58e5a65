"""What another α would change: the stored scores of a run are read once, then it is arithmetic. No widget.

`what_if_panel.py` says how α comes here and where the result goes.
"""

from dataclasses import dataclass

from engine.job.context import RunContext
from engine.methods import strategy_kinds
from engine.methods.metrics import Metrics
from engine.scoring import score_table, what_if
from storage import routing
from storage.store import Store


@dataclass(frozen=True, slots=True)
class WhatIf:
    """Labels under other reward settings, beside those of the run."""

    alpha: float
    normalization: str
    other: bool
    """Whether these are other settings than the run's."""
    found: what_if.Relabelled
    router: tuple[Metrics, Metrics] | None
    """The router, as trained, on held-out prompts: by the run's rewards and by these; None where not known."""


class Labels:
    """The scores behind the labels of a run whose prompts are stored; made and asked in a thread."""

    def __init__(self, store: Store, context: RunContext) -> None:
        self.reward = context.run.reward
        self.targets, self.ties = context.run.router.targets, context.run.router.ties
        self._known = score_table.gather(context, context.calibration.labelled)
        self._trained = score_table.gather(context, ("calibration",))
        self._held = score_table.gather(context, ("validation",))
        self._strengths: dict[int, tuple[float, ...]] = {}
        routed = strategy_kinds.routed(context.run.strategies)
        plan = None if routed is None else routing.plan(store, context.identity.plan_sha(routed))
        if plan is not None:
            held = [int(prompt) for prompt in self._held.prompt_ids]
            stored = routing.choices(store, plan.id, held)
            self._strengths = {key: row.strengths for key, row in stored.items() if row.strengths}

    def under(self, alpha: float, normalization: str) -> WhatIf | None:
        """What follows from these settings; None while no response has both scores."""
        new = self.reward.model_copy(update={"alpha": alpha, "normalization": normalization})
        found = what_if.compare(self._known, self._trained, self.reward, new, self.targets, self.ties)
        if not found.prompts:
            return None
        before = what_if.measured(self._held, self._strengths, self.reward)
        after = what_if.measured(self._held, self._strengths, new)
        both = (before, after) if before is not None and after is not None else None
        return WhatIf(alpha, normalization, new != self.reward, found, both)
