"""A new job: from a run file or from a form that writes one; then its dry run; then it is started."""

import asyncio
from collections.abc import Callable, Iterable
from contextlib import suppress
from functools import partial
from typing import ClassVar

from textual import on
from textual.binding import Binding, BindingType
from textual.css.query import NoMatches
from textual.widget import Widget
from textual.widgets import ContentSwitcher

from engine.pipeline import job_commands
from engine.registry import candidates
from persyn_tui.app.screens.wizard.dry_run import DryRunStep, Still
from persyn_tui.app.screens.wizard.form import SettingsStep
from persyn_tui.app.screens.wizard.steps import FileStep, Plan, Step, StudentStep, TeachersStep, WayStep
from persyn_tui.app.textual_fixes.workers import background
from persyn_tui.app.widgets.form_fields import Dialog
from persyn_tui.app.widgets.virtual_table import VirtualTable
from storage.errors import PersynError
from storage.job_records import Job

AFTER = {"file": "dryrun", "teachers": "student", "student": "settings", "settings": "dryrun"}
"""The step that follows each; the first one says itself what follows."""


class Wizard(Dialog[Job | None]):
    """Steps to a started job, which is the answer; None when the operator goes back from the first step."""

    DEFAULT_CSS = """
    Wizard #steps, Wizard #steps > Step { height: 1fr; }
    Wizard #file Form { height: 1; }
    Wizard #verdict { max-height: 12; margin-bottom: 1; }
    Wizard .lead { height: auto; color: $text-muted; margin-bottom: 1; }
    Wizard #page { height: 1fr; scrollbar-size-vertical: 1; }
    Wizard #page > Static { height: auto; }
    Wizard #page > Still { margin-top: 1; }
    Wizard Still > .virtual-table--cursor { background: transparent; }
    Wizard #assumed { color: $text-muted; margin-top: 1; }
    """
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("enter", "start", "Start the job", id="wizard.start"),
        Binding("enter", "next", "Next", id="wizard.next"),
    ]

    def __init__(self) -> None:
        super().__init__()
        self._plan = Plan()
        self._steps = ["way"]
        self._busy = False

    def heading(self) -> str:
        if self._step == "way":
            return "1 Jobs · new job"
        many = 3 if "file" in self._steps else 5
        hidden = [name for still in self._part.query(Still) for name in still.hidden]
        return f"1 Jobs · new job · {len(self._steps)} of {many} · {self._part.TITLE}" + (
            f" · hidden: {', '.join(hidden)}" if hidden else ""
        )

    def body(self) -> Iterable[Widget]:
        plan = self._plan
        with ContentSwitcher(initial="way", id="steps"):
            yield WayStep(plan, "way")
            yield FileStep(plan, "file")
            yield TeachersStep(plan, "teachers")
            yield StudentStep(plan, "student")
            yield SettingsStep(plan, "settings")
            yield DryRunStep(plan, "dryrun")

    def ready(self) -> None:
        super().ready()
        self._part.enter()
        background(self, self._offer, group="offer")

    async def _offer(self) -> None:
        while self.app.store is None:  # the first key may come before the store is open
            await asyncio.sleep(0.05)
        try:
            teachers, students = await asyncio.to_thread(candidates.candidates, self.app.store)
        except PersynError as problem:
            self.say(f"✗ {problem}", "bad")
            return
        with suppress(NoMatches):  # it was left meanwhile, and its parts are gone
            self.query_one(TeachersStep).fill(teachers)
            self.query_one(StudentStep).fill(students)

    # From step to step

    @property
    def _step(self) -> str:
        return self._steps[-1]

    @property
    def _part(self) -> Step:
        return self.query_one(f"#{self._step}", Step)

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        if action == "start":
            return self._step == "dryrun"
        return action != "next" or self._step != "dryrun"

    def _show(self) -> None:
        self.query_one("#steps", ContentSwitcher).current = self._step
        self.paint_title()
        self.refresh_bindings()
        self.say("")
        self._part.enter()

    def action_back(self) -> None:
        if len(self._steps) == 1:
            typed = self.query_one(SettingsStep).form.touched or self._plan.teachers
            self.leave("the new job", "what you chose for it") if typed else self.dismiss(None)
            return
        self._steps.pop()
        self._show()

    def on_virtual_table_arranged(self) -> None:
        self.paint_title()

    @on(VirtualTable.Chosen)
    def _clicked(self) -> None:
        if self._step != "dryrun":
            self.action_next()

    def action_next(self) -> None:
        if not self._busy:
            self._busy = True
            background(self, partial(self._next, self.app.ahead.hold()), group="next")

    async def _next(self, release: Callable[[], None]) -> None:
        try:
            step, part = self._step, self._part
            if await part.finish() and step == self._step:
                self._steps.append(part.next if isinstance(part, WayStep) else AFTER[step])
                self._show()
        finally:
            self._busy = False
            release()

    def action_start(self) -> None:
        if not self._busy:
            self._busy = True
            background(self, self._start, group="next")

    async def _start(self) -> None:
        try:
            if self.app.store is None or self._plan.run is None or not await self._part.finish():
                return
            self.say("starting …")
            self.dismiss(await asyncio.to_thread(job_commands.start, self.app.store, self._plan.run))
        except PersynError as problem:
            self.say(f"✗ {problem}", "bad")
        finally:
            self._busy = False
