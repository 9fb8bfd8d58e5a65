"""Screen 3: prompts being routed, what each teacher gets, how good the router is, what another α would change."""

import asyncio
from collections.abc import Callable, Coroutine, Iterable, Sequence
from functools import partial
from typing import Any, ClassVar, cast

from textual import on
from textual.binding import Binding, BindingType
from textual.containers import Horizontal, Vertical
from textual.widget import Widget

from engine.job import assignments
from engine.pipeline import job_commands
from engine.pipeline.run_view import run_of
from persyn_tui.app.base.common_prefix import apart
from persyn_tui.app.base.formatting import bar
from persyn_tui.app.screens.base import Message
from persyn_tui.app.screens.jobs.job_screen import JobScreen
from persyn_tui.app.screens.router import formatting, query
from persyn_tui.app.screens.router.query import Choice, Question, Routed
from persyn_tui.app.screens.router.what_if import WhatIf
from persyn_tui.app.screens.router.what_if_panel import WhatIfPanel
from persyn_tui.app.screens.router.why_screen import Asked, WhyScreen
from persyn_tui.app.state.engine_process import RouterProcess
from persyn_tui.app.textual_fixes.workers import background
from persyn_tui.app.widgets.confirm import Confirm
from persyn_tui.app.widgets.one_line import OneLine
from persyn_tui.app.widgets.virtual_table import VirtualTable
from storage import prompts, routing
from storage.job_records import Job
from storage.store import Store

NARROW = 24
"""Cells that a prompt is cut for at least: the list may not be laid out yet."""


