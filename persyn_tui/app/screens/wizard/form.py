"""The wizard's form: prompts, splits, strategies. It writes a run file like any other, and loads it."""

import asyncio
from collections.abc import Callable, Mapping
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, cast

from textual import on
from textual.app import ComposeResult
from textual.css.query import NoMatches
from textual.timer import Timer

from engine.base.plugins import STRATEGIES
from persyn_tui.app.base.formatting import count
from persyn_tui.app.screens.wizard import draft, references
from persyn_tui.app.screens.wizard.steps import PAUSE_S, Plan, Step
from persyn_tui.app.textual_fixes.workers import background
from persyn_tui.app.widgets.confirm import Confirm
from persyn_tui.app.widgets.form_fields import (
    Choice,
    Edited,
    Entry,
    Form,
    Line,
    Paths,
    Words,
    path_of,
    problems,
    words,
)
from storage.errors import PersynError

if TYPE_CHECKING:
    from engine.config.run_file import Run

VERIFIERS = ("none", "math", "choice", "regex", "text", "json")
GYM = ("tasks", "seed")
FILE = ("path", "verifier")
"""Fields that only the one kind of source has."""
MAY_BE_EMPTY = ("synthesis", "max_tokens")
"""Fields whose emptiness says something; of a file `size` is another."""


