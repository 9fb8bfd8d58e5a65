"""Screen 3: prompts being routed, what each teacher gets, how good the router is, what another α would change."""

import asyncio
from collections.abc import Callable, Coroutine, Iterable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar, cast

from textual import on
from textual.binding import Binding, BindingType
from textual.containers import Horizontal, Vertical
from textual.widget import Widget
from textual.widgets import Static

from persyn_tui.app.base.common_prefix import apart
from persyn_tui.app.base.formatting import bar
from persyn_tui.app.screens.base import BaseScreen, Message
from persyn_tui.app.screens.jobs.resume import go_on, starts
from persyn_tui.app.screens.router import formatting
from persyn_tui.app.screens.router.query import Choice, Question, Reader, Routed
from persyn_tui.app.textual_fixes.workers import background
from persyn_tui.app.widgets.confirm import Confirm
from persyn_tui.app.widgets.message_bar import trouble
from persyn_tui.app.widgets.one_line import OneLine
from persyn_tui.app.widgets.slider import STEP, Slider
from persyn_tui.app.widgets.virtual_table import Cell, Listed, VirtualTable
from storage.errors import PersynError
from storage.job_records import Job
from storage.store import Store

if TYPE_CHECKING:
    from persyn_tui.app.screens.router.router_process import RouterHelper
    from persyn_tui.app.screens.router.what_if import Labels, WhatIf

NORMALIZATIONS = ("zscore", "minmax", "rank")
NARROW = 24
"""Cells that a prompt is cut for at least: the list may not be laid out yet."""
UNSCORED_STAGES = ("", "prompts", "calibrate")
RELOADED_S = 5.0
"""Least time between two readings of all scores while scores are being written."""


