"""The α what-if of the router screen: a slider, and what its settings would change. The way of α, from end to end:

- the run file's `reward.alpha` and `reward.normalization` come with the job's context (`query.read`); `follow` puts the
  slider, and its mark, there;
- `[` and `]`, the mouse and `n` change them here; every change goes to `what_if.Labels.under` in a thread, which
  weighs the stored scores anew (`engine.scoring.what_if`) and writes nothing;
- the result is `what_if`: `#changes` below the slider says it in words, and `Changed` tells the screen, whose
  allocation shows it as `best` and `±` (`formatting.allocation_rows`);
- `a` on the screen starts a job whose run file differs by these settings alone (`RouterScreen.action_apply`).
"""

import asyncio
from collections.abc import Iterable
from typing import NamedTuple, get_args

from textual import on
from textual.containers import Vertical
from textual.message import Message
from textual.widget import Widget
from textual.widgets import Static

from engine.job.context import RunContext
from engine.methods.reward import Normalization
from persyn_tui.app.screens.router import formatting
from persyn_tui.app.screens.router.query import Routed
from persyn_tui.app.screens.router.what_if import Labels, WhatIf
from persyn_tui.app.state.base_app import BaseApp
from persyn_tui.app.textual_fixes.workers import background
from persyn_tui.app.widgets.slider import STEP, Slider
from storage.errors import PersynError

UNSCORED_STAGES = ("", "prompts", "calibrate")
RELOADED_S = 5.0
"""Least time between two readings of all scores while scores are being written."""


class _Source(NamedTuple):
    """What stored scores are read from; of another one they may be others."""

    job_id: int
    stage: str
    state: str
    plan_complete: bool


class WhatIfPanel(Vertical):
    """Labels by the run's scores under settings that the operator tries."""

    DEFAULT_CSS = """
    WhatIfPanel { height: auto; max-height: 11; border-top: solid $foreground 20%; }
    WhatIfPanel #changes { height: auto; max-height: 9; }
    """

    class Changed(Message):
        """`what_if` is of other settings or scores."""

    app: BaseApp

    def __init__(self) -> None:
        super().__init__(id="labels")
        self.what_if: WhatIf | None = None
        """What the slider's settings would change; None while not known."""
        self._run: RunContext | None = None
        self._source: _Source | None = None
        """None while there are no scores to weigh."""
        self._read_at = 0.0
        self._labels: Labels | None = None
        self._normalization = ""
        self._touched = False
        """Whether the operator has chosen other settings than the run's."""
        self._busy = False

    def compose(self) -> Iterable[Widget]:
        yield Slider("α", id="alpha")
        yield Static(id="changes", markup=False)

    @property
    def slider(self) -> Slider:
        return self.query_one("#alpha", Slider)

    def follow(self, data: Routed) -> None:
        """Reads the scores anew when there may be others, and begins at the settings of another job's run."""
        context = self._run = data.context
        scored = context is not None and (bool(data.shares) or data.stage not in UNSCORED_STAGES)
        self.display = scored
        if context is None or not scored:
            self._labels = self._source = self.what_if = None
            return
        source = _Source(data.job_id, data.stage, data.state, bool(data.plan and data.plan.complete))
        clock = asyncio.get_running_loop().time()
        written = data.stage == "score" and data.state == "running"
        if source == self._source and not (written and clock - self._read_at > RELOADED_S):
            return
        if self._source is None or self._source.job_id != data.job_id or not self._touched:
            self.slider.value = self.slider.mark = context.run.reward.alpha
            self._normalization, self._touched = context.run.reward.normalization, False
        self._source, self._read_at, self._labels = source, clock, None
        self._weigh()

    def move(self, steps: int) -> None:
        self.slider.move(self.slider.value + steps * STEP)

    @on(Slider.Changed)
    def _moved(self) -> None:
        self._touched = True
        self._weigh()

    def turn_normalization(self) -> None:
        ways = get_args(Normalization)
        if self._normalization in ways:
            self._normalization = ways[(ways.index(self._normalization) + 1) % len(ways)]
            self._touched = True
            self._weigh()

    def _weigh(self) -> None:
        if self._source is not None and not self._busy:
            background(self.screen, self._weighed, group="labels", exit_on_error=False)

    def _settings(self) -> tuple[_Source | None, float, str]:
        return self._source, self.slider.value, self._normalization

    async def _weighed(self) -> None:
        """Computes for the newest settings, again if they have moved on meanwhile."""
        store, context = self.app.store, self._run
        if store is None or context is None:
            return
        self._busy = True
        try:
            done = None
            while done != (wanted := self._settings()):
                labels = self._labels
                if labels is None:
                    self._labels = labels = await asyncio.to_thread(Labels, store, context)
                self.what_if = await asyncio.to_thread(labels.under, *wanted[1:])
                done = wanted
            self.app.settle("what if")
        except PersynError as problem:
            self.what_if = None
            self.app.notify(str(problem), severity="error", about="what if")
        finally:
            self._busy = False
        if self.is_mounted:
            targets = "" if self._labels is None else f"  {self._labels.targets} labels"
            self.slider.words = self._normalization + targets
            self.query_one("#changes", Static).update(self.app.keyed(formatting.changes(self.what_if)))
            self.post_message(self.Changed())