class SettingsStep(Step):
    """Everything of a run that is not a model."""

    TITLE = "prompts and settings"

    def __init__(self, plan: Plan, id: str) -> None:
        super().__init__(plan, id)
        self._tasks: tuple[str, ...] = ()
        self._looking: Timer | None = None
        self._references: references.References | None = None
        """Of the file that is named; None until they are read."""
        self._written: tuple[Path, str] | None = None
        """The run file that this form wrote, and its text."""

    def compose(self) -> ComposeResult:
        """The fields."""
        yield Form(_entries(), id="form")

    @property
    def form(self) -> Form:
        """The fields."""
        return self.query_one("#form", Form)

    async def on_mount(self) -> None:
        """Learns the names of all tasks."""
        self._tasks = await asyncio.to_thread(_tasks)
        with suppress(NoMatches):  # the wizard was left meanwhile
            cast(Words, cast(Line, self.form["tasks"].control).suggester).words = self._tasks
            if self.shown:
                self._settle()

    def enter(self) -> None:
        """The first field has the focus."""
        self._limits()
        self._sources()
        self.form["source"].focus_control()
        self._settle()

    async def finish(self) -> bool:
        """Whether the run file is written; asks before another one is lost."""
        await self._look()
        run = self._check()
        if run is None or not await self._count(run):
            self._to_wrong()
            return False
        return await self._write()

    # While typing

    @on(Edited)
    def _edited(self, event: Edited) -> None:
        event.stop()
        if event.key == "source":
            self._sources()
        if event.key in ("source", "path"):
            self._references = None
            self.soon_look()
        self._settle()

    def on_descendant_focus(self) -> None:
        """What is wrong with the field under the cursor is said in full."""
        self._tell()

    def _sources(self) -> None:
        gym = self.form["source"].value == "reasoning_gym"
        for key in (*GYM, *FILE):
            entry = self.form[key]
            entry.display = (key in GYM) == gym
            entry.disabled = not entry.display
        self.form["size"].hint = "prompts of each task" if gym else "at most; empty: all"

    def _limits(self) -> None:
        """What an empty field means, by the teachers that are marked."""
        own = draft.own_limits(self.plan.teachers)
        rest = "" if len(own) == len(self.plan.teachers) else f"{draft.usual_limit(self.plan.teachers):,}"
        entry = self.form["max_tokens"]
        cast(Line, entry.control).placeholder = " or ".join(
            filter(None, ["each its own" if own else "", rest])
        )
        entry.hint = f"own: {_limits(own)}" if own else "of an answer"

    def soon_look(self) -> None:
        """Looks at the reference answers once typing rests."""
        if self._looking is not None:
            self._looking.stop()
        self._looking = self.set_timer(
            PAUSE_S, lambda: background(self, self._look, group="look", exclusive=True)
        )

    async def _look(self) -> None:
        """Reads the file's first answers and chooses the verifier that fits them, unless the operator has."""
        values = self._values()
        path = path_of(values.get("path", ""))
        if values["source"] == "reasoning_gym" or self._references is not None:
            return
        try:
            if not path.is_file():
                return
            found = await asyncio.to_thread(references.look, path, values["source"])
        except (PersynError, OSError):
            return  # counting the prompts says what is wrong with the file
        if (self._values().get("path"), self._values()["source"]) != (values["path"], values["source"]):
            return
        self._references = found
        if "verifier" not in self.form.touched:
            self.form.fill("verifier", found.verifier)
        self._settle()

    def _tell(self) -> None:
        at = self.form.at
        if at is not None and at.wrong:
            self.say(f"{at.title}: {at.said}", "bad")

    def _settle(self) -> None:
        """Checks the form, and once typing rests counts what it would take."""
        run = self._check()
        if run is None:
            self.not_soon()
            self.workers.cancel_group(self, "count")  # of values that are no longer there
            self.say("enter goes to what is missing")
            self._tell()
        else:
            self.soon(lambda: background(self, partial(self._count, run), group="count", exclusive=True))

    def _values(self) -> dict[str, str]:
        return {key: entry.value for key, entry in self.form.entries.items()}

    def _check(self) -> "Run | None":
        """The run of the form, when every field is right; says what is wrong beside each that is not."""
        from pydantic import ValidationError

        from engine.base.suggest import nearest
        from engine.config.run_file import Run

        values, student = self._values(), self.plan.student
        wrong: dict[str, str] = {}
        rest: list[str] = []
        run = None
        if student is None:
            return None
        try:
            run = Run.model_validate(draft.run_file(values, self.plan.teachers, student))
        except ValidationError as error:
            wrong, rest = problems(error, draft.places(values))
        gym = values["source"] == "reasoning_gym"
        for task in words(values["tasks"]) if gym and self._tasks else ():
            if task not in self._tasks:
                guess = nearest(task, self._tasks)
                wrong["tasks"] = f"no task `{task}`" + (f"; did you mean `{guess}`?" if guess else "")
        if gym and not words(values["tasks"]):
            wrong["tasks"] = "needed: e.g. chain_sum, gcd"
        wrong |= _misplaced(values)
        # An empty field would take a default that nobody sees.
        for key, value in self.form.values.items():
            if not value and key not in MAY_BE_EMPTY and (gym or key != "size"):
                wrong[key] = wrong.get(key, "needed")
        if rest and not wrong:
            at = self.form.at.key if self.form.at is not None else ""
            split = at if at in ("validation", "evaluation", "size") else "calibration"
            wrong[split if "calibration" in rest[0] else "strategies"] = rest[0]
        for key, entry in self.form.entries.items():
            entry.say(f"✗ {wrong[key]}" if key in wrong else "", "bad" if key in wrong else "dim")
        if "max_tokens" not in wrong and (replaced := self._replaced(values)):
            self.form["max_tokens"].say(f"replaces {replaced}", "warn")
        if self._references is not None and "verifier" not in wrong:
            doubt = self._references.doubt(values.get("verifier", ""))
            self.form["verifier"].say(doubt or self._references.why, "warn" if doubt else "dim")
        return None if wrong else run

    def _replaced(self, values: Mapping[str, str]) -> str:
        """The teachers' own limits that the field takes the place of; empty where none."""
        replaced = draft.limits_replaced(values["max_tokens"], self.plan.teachers)
        return _limits(replaced, "'s")

    def _to_wrong(self) -> None:
        wrong = next((entry for entry in self.form.entries.values() if entry.wrong), None)
        if wrong is not None:
            wrong.focus_control()

    async def _count(self, run: "Run") -> bool:
        """Whether the run's prompts can be counted and shared out; says what they would take."""
        from engine.report import estimate

        try:
            found = await asyncio.to_thread(estimate.estimate, run)
        except PersynError as problem:
            key = "calibration" if problem.message.startswith("split") else "strategies"
            if problem.message.startswith("prompts"):
                key = "tasks" if self.form["tasks"].display else "path"
            self.form[key].say(f"✗ {problem.message}", "bad")
            self.say(str(problem), "bad")
            return False
        replaced = self._replaced(self._values())
        self.say(
            f"{found.n:,} prompts · all teachers {found.all.generations:,.0f} generations · "
            f"routed {found.routed.generations:,.0f}, {found.ratio:.1f} times fewer"
            # Another limit is another generation identity.
            + (
                f"\nmax tokens replaces {replaced}: answers stored with that are not used again"
                if replaced
                else ""
            ),
            "warn" if replaced else "good",
        )
        return True

    # The file

    async def _write(self) -> bool:
        from engine.config import run_file

        assert self.plan.student is not None
        text = draft.to_yaml(draft.run_file(self._values(), self.plan.teachers, self.plan.student))
        entry = self.form["file"]
        path = path_of(entry.value).absolute()
        try:
            there = path.read_text(encoding="utf-8", errors="replace") if path.exists() else None
            if (
                there not in (None, text)
                and self._written != (path, there)
                and not await self._overwrite(path, there)
            ):
                entry.focus_control()
                entry.say("✗ this file exists: another name?", "bad")
                return False
            await asyncio.to_thread(draft.write, path, text)
            self._written = (path, text)
            self.plan.run = await asyncio.to_thread(run_file.load, path)
        except (OSError, PersynError) as problem:
            entry.focus_control()
            entry.say(f"✗ {problem}", "bad")
            self.say(str(problem), "bad")
            return False
        return True

    async def _overwrite(self, path: Path, there: str | None) -> bool:
        return await self.app.push_screen_wait(
            Confirm(
                f"Overwrite {path.name}?",
                f"Lost is what {path} holds now: {count(len(there or ''))} characters.",
                "Overwrite",
            )
        )


