"""The wizard's steps that choose: a run file, teachers, a student; and the one that shows the dry run."""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, ClassVar, cast

from rich.cells import cell_len
from textual import on
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical, VerticalScroll
from textual.timer import Timer
from textual.widgets import ContentSwitcher, Static

from engine.printing import printable
from persyn_tui.app.forms import Dialog, Edited, Entry, Form, Line, Paths, path_of
from persyn_tui.app.sheet import Cell, Column, Listed, Sheet, Tone
from persyn_tui.app.text import count, number
from persyn_tui.app.wizard import runfiles
from persyn_tui.app.wizard.draft import Candidate
from storage.errors import PersynError

if TYPE_CHECKING:
    from engine.config import Run
    from engine.reporting.estimate import Estimate
    from storage.store import Store

PAUSE_S = 0.25
"""Typing must rest so long before a file is read or a run is counted."""
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
TOTALS = (
    Column(""),
    Column("generations", 11, right=True),
    Column("tokens", 15, right=True),
    Column("cost", 13, right=True),
    Column("time", 13, right=True),
)
TOTALS_LEFT = (
    Column(""),
    Column("stored", 17, right=True),
    Column("left", 11, right=True),
    Column("tokens", 13, right=True, drop=1),
    Column("cost", 13, right=True),
    Column("time", 11, right=True),
)
TEACHERS = (
    Column("teacher"),
    Column("all", 9, right=True),
    Column("routed", 9, right=True),
    Column("$ all", 9, right=True, drop=1),
    Column("$ routed", 9, right=True, drop=2),
    Column("time all", 9, right=True, drop=3),
    Column("time routed", 11, right=True, drop=4),
)


@dataclass(slots=True)
class Plan:
    """What the steps have come to."""

    teachers: list[Candidate] = field(default_factory=list)
    student: Candidate | None = None
    run: "Run | None" = None
    """Loaded from a run file."""


class Pick(Sheet):
    """A list of the wizard: enter is the wizard's, and its first cell shows the marks."""

    MARK = " "
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("space", "mark", "Mark", id="wizard.mark"),
    ]

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        """Enter goes on; space marks where there is something to mark."""
        return action != "choose" and (action != "mark" or self._markable)

    class Marked(Sheet.Highlighted):
        """A mark was set or taken away."""

    def action_mark(self) -> None:
        """Marks the row under the cursor or takes its mark away, and tells; the cursor stays."""
        if self.key is not None:
            self.marked ^= {self.key}
            self.refresh()
            self.post_message(self.Marked(self, self.key))


class Still(Sheet, can_focus=False):
    """A table to read, on a page that scrolls: no cursor, and all of its rows."""

    def show(
        self,
        columns: Sequence[Column],
        rows: Sequence[tuple[str, ...]],
        cells: Callable[[tuple[str, ...]], Sequence[Cell | str]],
    ) -> None:
        """Shows these rows. They do not change, so a column may be as wide as its widest text."""
        self.display = bool(rows)
        self.styles.height = len(rows) + 1
        self.set_columns(
            [
                replace(column, width=max([column.width, *(cell_len(row[place]) for row in rows)]))
                if column.width
                else column
                for place, column in enumerate(columns)
            ]
        )
        self.update(Listed([(row[0], cells(row)) for row in rows]))