class RouterScreen(JobScreen[Routed]):
    """Follows the app's job. How α gets here, and what it changes: see `what_if_panel`."""

    NUMBER, NAME = 3, "Router"
    EMPTY = (
        "No job yet, so nothing is routed.\n\n"
        "{go.jobs:1}   goes to the jobs: {jobs.new:n} makes one, {jobs.demo:d} runs the demo\n"
        "{router.ask:/}   asks a router that is stored here for a prompt of yours"
    )
    DEFAULT_CSS = """
    RouterScreen #left { width: 46%; min-width: 39; max-width: 66; padding-right: 1; }
    RouterScreen #right { width: 1fr; border-left: solid $foreground 20%; padding-left: 1; }
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
        self._strategy: str | None = None
        self._teacher: tuple[str, int] | None = None
        """(name, id) of the teacher whose prompts alone are listed."""
        self._closest = False
        self._process: RouterProcess | None = None

    # What is read

    def body(self) -> Iterable[Widget]:
        yield OneLine(id="where")
        yield OneLine(id="measures")
        with Horizontal():
            with Vertical(id="left"):
                yield VirtualTable(formatting.STAGE_ROWS, id="shares", least=11)
                yield WhatIfPanel()
            with Vertical(id="right"):
                yield Message(id="later")
                yield VirtualTable(formatting.choice_columns("prompt", 0), id="choices")

    def focus_first(self) -> None:
        self.query_one("#choices", VirtualTable).focus()

    def question(self) -> Question:
        teacher = None if self._teacher is None else self._teacher[1]
        return Question(self.app.followed.id, self._strategy, teacher, self._closest)

    def read(self, store: Store, question: Question) -> Routed | None:
        return query.read(store, question, self.cache)

    # What is shown

    def show(self, data: Routed) -> None:
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
        self.query_one(WhatIfPanel).follow(data)
        self._show_left(data)
        self._show_choices(data)

    def _show_left(self, data: Routed) -> None:
        """The allocation, or what comes before it: the curves of the training, the parts of a stage."""
        sheet = self.query_one("#shares", VirtualTable)
        if data.shares:
            what_if = self.what_if
            alpha = self.query_one(WhatIfPanel).slider.value
            columns = formatting.allocation_columns(alpha, other=what_if is not None and what_if.other)
            sheet.fill(formatting.allocation_rows(data, what_if), columns)
        elif data.curves:
            room = max(8, sheet.size.width - sum(column.width + 1 for column in formatting.CURVES))
            sheet.fill(formatting.curve_rows(data, room), formatting.CURVES)
        else:
            sheet.fill(formatting.stage_rows(data), formatting.STAGE_ROWS)

    def _show_choices(self, data: Routed) -> None:
        sheet = self.query_one("#choices", VirtualTable)
        title = "smallest margins" if self._closest else "newest"
        if self._teacher is not None:
            title += f" of {self._teacher[0]}"
        texts = apart([choice.text for choice in data.choices], max(NARROW, sheet.room(0)))
        sheet.fill(
            [
                (choice.prompt_id, formatting.choice_cells(data, choice, text))
                for choice, text in zip(data.choices, texts, strict=True)
            ],
            formatting.choice_columns(title, len(data.teachers), brief=self.app.size.width < 140),
        )
        later = self.query_one("#later", Message)
        sheet.display, later.display = bool(data.choices), not data.choices
        if not data.choices:
            later.update(formatting.later(data))
        elif self.focused is None:
            sheet.focus()

    def without(self) -> Sequence[str]:
        if self.data is None:
            return ()
        sheets = [self.query_one(which, VirtualTable) for which in ("#choices", "#shares")]
        return [title for sheet in sheets if sheet.size.width for title in sheet.hidden if title]

    def trouble(self) -> str:
        """Why the job stopped, or why its plans cannot be found."""
        return super().trouble() or ("" if self.data is None else formatting.missing(self.data))

    def idle(self) -> frozenset[str]:
        """What needs a plan or scores where there are none, as well."""
        data = self.data
        none = set[str]() if data is not None and data.choices else {"why"}
        none |= set[str]() if self.what_if is not None else {"alpha(-1)", "alpha(1)"}
        none |= set[str]() if data is not None and data.plan is not None else {"export"}
        return super().idle() | none

    @property
    def what_if(self) -> WhatIf | None:
        """What the slider's settings would change; None while not known."""
        return self.query_one(WhatIfPanel).what_if

    def text_to_copy(self) -> str:
        choice = self.chosen
        return "" if choice is None else choice.text

    @property
    def chosen(self) -> Choice | None:
        return self.under_cursor(
            "#choices", self.data.choices if self.data else (), lambda one: one.prompt_id
        )

    # Lists

    @on(VirtualTable.Chosen, "#shares")
    def _only(self, event: VirtualTable.Chosen) -> None:
        """Only one teacher's prompts, or those of all again."""
        shares = {} if self.data is None else dict(self.data.shares)
        share = shares.get(cast(str, event.key))
        same = self._teacher is not None and self._teacher[0] == event.key
        self._teacher = None if share is None or same else (cast(str, event.key), share.teacher_id)
        self.ask(frozen_too=True)

    def action_all(self) -> None:
        self._teacher = None
        self.ask(frozen_too=True)

    def action_order(self) -> None:
        self._closest = not self._closest
        self.query_one("#choices", VirtualTable).action_top()
        self.ask(frozen_too=True)

    def action_strategy(self) -> None:
        if self.data is None or not self.data.strategies:
            return
        names = self.data.strategies
        place = names.index(self.data.strategy) if self.data.strategy in names else -1
        self._strategy, self._teacher = names[(place + 1) % len(names)], None
        self.ask(frozen_too=True)

    # α: see `what_if_panel`

    @on(WhatIfPanel.Changed)
    def _weighed(self) -> None:
        if self.data is not None:
            self._show_left(self.data)
        self.paint_title()

    def action_alpha(self, steps: int) -> None:
        self.query_one(WhatIfPanel).move(steps)

    def action_normalization(self) -> None:
        self.query_one(WhatIfPanel).turn_normalization()

    def action_apply(self) -> None:
        """Asks, then starts a job that differs from this one by the slider's settings."""
        job, what_if = self.app.followed.job, self.what_if
        if job is None or what_if is None or not what_if.other:
            self.app.notify("[ and ] move α first: these are the settings of the run", severity="warning")
            return

        def start(store: Store, job: Job) -> Job:
            run = run_of(job)
            changes = {"alpha": what_if.alpha, "normalization": what_if.normalization}
            changed = run.model_copy(update={"reward": run.reward.model_copy(update=changes)})
            return job_commands.start(store, changed, job.until_stage)

        self.app.push_screen(
            Confirm(
                f"Train a router with α {what_if.alpha:.2f}, {what_if.normalization}?",
                f"This is a new job. Responses and scores of job {job.id} are used again; the router, what it "
                f"assigns, and what follows from that are made anew. Job {job.id} and its results are kept.",
                "Start the job",
            ),
            lambda yes: self.act(lambda store, _: start(store, job)) if yes else None,
        )

    # Why

    @on(VirtualTable.Chosen, "#choices")
    def action_why(self) -> None:
        choice = self.chosen
        if choice is None:
            self.app.notify("no prompt is routed yet; / asks for a prompt of yours", severity="warning")
            return
        self._work(partial(self._open, choice, self.app.ahead.hold()), "why")

    def action_ask(self) -> None:
        self._work(partial(self._open, None, self.app.ahead.hold()), "why")

    async def _open(self, choice: Choice | None, release: Callable[[], None]) -> None:
        store, data = self.app.store, self.data
        if store is None:
            return
        router = None if data is None else data.router
        if router is None and choice is None:
            router = await asyncio.to_thread(routing.newest_router, store)
        if router is None:
            self.app.notify(
                "no router has been trained yet: {router.start:s} starts the job, {go.jobs:1} goes to the jobs",
                severity="warning",
            )
            return
        if self._process is None or self._process.router != router.id:
            self.on_unmount()
            self._process = RouterProcess(store, router.id)
        asked = None
        if choice is not None and data is not None:
            found = await asyncio.to_thread(prompts.get, store, [choice.prompt_id])
            asked = Asked(found[choice.prompt_id].messages, choice, data.strategy)
        await self.app.push_screen(WhyScreen(router, self._process, asked))
        release()

    def on_unmount(self) -> None:
        if self._process is not None:
            self._process.close()

    # Jobs and files

    def action_start(self) -> None:
        job = self.app.followed.job
        if job is not None and job.state == "done":
            self.app.notify(
                f"job {job.id} is done; {{router.apply:a}} trains a router with another α, "
                "{go.jobs:1} goes to the jobs",
                severity="warning",
            )
        else:
            super().action_start()

    def _work(self, work: Callable[[], Coroutine[Any, Any, None]], group: str) -> None:
        background(self, work, group=group, exclusive=True, exit_on_error=False)

    def action_export(self) -> None:
        """Writes the plan's assignments as JSONL."""
        plan, store = None if self.data is None else self.data.plan, self.app.store
        if plan is None or store is None:
            self.app.notify("there is no plan to export yet", severity="warning")
            return

        async def export() -> None:
            path, rows = await asyncio.to_thread(assignments.export, store, plan)
            self.app.notify(f"{rows:,} assignments: {path}", timeout=10, about="export plan")

        self._work(export, "export")