class RouterScreen(BaseScreen[Routed]):
    """Follows the app's job."""

    NUMBER, NAME = 3, "Router"
    EMPTY = (
        "No job yet, so nothing is routed.\n\n"
        "{go.jobs:1}   goes to the jobs: {jobs.new:n} makes one, {jobs.demo:d} runs the demo\n"
        "{router.ask:/}   asks a router that is stored here for a prompt of yours"
    )
    DEFAULT_CSS = """
    RouterScreen #left { width: 46%; min-width: 39; max-width: 66; padding-right: 1; }
    RouterScreen #right { width: 1fr; border-left: solid $foreground 20%; padding-left: 1; }
    RouterScreen #labels { height: auto; max-height: 11; border-top: solid $foreground 20%; }
    RouterScreen #changes { height: auto; max-height: 9; }
    RouterScreen #measures { color: $text-muted; }
    """
    NEEDS_ROWS = frozenset({"start", "why", "alpha", "apply", "normalization", "strategy", "order", "export"})
    WRITES = frozenset({"start", "apply"})
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("s", "start", "Start", id="router.start"),
        Binding("w,enter", "why", "Why", key_display="⏎", id="router.why"),
        Binding("slash", "ask", "Ask", key_display="/", id="router.ask"),
        Binding("left_square_bracket", "alpha(-1)", "α", key_display="[ ]", id="router.alpha_less"),
        Binding("right_square_bracket", "alpha(1)", "More α", show=False, id="router.alpha_more"),
        Binding("a", "apply", "Train with this α", show=False, id="router.apply"),
        Binding("n", "normalization", "Normalization", show=False, id="router.normalization"),
        Binding("t", "strategy", "Next strategy", show=False, id="router.strategy"),
        Binding("o", "order", "Newest or smallest margins", show=False, id="router.order"),
        Binding("e", "export", "Export", id="router.export"),
        Binding("escape", "all", "All teachers", show=False, id="router.all"),
    ]

    def __init__(self) -> None:
        super().__init__()
        self._reader = Reader()
        self._strategy: str | None = None
        self._teacher: tuple[str, int] | None = None
        self._closest = False
        self._columns: tuple[Any, ...] = ()
        self._helper: RouterHelper | None = None
        # The slider
        self._labels: Labels | None = None
        self._labels_of: Any = None
        self._labels_at = 0.0
        self._normalization = ""
        self._touched = False
        self._busy = False
        self.what_if: WhatIf | None = None
        """What the slider's settings would change; None while not known."""

    # What is read

    def body(self) -> Iterable[Widget]:
        """Two lines of numbers; allocation and slider; prompts."""
        yield OneLine(id="where")
        yield OneLine(id="measures")
        with Horizontal():
            with Vertical(id="left"):
                yield VirtualTable(formatting.STAGE_ROWS, id="shares", least=11)
                with Vertical(id="labels"):
                    yield Slider("α", id="alpha")
                    yield Static(id="changes", markup=False)
            with Vertical(id="right"):
                yield Message(id="later")
                yield VirtualTable(formatting.choice_columns("prompt", 0), id="choices")

    def focus_first(self) -> None:
        """The prompts."""
        self.query_one("#choices", VirtualTable).focus()

    def question(self) -> Question:
        """The job, and which part of which plan."""
        teacher = None if self._teacher is None else self._teacher[1]
        return Question(self.app.followed.id, self._strategy, teacher, self._closest)

    def read(self, store: Store, question: Question) -> Routed | None:
        """Where the job stands, and the plan of the strategy."""
        return self._reader.read(store, question)

    # What is shown

    def show(self, data: Routed) -> None:
        """Lines, then lists; the slider follows when there are other scores."""
        width = max(40, self.app.size.width - 2)
        job = self.app.followed.job
        state = data.state if job is None or job.id != data.job_id else self.app.followed.state_of(job)
        if self.app.followed.went_on is not None:
            state = "continued"
        self.query_one("#where", OneLine).update(
            formatting.sides(
                self.app.keyed(formatting.where(data, state, width < 98)), formatting.measures(data), width
            )
        )
        beside = formatting.held_out(data)
        room = max(0, min(30, width - len(beside) - 2))
        self.query_one("#measures", OneLine).update(
            formatting.sides(bar(formatting.part_done(data), room), beside, width)
        )
        self._follow_scores(data)
        self._show_left(data)
        self._show_choices(data)

    def _show_left(self, data: Routed) -> None:
        sheet = self.query_one("#shares", VirtualTable)
        rows: list[tuple[str, Sequence[Cell | str]]]
        if data.shares:
            other = self.what_if is not None and self.what_if.other
            columns = formatting.allocation_columns(self.query_one("#alpha", Slider).value, other=other)
            rows = formatting.allocation_rows(data, self.what_if)
        elif data.curves:
            columns = formatting.CURVES
            room = max(8, sheet.size.width - sum(column.width + 1 for column in formatting.CURVES))
            rows = [
                (curve.name, formatting.curve_cells(curve.name, curve.values, room)) for curve in data.curves
            ]
        else:
            columns = formatting.STAGE_ROWS
            rows = formatting.stage_rows(data)
        if columns != sheet.columns:
            sheet.rows = Listed()
            sheet.set_columns(columns)
        sheet.update(Listed(rows))

    def _show_choices(self, data: Routed) -> None:
        sheet = self.query_one("#choices", VirtualTable)
        title = "smallest margins" if self._closest else "newest"
        if self._teacher is not None:
            title += f" of {self._teacher[0]}"
        columns = formatting.choice_columns(title, len(data.teachers), brief=self.app.size.width < 140)
        if columns != sheet.columns:
            sheet.rows = Listed()
            sheet.set_columns(columns)
        texts = apart([choice.text for choice in data.choices], max(NARROW, sheet.room(0)))
        rows = [
            (
                choice.prompt_id,
                formatting.choice_cells(choice, text, formatting.in_order(data, choice.strengths or ())),
            )
            for choice, text in zip(data.choices, texts, strict=True)
        ]
        sheet.update(Listed(rows))
        later = self.query_one("#later", Message)
        sheet.display, later.display = bool(data.choices), not data.choices
        if not data.choices:
            later.update(formatting.later(data))
        elif self.focused is None:
            sheet.focus()

    def about(self) -> str:
        """The job."""
        return self.job_line

    def without(self) -> Sequence[str]:
        """Columns of both lists."""
        if self.data is None:
            return ()
        sheets = [self.query_one(which, VirtualTable) for which in ("#choices", "#shares")]
        return [title for sheet in sheets if sheet.size.width for title in sheet.hidden if title]

    def trouble(self) -> str:
        """Why the job stopped, or why its plans cannot be found."""
        stopped = "" if self.app.followed.went_on is not None else trouble(self.app.followed.job)
        return stopped or ("" if self.data is None else formatting.missing(self.data))

    def idle(self) -> frozenset[str]:
        """Starting what runs or is done; what needs a plan or scores where there are none."""
        job, data = self.app.followed.job, self.data
        none = {
            "start": self.app.followed.went_on is not None
            or (job is not None and self.app.followed.state_of(job) in ("starting", "running", "done")),
            "why": data is None or not data.choices,
            "alpha(-1)": self.what_if is None,
            "alpha(1)": self.what_if is None,
            "export": data is None or data.plan is None,
        }
        return frozenset(action for action, idle in none.items() if idle)

    def text_to_copy(self) -> str:
        """The prompt under the cursor."""
        choice = self.chosen
        return "" if choice is None else choice.text

    @property
    def chosen(self) -> Choice | None:
        """The prompt under the cursor."""
        if self.data is None:
            return None
        key = self.query_one("#choices", VirtualTable).key
        return next((choice for choice in self.data.choices if choice.prompt_id == key), None)

    # Lists

    @on(VirtualTable.Chosen, "#shares")
    def _only(self, event: VirtualTable.Chosen) -> None:
        """Only one teacher's prompts, or those of all again."""
        shares = {} if self.data is None else dict(self.data.shares)
        share = shares.get(cast(str, event.key))
        same = self._teacher is not None and self._teacher[0] == event.key
        self._teacher = None if share is None or same else (cast(str, event.key), share.teacher_id)
        self.ask(frozen_too=True)

    @on(VirtualTable.Chosen, "#choices")
    def _chosen(self) -> None:
        self.action_why()

    def action_all(self) -> None:
        """The prompts of all teachers."""
        self._teacher = None
        self.ask(frozen_too=True)

    def action_order(self) -> None:
        """Newest first, or the smallest margins first."""
        self._closest = not self._closest
        self.query_one("#choices", VirtualTable).action_top()
        self.ask(frozen_too=True)

    def action_strategy(self) -> None:
        """The plan of the run's next strategy."""
        if self.data is None or not self.data.strategies:
            return
        names = self.data.strategies
        place = names.index(self.data.strategy) if self.data.strategy in names else -1
        self._strategy, self._teacher = names[(place + 1) % len(names)], None
        self.ask(frozen_too=True)

    # The slider

    def _follow_scores(self, data: Routed) -> None:
        """Reads the scores anew when there may be others."""
        context = self._reader.context
        scored = context is not None and (bool(data.shares) or data.stage not in UNSCORED_STAGES)
        self.query_one("#labels").display = scored
        if context is None or not scored:
            self._labels = self._labels_of = self.what_if = None
            return
        state = (data.job_id, data.stage, data.state, bool(data.plan and data.plan.complete))
        clock = asyncio.get_running_loop().time()
        written = data.stage == "score" and data.state == "running"
        if state == self._labels_of and not (written and clock - self._labels_at > RELOADED_S):
            return
        if self._labels_of is None or self._labels_of[0] != data.job_id or not self._touched:
            slider = self.query_one("#alpha", Slider)
            slider.value = slider.mark = context.run.reward.alpha
            self._normalization, self._touched = context.run.reward.normalization, False
        self._labels_of, self._labels_at, self._labels = state, clock, None
        self._relabel()

    def _relabel(self) -> None:
        if self._labels_of is not None and not self._busy:  # before there are scores nothing is weighed
            background(self, self._relabelled, group="labels", exit_on_error=False)

    async def _relabelled(self) -> None:
        """Computes for the newest settings, again if they have moved on meanwhile."""
        store, context = self.app.store, self._reader.context
        if store is None or context is None:
            return
        from persyn_tui.app.screens.router.what_if import Labels

        self._busy = True
        try:
            done: Any = None
            while done != (wanted := self._settings()):
                labels = self._labels
                if labels is None:
                    self._labels = labels = await asyncio.to_thread(Labels, store, context)
                self.what_if = await asyncio.to_thread(labels.under, *wanted[1:])
                done = wanted
            self.app.settle("what if")
        except PersynError as problem:
            self.what_if = None
            self.notify(str(problem), severity="error", about="what if")
        finally:
            self._busy = False
        if self.is_mounted:
            self._show_what_if()

    def _settings(self) -> tuple[Any, float, str]:
        return self._labels_of, self.query_one("#alpha", Slider).value, self._normalization

    def _show_what_if(self) -> None:
        labels = self._labels
        behind = self._normalization
        if labels is not None:
            behind += f"  {labels.targets} labels"
        self.query_one("#alpha", Slider).words = behind
        self.query_one("#changes", Static).update(self.app.keyed(formatting.changes(self.what_if)))
        if self.data is not None:
            self._show_left(self.data)
        self.paint_title()

    def action_alpha(self, steps: int) -> None:
        """Moves α by steps of 0.05."""
        slider = self.query_one("#alpha", Slider)
        slider.move(slider.value + steps * STEP)

    @on(Slider.Changed)
    def _moved(self) -> None:
        self._touched = True
        self._relabel()

    def action_normalization(self) -> None:
        """The next way to normalize scores."""
        if self._normalization in NORMALIZATIONS:
            place = NORMALIZATIONS.index(self._normalization)
            self._normalization = NORMALIZATIONS[(place + 1) % len(NORMALIZATIONS)]
            self._touched = True
            self._relabel()

    def action_apply(self) -> None:
        """Asks, then starts a job that differs from this one by the slider's settings."""
        job, store, what_if = self.app.followed.job, self.app.store, self.what_if
        if job is None or store is None or what_if is None or not what_if.other:
            self.notify("[ and ] move α first: these are the settings of the run", severity="warning")
            return

        async def start() -> None:
            from engine.pipeline.run_view import run_of
            from persyn_tui.app import actions

            run = run_of(job)
            changes = {"alpha": what_if.alpha, "normalization": what_if.normalization}
            changed = run.model_copy(update={"reward": run.reward.model_copy(update=changes)})
            await self._started(lambda: actions.start(store, changed, job.until_stage))

        self.app.push_screen(
            Confirm(
                f"Train a router with α {what_if.alpha:.2f}, {what_if.normalization}?",
                f"This is a new job. Answers and scores of job {job.id} are used again; the router, what it "
                f"assigns, and what follows from that are made anew. Job {job.id} and its results are kept.",
                "Start the job",
            ),
            lambda yes: self._work(start, "start") if yes else None,
        )

    # Why

    def action_why(self) -> None:
        """Why the prompt under the cursor went to its teacher."""
        choice = self.chosen
        if choice is None:
            self.notify("no prompt is routed yet; / asks for a prompt of yours", severity="warning")
            return
        self._work(partial(self._open, choice, self.app.ahead.hold()), "why")

    def action_ask(self) -> None:
        """Asks the router for a prompt that the operator types."""
        self._work(partial(self._open, None, self.app.ahead.hold()), "why")

    async def _open(self, choice: Choice | None, release: Callable[[], None]) -> None:
        from persyn_tui.app.screens.router.router_process import RouterHelper
        from persyn_tui.app.screens.router.why_screen import Asked, WhyScreen
        from storage import lookup, prompts

        store, data = self.app.store, self.data
        if store is None:
            return
        router = None if data is None else data.router
        if router is None and choice is None:
            router = await asyncio.to_thread(lookup.newest_router, store)
        if router is None:
            self.notify(
                "no router has been trained yet: {router.start:s} starts the job, {go.jobs:1} goes to the jobs",
                severity="warning",
            )
            return
        if self._helper is not None and self._helper.router != router.id:
            self._helper.close()
            self._helper = None
        if self._helper is None:
            self._helper = RouterHelper(store, router.id)
        asked = None
        if choice is not None and data is not None:
            found = await asyncio.to_thread(prompts.get, store, [choice.prompt_id])
            order = data.plan.manifest.get("teachers", []) if data.plan else []
            asked = Asked(found[choice.prompt_id].messages, choice, data.strategy, tuple(order))
        await self.app.push_screen(WhyScreen(router, self._helper, asked))
        release()

    def on_unmount(self) -> None:
        """Ends the router's process."""
        if self._helper is not None:
            self._helper.close()

    # Jobs and files

    def action_start(self) -> None:
        """Goes on with the job that is followed."""
        job = self.app.followed.job
        store = self.app.store
        if job is None or store is None:
            self.notify(
                "no job yet: {go.jobs:1} goes to the jobs, {jobs.new:n} makes one there", severity="warning"
            )
        elif job.state == "done":
            self.notify(
                f"job {job.id} is done; {{router.apply:a}} trains a router with another α, "
                "{go.jobs:1} goes to the jobs",
                severity="warning",
            )
        else:
            from persyn_tui.app import actions

            def resume() -> None:
                self._work(partial(self._started, lambda: actions.resume(store, job)), "start")

            go_on(self.app, job, resume)

    async def _started(self, action: Callable[[], Job]) -> None:
        try:
            started = await asyncio.to_thread(action)
        except PersynError as problem:
            self.notify(str(problem), severity="warning", markup=False)
            return
        self.app.followed.started(started)
        self.notify(starts(started))
        self.ask()

    def _work(self, work: Callable[[], Coroutine[Any, Any, None]], group: str) -> None:
        """Does one thing of its kind at a time."""
        background(self, work, group=group, exclusive=True, exit_on_error=False)

    def action_export(self) -> None:
        """Writes the plan's assignments as JSONL."""
        plan = None if self.data is None else self.data.plan
        if plan is None:
            self.notify("there is no plan to export yet", severity="warning")
            return

        async def export() -> None:
            from engine.job import assignments

            if self.app.store is None:
                return
            try:
                path, rows = await asyncio.to_thread(assignments.export, self.app.store, plan)
            except PersynError as problem:
                self.notify(str(problem), severity="error", timeout=10, about="export plan")
                return
            self.notify(f"{rows:,} assignments: {path}", timeout=10, about="export plan")

        self._work(export, "export")