class Page(VerticalScroll):
    """What is longer than the screen, to be read from its beginning to its end."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("j,down", "scroll_down", "Down", show=False, id="page.down"),
        Binding("k,up", "scroll_up", "Up", show=False, id="page.up"),
        Binding("pagedown,ctrl+f,space", "page_down", "Page down", show=False, id="page.page_down"),
        Binding("pageup", "page_up", "Page up", show=False, id="page.page_up"),
        Binding("g,home", "scroll_home", "Beginning", show=False, id="page.top"),
        Binding("G,end", "scroll_end", "End", show=False, id="page.bottom"),
    ]


class Step(Vertical):
    """One step. The wizard shows it, and leaves it for the next when it is finished."""

    TITLE: ClassVar[str]

    def __init__(self, plan: Plan, id: str) -> None:
        super().__init__(id=id)
        self.plan = plan
        self._timer: Timer | None = None

    def enter(self) -> None:
        """The step is on the screen: takes the focus and says what is wanted."""
        raise NotImplementedError

    async def finish(self) -> bool:
        """Whether the plan has what this step is for; else says what is missing."""
        raise NotImplementedError

    @property
    def shown(self) -> bool:
        """Whether it is the step on the screen."""
        return cast(ContentSwitcher, self.parent).current == self.id

    @property
    def dialog(self) -> "Dialog[Any]":
        """The wizard."""
        return cast("Dialog[Any]", self.screen)

    def say(self, text: str, tone: Any = "dim") -> None:
        """Says something below the step, while it is on the screen."""
        if self.shown:
            self.dialog.say(text, tone)

    def soon(self, action: Callable[[], object]) -> None:
        """Does something once typing rests."""
        self.not_soon()
        self._timer = self.set_timer(PAUSE_S, lambda: None if self.dialog.left else action())

    def not_soon(self) -> None:
        """Gives up what `soon` was to do."""
        if self._timer is not None:
            self._timer.stop()
            self._timer = None


class WayStep(Step):
    """From a run file, or from a form."""

    TITLE = "how"
    WAYS = (
        ("file", "open a run file", "a YAML file that is here already, or an example"),
        ("teachers", "fill in a form", "teachers, a student, prompts; it writes a run file"),
    )

    def compose(self) -> ComposeResult:
        """The two ways."""
        yield Static("How shall the job be made?", classes="lead")
        yield Pick((Column("", 16), Column("")), id="ways")

    def on_mount(self) -> None:
        """Lists them."""
        rows = [(step, (Cell(what, "strong"), Cell(about, "dim"))) for step, what, about in self.WAYS]
        self.query_one("#ways", Sheet).update(Listed(rows))

    def enter(self) -> None:
        """The list has the focus."""
        self.query_one("#ways").focus()

    async def finish(self) -> bool:
        """Either way is right."""
        return True

    @property
    def next(self) -> str:
        """The step that the chosen way begins with."""
        return str(self.query_one("#ways", Sheet).key)


class FileStep(Step):
    """A path, checked while it is typed, above the run files in reach."""

    TITLE = "run file"

    def __init__(self, plan: Plan, id: str) -> None:
        super().__init__(plan, id)
        self._files: list[tuple[str, str]] = []
        self._read = ""
        """The path that the plan's run was read from."""

    def compose(self) -> ComposeResult:
        """Field, verdict, list."""
        yield Form([Entry("path", "run file", Line("", "", Paths(suffixes=(".yaml", ".yml"))))])
        yield Static(id="verdict", markup=False)
        yield Pick((Column("run file", 38), Column("what it says of itself")), id="files")

    async def on_mount(self) -> None:
        """Looks for run files."""
        self._files = await asyncio.to_thread(runfiles.in_reach)
        self._list()

    def enter(self) -> None:
        """The field has the focus."""
        self.entry.focus_control()
        self._judge()

    async def finish(self) -> bool:
        """Whether the file is a valid run file. Of a part of a path, the only file listed is meant."""
        if not self._files:
            self._files = await asyncio.to_thread(runfiles.in_reach)
        typed, meant = self.entry.value, self._matching()
        if typed and len(meant) == 1 and not await asyncio.to_thread(path_of(typed).is_file):
            self.query_one(Form).fill("path", meant[0][0])
        if await self._load():
            return True
        self.entry.focus_control()
        return False

    @property
    def entry(self) -> Entry:
        """The field of the path."""
        return self.query_one(Form)["path"]

    def _matching(self) -> list[tuple[str, str]]:
        """The run files in reach whose path holds what was typed; all where it is one of them."""
        typed = self.entry.value
        exact = any(path == typed for path, _ in self._files)
        return [(path, about) for path, about in self._files if exact or typed in path]

    def _list(self) -> None:
        rows = [(path, (path, Cell(about, "dim"))) for path, about in self._matching()]
        self.query_one("#files", Sheet).update(Listed(rows))

    @on(Edited)
    def _edited(self, event: Edited) -> None:
        event.stop()
        self._list()
        if self.entry.value != self._read:
            self.plan.run = None
            self.soon(self._judge)

    @on(Sheet.Highlighted, "#files")
    def _offer(self, event: Sheet.Highlighted) -> None:
        if self.query_one("#files").has_focus:
            self._take(event.key)

    def on_descendant_focus(self) -> None:
        """Going down into the list takes the run file under the cursor."""
        if self.query_one("#files").has_focus:
            self._take(self.query_one("#files", Sheet).key)

    def _take(self, path: object) -> None:
        if path is not None and path != self.entry.value:
            self.query_one(Form).fill("path", str(path))
            self.plan.run = None
            self.soon(self._judge)

    def _judge(self) -> None:
        self.run_worker(self._load(), group="judge", exclusive=True)

    async def _load(self) -> bool:
        """Reads the file named in the field, and says beside and below it what is wrong."""
        from engine import config
        from engine.models import registry

        verdict, path = self.query_one("#verdict", Static), self.entry.value
        verdict.set_classes("")
        if not path:
            self.entry.say("tab completes, ↓ lists")
            verdict.update("")
            return False
        try:
            store = self.dialog.app.store
            known = None if store is None else registry.saved(store.location)
            self.plan.run = await asyncio.to_thread(config.load, path_of(path), known)
            self._read = path
        except PersynError as problem:
            self.plan.run, self._read = None, ""
            self.entry.say("✗ cannot be used yet", "bad")
            verdict.update(printable(str(problem)))
            verdict.set_classes("bad")
            return False
        self.entry.say("✓ a valid run file", "good")
        verdict.update(printable(_about(self.plan.run)))
        verdict.set_classes("good")
        return True


