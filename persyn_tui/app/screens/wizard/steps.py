"""The wizard's steps that choose: a run file, teachers, a student."""

import asyncio
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, ClassVar, cast

from textual import on
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical
from textual.css.query import NoMatches
from textual.widgets import ContentSwitcher, Static

from engine.config.run_file import Run
from engine.registry import run_files as registered_run_files
from engine.registry.candidates import Candidate
from persyn_tui.app.base.formatting import count, number
from persyn_tui.app.screens.wizard import run_files
from persyn_tui.app.textual_fixes.workers import background
from persyn_tui.app.widgets.form_fields import Dialog, Edited, Entry, Form, Line, Paths, path_of
from persyn_tui.app.widgets.message_bar import Remark
from persyn_tui.app.widgets.virtual_table import Cell, Column, Listed, Tone, VirtualTable
from storage.errors import PersynError

LEAST = 2
"""Teachers that a router chooses among."""
MODELS = (
    Column("", 1),
    Column("name", 18),
    Column("family", 12, drop=2),
    Column("size", 7, right=True),
    Column("context", 8, right=True, drop=3),
    Column("model"),
    Column("from", 10, drop=1),
)


@dataclass(slots=True)
class Plan:
    """What the steps have come to."""

    teachers: list[Candidate] = field(default_factory=list)
    student: Candidate | None = None
    run: Run | None = None
    """Loaded from a run file."""


class Pick(VirtualTable):
    """A list of the wizard: enter is the wizard's, and its first cell shows the marks."""

    MARK = " "
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("space", "mark", "Mark", id="wizard.mark"),
    ]

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        """Enter goes on; space marks where there is something to mark."""
        return action != "choose" and (action != "mark" or self._markable)

    class Marked(VirtualTable.Highlighted):
        """A mark was set or taken away."""

    def action_mark(self) -> None:
        """Marks the row under the cursor or takes its mark away, and tells; the cursor stays."""
        if self.key is not None:
            self.marked ^= {self.key}
            self.refresh()
            self.post_message(self.Marked(self, self.key))


class Step(Vertical):
    """One step. The wizard shows it, and leaves it for the next when it is finished."""

    TITLE: ClassVar[str]

    def __init__(self, plan: Plan, id: str) -> None:
        super().__init__(id=id)
        self.plan = plan

    def enter(self) -> None:
        """The step is on the screen: takes the focus and says what is wanted."""
        raise NotImplementedError

    async def finish(self) -> bool:
        """Whether the plan has what this step is for; else says what is missing."""
        raise NotImplementedError

    @property
    def shown(self) -> bool:
        return cast(ContentSwitcher, self.parent).current == self.id

    @property
    def dialog(self) -> Dialog[Any]:
        return cast(Dialog[Any], self.screen)

    def say(self, text: str, tone: Tone = "dim") -> None:
        """Says something below the step, while it is on the screen."""
        if self.shown:
            self.dialog.say(text, tone)


class WayStep(Step):
    """From a run file, or from a form."""

    TITLE = "how"
    WAYS = (
        ("file", "open a run file", "a YAML file that is here already, or an example"),
        ("teachers", "fill in a form", "teachers, a student, prompts; it writes a run file"),
    )

    def compose(self) -> ComposeResult:
        yield Static("How shall the job be made?", classes="lead")
        rows = [(step, (Cell(what, "strong"), Cell(about, "dim"))) for step, what, about in self.WAYS]
        yield Pick((Column("", 16), Column("")), Listed(rows), id="ways")

    def enter(self) -> None:
        self.query_one("#ways").focus()

    async def finish(self) -> bool:
        return True

    @property
    def next(self) -> str:
        return str(self.query_one("#ways", VirtualTable).key)


class FileStep(Step):
    """A path, checked while it is typed, above the run files in reach."""

    TITLE = "run file"

    def __init__(self, plan: Plan, id: str) -> None:
        super().__init__(plan, id)
        self._files: list[tuple[str, str]] = []
        self._read = ""
        """The path that the plan's run was read from."""

    def compose(self) -> ComposeResult:
        yield Form([Entry("path", "run file", Line("", "", Paths(suffixes=(".yaml", ".yml"))))])
        yield Remark(id="verdict")
        yield Pick((Column("run file", 38), Column("what it says of itself")), id="files")

    async def on_mount(self) -> None:
        self._files = await asyncio.to_thread(run_files.in_reach)
        with suppress(NoMatches):  # the wizard was left meanwhile
            self._list()

    def enter(self) -> None:
        self.entry.control.focus()
        background(self.dialog, self._load, group="judge", exclusive=True)

    async def finish(self) -> bool:
        """Whether the file is a valid run file. Of a part of a path, the only file listed is meant."""
        if not self._files:
            self._files = await asyncio.to_thread(run_files.in_reach)
        typed, meant = self.entry.value, self._matching()
        if typed and len(meant) == 1 and not await asyncio.to_thread(path_of(typed).is_file):
            self.query_one(Form).fill("path", meant[0][0])
        if await self._load():
            return True
        self.entry.control.focus()
        return False

    @property
    def entry(self) -> Entry:
        return self.query_one(Form)["path"]

    def _matching(self) -> list[tuple[str, str]]:
        """The run files in reach whose path holds what was typed; all where it is one of them."""
        typed = self.entry.value
        exact = any(path == typed for path, _ in self._files)
        return [(path, about) for path, about in self._files if exact or typed in path]

    def _list(self) -> None:
        rows = [(path, (path, Cell(about, "dim"))) for path, about in self._matching()]
        self.query_one("#files", VirtualTable).fill(rows)

    @on(Edited)
    def _edited(self, event: Edited) -> None:
        event.stop()
        self._list()
        if self.entry.value != self._read:
            self.plan.run = None
            self.dialog.soon(self._load, "judge")

    @on(VirtualTable.Highlighted, "#files")
    def _offer(self, event: VirtualTable.Highlighted) -> None:
        if self.query_one("#files").has_focus:
            self._take(event.key)

    def on_descendant_focus(self) -> None:
        if self.query_one("#files").has_focus:
            self._take(self.query_one("#files", VirtualTable).key)

    def _take(self, path: object) -> None:
        if path is not None and path != self.entry.value:
            self.query_one(Form).fill("path", str(path))
            self.plan.run = None
            self.dialog.soon(self._load, "judge")

    async def _load(self) -> bool:
        """Reads the file named in the field, and says beside and below it what is wrong."""
        verdict, path = self.query_one("#verdict", Remark), self.entry.value
        if not path:
            self.entry.say("tab completes, ↓ lists")
            verdict.say("")
            return False
        try:
            store = self.dialog.app.store
            location = None if store is None else store.location
            self.plan.run = await asyncio.to_thread(registered_run_files.load, path_of(path), location)
            self._read = path
        except PersynError as problem:
            self.plan.run, self._read = None, ""
            self.entry.say("✗ cannot be used yet", "bad")
            verdict.say(str(problem), "bad")
            return False
        self.entry.say("✓ a valid run file", "good")
        verdict.say(_about(self.plan.run), "good")
        return True