def _limits(limits: Mapping[str, int], of: str = "") -> str:
    return ", ".join(f"{name}{of} {limit:,}" for name, limit in limits.items())


def _misplaced(values: Mapping[str, str]) -> dict[str, str]:
    """What is wrong with the places that the fields name."""

    def holds(question: Callable[[], bool]) -> bool:
        try:
            return question()
        except OSError:  # a name that is too long, a folder that may not be looked into
            return False

    wrong: dict[str, str] = {}
    if values["source"] != "reasoning_gym" and values["path"] and not holds(path_of(values["path"]).is_file):
        wrong["path"] = "no such file"
    if values["file"]:
        file = path_of(values["file"]).absolute()
        if not holds(file.parent.is_dir):
            wrong["file"] = "no such folder"
        elif holds(file.is_dir):
            wrong["file"] = "a folder: add a file name"
    return wrong


def _entries() -> list[Entry]:
    return [
        Entry(
            "source",
            "prompts from",
            Choice(("reasoning_gym", *draft.FILES), "reasoning_gym"),
            "← → change it",
        ),
        Entry("tasks", "tasks", Line("", "", Words()), "with commas; tab completes"),
        Entry(
            "path",
            "file",
            Line("", "", Paths(suffixes=tuple(f".{kind}" for kind in draft.FILES))),
            "a prompt a row",
        ),
        Entry(
            "verifier",
            "verified as",
            Choice(VERIFIERS, "none"),
            "chosen by the file's answers; ← → change it",
        ),
        Entry("size", "size", Line("500")),
        Entry("seed", "seed", Line("0"), "of the tasks"),
        Entry("calibration", "calibration", Line("100"), "prompts that all teachers answer"),
        Entry("validation", "validation", Line("50"), "the router is measured on them"),
        Entry("evaluation", "evaluation", Line("200"), "the student is measured on them"),
        Entry("synthesis", "synthesis", Line("", "all others"), "prompts that one teacher answers"),
        Entry(
            "strategies",
            "strategies",
            Line("persyn, random", "", Words(STRATEGIES.names())),
            "to compare; tab completes",
        ),
        Entry("alpha", "α", Line("0.4"), "0 quality … 1 learnability"),
        Entry("max_tokens", "max tokens", Line(""), "of an answer"),
        Entry("epochs", "epochs", Line("2"), "of the student's training"),
        Entry("name", "run name", Line("run"), "what Jobs calls it"),
        Entry(
            "file",
            "write to",
            Line("run.yaml", "", Paths(suffixes=(".yaml", ".yml"))),
            "the run file this form makes",
        ),
    ]


def _tasks() -> tuple[str, ...]:
    """Names of all reasoning_gym tasks; a second the first time."""
    from reasoning_gym.factory import DATASETS

    return tuple(sorted(DATASETS))