class TeachersStep(Step):
    """Any number of teachers, by marks."""

    TITLE = "teachers"

    def __init__(self, plan: Plan, id: str) -> None:
        super().__init__(plan, id)
        self._candidates: list[Candidate] | None = None
        """None until they are read, which the operator may be faster than."""

    def compose(self) -> ComposeResult:
        """The list."""
        yield Static("Which teachers may answer? The router chooses among two or more.", classes="lead")
        yield Pick(MODELS, id="teacher-list", markable=True)

    def fill(self, candidates: list[Candidate]) -> None:
        """Offers these."""
        self._candidates = candidates
        self.query_one("#teacher-list", Sheet).update(Listed([_row(one, " ") for one in candidates]))
        self._tell()

    def enter(self) -> None:
        """The list has the focus."""
        self.query_one("#teacher-list").focus()
        self._tell()

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
        sheet, candidates = event.sheet, self._candidates or []
        refused = next((one for one in candidates if one.key == event.key and one.trouble), None)
        if refused is not None:
            sheet.marked.discard(refused.key)
        sheet.update(Listed([_row(one, "✓" if one.key in sheet.marked else " ") for one in candidates]))
        self.plan.teachers = [one for one in candidates if one.key in sheet.marked]
        self._tell()
        if refused is not None:
            self.say(f"✗ {refused.name} cannot be used: {refused.trouble}", "bad")

    def _tell(self) -> None:
        names = [one.name for one in self.plan.teachers]
        if self._candidates is None:
            self.say("the models are being read …")
        else:
            more = "; mark another" if 0 < len(names) < LEAST else ""
            self.say(
                f"{len(names)} marked: {', '.join(names)}{more}" if names else "space marks, enter goes on"
            )