class ModelsStep(Step):
    """A question, and the models that may be its answer."""

    LEAD: ClassVar[str]
    MARKABLE: ClassVar[bool] = False

    def __init__(self, plan: Plan, id: str) -> None:
        super().__init__(plan, id)
        self.candidates: list[Candidate] | None = None
        """None until they are read, which the operator may be faster than."""

    def compose(self) -> ComposeResult:
        yield Static(self.LEAD, classes="lead")
        yield Pick(MODELS, id=f"{self.id}-list", markable=self.MARKABLE)

    @property
    def sheet(self) -> Pick:
        return self.query_one(Pick)

    def fill(self, candidates: list[Candidate]) -> None:
        self.candidates = candidates
        self.sheet.fill([_row(one, " ") for one in candidates])
        self.tell()

    def enter(self) -> None:
        self.sheet.focus()
        self.tell()

    def tell(self) -> None:
        """Says how to choose, or what is chosen."""
        raise NotImplementedError


class TeachersStep(ModelsStep):
    """Any number of teachers, by marks."""

    TITLE = "teachers"
    LEAD = "Which teachers may respond? The router chooses among two or more."
    MARKABLE = True

    async def finish(self) -> bool:
        """Whether a router has a choice. A run of one teacher, without a router, is made in a run file."""
        if not self.plan.teachers:
            self.say("✗ no teacher is marked: space marks the one under the cursor", "bad")
        elif len(self.plan.teachers) < LEAST:
            self.say(
                f"✗ only {self.plan.teachers[0].name} is marked, and a router needs two: space marks another. "
                "A run of one teacher is made in a run file, with `strategies: [strong]`",
                "bad",
            )
        return len(self.plan.teachers) >= LEAST

    @on(Pick.Marked)
    def _marked(self, event: Pick.Marked) -> None:
        sheet, candidates = event.table, self.candidates or []
        refused = next((one for one in candidates if one.key == event.key and one.trouble), None)
        if refused is not None:
            sheet.marked.discard(refused.key)
        sheet.fill([_row(one, "✓" if one.key in sheet.marked else " ") for one in candidates])
        self.plan.teachers = [one for one in candidates if one.key in sheet.marked]
        self.tell()
        if refused is not None:
            self.say(f"✗ {refused.name} cannot be used: {refused.trouble}", "bad")

    def tell(self) -> None:
        names = [one.name for one in self.plan.teachers]
        if self.candidates is None:
            self.say("the models are being read …")
        else:
            more = "; mark another" if 0 < len(names) < LEAST else ""
            self.say(
                f"{len(names)} marked: {', '.join(names)}{more}" if names else "space marks, enter goes on"
            )


class StudentStep(ModelsStep):
    """One student, by the cursor."""

    TITLE = "student"
    LEAD = "Which student learns from them?"

    def tell(self) -> None:
        self.say("enter takes the one under the cursor")

    async def finish(self) -> bool:
        chosen = next((one for one in self.candidates or () if one.key == self.sheet.key), None)
        if chosen is not None and chosen.trouble:
            self.say(f"✗ {chosen.name} cannot be used: {chosen.trouble}", "bad")
            return False
        self.plan.student = chosen
        return chosen is not None


def _row(one: Candidate, mark: str) -> tuple[tuple[str, str], list[Cell | str]]:
    tone: Tone = "dim" if one.trouble else "plain"
    cells: list[Cell | str] = [
        Cell("✗", "bad") if one.trouble else Cell(mark, "good"),
        Cell(one.name, tone),
        Cell(str(one.entry.get("family", "–")), tone),
        Cell(number(one.parameters), tone),
        Cell(count(one.context), tone),
        Cell(one.trouble or str(one.entry["model"]), "warn" if one.trouble else "plain"),
        Cell(one.origin, "dim"),
    ]
    return one.key, cells


def _about(run: Run) -> str:
    return (
        f"{run.name}: {len(run.teachers)} teachers ({', '.join(one.name for one in run.teachers)}) → "
        f"{run.student.name} · {len(run.prompts)} prompt source{'' if len(run.prompts) == 1 else 's'} · "
        f"strategies {', '.join(run.strategies)} · α {run.reward.alpha:g}"
    )