class StudentStep(Step):
    """One student, by the cursor."""

    TITLE = "student"

    def __init__(self, plan: Plan, id: str) -> None:
        super().__init__(plan, id)
        self._candidates: list[Candidate] = []

    def compose(self) -> ComposeResult:
        """The list."""
        yield Static("Which student learns from them?", classes="lead")
        yield Pick(MODELS, id="student-list")

    def fill(self, candidates: list[Candidate]) -> None:
        """Offers these."""
        self._candidates = candidates
        self.query_one("#student-list", Sheet).update(Listed([_row(one, " ") for one in candidates]))

    def enter(self) -> None:
        """The list has the focus."""
        self.query_one("#student-list").focus()
        self.say("enter takes the one under the cursor")

    async def finish(self) -> bool:
        """Whether there is one under the cursor that can be used."""
        key = self.query_one("#student-list", Sheet).key
        chosen = next((one for one in self._candidates if one.key == key), None)
        if chosen is not None and chosen.trouble:
            self.say(f"✗ {chosen.name} cannot be used: {chosen.trouble}", "bad")
            return False
        self.plan.student = chosen
        return chosen is not None


class DryRunStep(Step):
    """What the run would take, and whether anything stands in its way."""

    TITLE = "dry run"

    def compose(self) -> ComposeResult:
        """Sums, tables, assumptions."""
        with Page(id="page"):
            yield Static(id="sums", markup=False)
            yield Still(TOTALS, id="totals")
            yield Still(TEACHERS, id="per-teacher")
            yield Static(id="assumed", markup=False)

    def enter(self) -> None:
        """Counts."""
        self.query_one("#page").focus()
        self.trouble = "the dry run is not finished"
        self.say("counting …")
        self.run_worker(self._estimate(), group="dry", exclusive=True)

    async def finish(self) -> bool:
        """Whether the job can be started."""
        if self.trouble:
            self.say(f"✗ {self.trouble}", "bad")
        return not self.trouble

    async def _estimate(self) -> None:
        from engine.reporting import dryrun

        run = self.plan.run
        if run is None:
            return
        found, self.trouble = await asyncio.to_thread(
            _dry_run, run, cast("Dialog[Any]", self.screen).app.store
        )
        totals = dryrun.totals(found) if found else []
        teachers = dryrun.per_teacher(found) if found else []
        said = (
            "\n".join(
                [
                    dryrun.summary(found),
                    dryrun.formulas(found),
                    *dryrun.already(found),
                    *dryrun.judged(found),
                ]
            )
            if found
            else ""
        )
        if found and found.speed_unknown:
            said += f"\n{printable(dryrun.unknown_time(found))}"
        self.query_one("#sums", Static).update(said)
        columns = TOTALS if found is None or found.left is None else TOTALS_LEFT
        self.query_one("#totals", Still).show(columns, totals, _strong)
        self.query_one("#per-teacher", Still).show(TEACHERS, teachers, list)
        lines = [f"assumed: {line}" for line in found.assumptions] if found else []
        self.query_one("#assumed", Static).update(printable("\n".join(lines)))
        self.call_after_refresh(self._conclude)

    def _conclude(self) -> None:
        """Says whether it can be started, once it is known whether all of the page is seen."""
        more = " · j: there is more below" if self.query_one("#page").max_scroll_y else ""
        if self.trouble:
            self.say(f"✗ {self.trouble}{more}", "bad")
        else:
            self.say(f"enter starts it in the background; it outlives this terminal{more}", "good")


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


def _strong(row: tuple[str, ...]) -> list[Cell | str]:
    """The two ways that the method compares stand out from the strategies."""
    return [Cell(text, "strong" if row[0] in ("all teachers", "routed") else "plain") for text in row]


def _dry_run(run: "Run", store: "Store | None") -> "tuple[Estimate | None, str]":
    """(what it takes, why it cannot be started)."""
    from engine import preflight
    from engine.answers import speeds
    from engine.reporting import estimate, stored

    found = None
    try:
        found = (
            estimate.estimate(run)
            if store is None
            else estimate.estimate(run, speeds.of_run(store, run), stored.of_run(store, run))
        )
        preflight.check(run)
    except PersynError as problem:
        return found, str(problem)
    return found, ""


def _about(run: "Run") -> str:
    return (
        f"{run.name}: {len(run.teachers)} teachers ({', '.join(one.name for one in run.teachers)}) → "
        f"{run.student.name} · {len(run.prompts)} prompt source{'' if len(run.prompts) == 1 else 's'} · "
        f"strategies {', '.join(run.strategies)} · α {run.reward.alpha:g}"
    )
