"""The wizard's form: prompts, splits, strategies. It writes a run file like any other, and loads it."""

import asyncio
from collections.abc import Callable, Mapping
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import cast

from pydantic import ValidationError
from textual import on
from textual.app import ComposeResult
from textual.css.query import NoMatches

from engine.base.suggest import hint
from engine.config.run_file import Run
from engine.config.setting import Setting
from engine.registry import new_run, run_file_writer, run_files
from engine.report import estimate
from engine.sources import files
from persyn_tui.app.base.formatting import count
from persyn_tui.app.screens.wizard import questions, references
from persyn_tui.app.screens.wizard.questions import FILE, LONGEST, PATH, SCORER, SIZE, SOURCE, TASK, VERIFIER
from persyn_tui.app.screens.wizard.steps import Plan, Step
from persyn_tui.app.textual_fixes.workers import background
from persyn_tui.app.widgets import setting_fields
from persyn_tui.app.widgets.confirm import Confirm
from persyn_tui.app.widgets.form_fields import Edited, Form, Line, Words, path_of, problems, words
from storage.errors import PersynError


class SettingsStep(Step):
    """Everything of a run that is not a model."""

    TITLE = "prompts and settings"

    def __init__(self, plan: Plan, id: str) -> None:
        super().__init__(plan, id)
        self._asked: Mapping[str, Setting] = {}
        """The settings that are asked for now."""
        self._tasks: tuple[str, ...] = ()
        self._references: references.References | None = None
        """Of the file that is named; None until they are read."""
        self._written: tuple[Path, str] | None = None
        """The run file that this form wrote, and its text."""

    def compose(self) -> ComposeResult:
        yield Form(questions.entries(), id="form")

    @property
    def form(self) -> Form:
        return self.query_one("#form", Form)

    def on_mount(self) -> None:
        # Not awaited: the wizard, and the app before it, would hear nothing until this message is handled.
        background(self, self._name_tasks, group="tasks")

    async def _name_tasks(self) -> None:
        self._tasks = await asyncio.to_thread(_tasks)
        with suppress(NoMatches):  # the wizard was left meanwhile
            cast(Words, cast(Line, self.form[TASK].control).suggester).words = self._tasks
            if self.shown:
                self._settle()

    def enter(self) -> None:
        self._show()
        self.form[SOURCE].control.focus()
        self._settle()

    async def finish(self) -> bool:
        """Whether the run file is written; asks before another one is lost."""
        await self._look()
        run = self._check()
        if run is None or not await self._count(run):
            self.form.to_wrong()
            return False
        return await self._write()

    # While typing

    @on(Edited)
    def _edited(self, event: Edited) -> None:
        event.stop()
        if event.key in (SOURCE, SCORER, "strategies"):
            self._show()
        if event.key in (SOURCE, PATH):
            self._references = None
            self.dialog.soon(self._look, "look")
        if event.key == "name" and FILE not in self.form.touched:
            self.form.fill(FILE, questions.file_of(self.form["name"].value))
        self._settle()

    def on_descendant_focus(self) -> None:
        self._tell()

    def _show(self) -> None:
        """Shows the fields of what is chosen; what an empty limit means depends on the teachers that are marked."""
        self._asked = questions.chosen(self._values())
        setting_fields.show(self.form, self._asked, (FILE,), questions.field)
        own = new_run.own_limits(self.plan.teachers)
        rest = "" if len(own) == len(self.plan.teachers) else f"{new_run.usual_limit(self.plan.teachers):,}"
        entry = self.form[LONGEST]
        cast(Line, entry.control).placeholder = " or ".join(
            filter(None, ["each its own" if own else "", rest])
        )
        entry.hint = f"own: {_limits(own)}" if own else entry.hint

    @property
    def _from_file(self) -> bool:
        return questions.of_file(self.form[SOURCE].value)

    async def _look(self) -> None:
        """Reads the file's first answers and chooses the verifier that fits them, unless the operator has."""
        values = self._values()
        path = path_of(values.get(PATH, ""))
        if not self._from_file or self._references is not None:
            return
        try:
            if not path.exists() and not files.is_pattern(str(path)):
                return
            found = await asyncio.to_thread(references.look, path, values[SOURCE])
        except (PersynError, OSError):
            return  # counting the prompts says what is wrong with the file
        if any(self.form[key].value != values[key] for key in (PATH, SOURCE)):
            return
        self._references = found
        if VERIFIER not in self.form.touched:
            self.form.fill(VERIFIER, found.verifier)
        self._settle()

    def _tell(self) -> bool:
        """Says what is wrong with the field under the cursor; whether anything is."""
        at = self.form.at
        if at is None or not at.wrong:
            return False
        self.say(f"{at.title}: {at.said}", "bad")
        return True

    def _settle(self) -> None:
        """Checks the form, and once typing rests counts what it would take."""
        run = self._check()
        if run is None:
            self.workers.cancel_group(self.dialog, "count")  # of values that are no longer there
            if not self._tell():  # saying both would lay the screen out twice for each key
                self.say("enter goes to what is missing")
        else:
            self.dialog.soon(partial(self._count, run), "count")

    def _values(self) -> dict[str, str]:
        return {key: entry.value for key, entry in self.form.entries.items()}

    def _check(self) -> Run | None:
        """The run of the form, when every field is right; says what is wrong beside each that is not."""
        values, student = self._values(), self.plan.student
        if student is None:
            return None
        wrong: dict[str, str] = {}
        rest: list[str] = []
        run = None
        try:
            run = Run.model_validate(questions.run_file(values, self._asked, self.plan.teachers, student))
        except ValidationError as error:
            wrong, rest = problems(error, questions.places(values, self._asked))
        wrong |= self._misplaced(values) | self._unknown_tasks(values)
        for key, one in self._asked.items():
            if not values[key] and questions.needed(one):
                wrong[key] = wrong.get(key, "needed")
        if rest and not wrong:
            wrong[self._where(rest[0])] = rest[0]
        for key, entry in self.form.entries.items():
            entry.say(f"✗ {wrong[key]}" if key in wrong else "", "bad" if key in wrong else "dim")
        if LONGEST not in wrong and (replaced := self._replaced(values)):
            self.form[LONGEST].say(f"replaces {replaced}", "warn")
        if self._references is not None and VERIFIER not in wrong:
            doubt = self._references.doubt(values[VERIFIER])
            self.form[VERIFIER].say(doubt or self._references.why, "warn" if doubt else "dim")
        return None if wrong else run

    def _where(self, problem: str) -> str:
        """The field that a problem of the whole run file is said beside."""
        at = self.form.at.key if self.form.at is not None else ""
        if "calibration" not in problem:
            return "strategies"
        return at if at in ("split.validation", "split.evaluation", SIZE) else "split.calibration"

    def _unknown_tasks(self, values: Mapping[str, str]) -> dict[str, str]:
        tasks = words(values[TASK])
        if TASK not in self._asked:
            return {}
        if not tasks:
            return {TASK: "needed: e.g. chain_sum, gcd"}
        unknown = next((task for task in tasks if self._tasks and task not in self._tasks), None)
        if unknown is None:
            return {}
        return {TASK: f"no task `{unknown}`{hint(unknown, self._tasks)}"}

    def _misplaced(self, values: Mapping[str, str]) -> dict[str, str]:
        """What is wrong with the places that the fields name."""

        def holds(question: Callable[[], bool]) -> bool:
            try:
                return question()
            except OSError:  # a name that is too long, a folder that may not be looked into
                return False

        wrong: dict[str, str] = {}
        named = path_of(values[PATH]) if self._from_file and values[PATH] else None
        if named is not None and not holds(named.exists) and not files.is_pattern(str(named)):
            wrong[PATH] = "no such file"
        file = path_of(values[FILE]).absolute()
        if not values[FILE]:
            wrong[FILE] = "needed"
        elif not holds(file.parent.is_dir):
            wrong[FILE] = "no such folder"
        elif holds(file.is_dir):
            wrong[FILE] = "a folder: add a file name"
        return wrong

    def _replaced(self, values: Mapping[str, str]) -> str:
        """The teachers' own limits that the field takes the place of; empty where none."""
        typed = setting_fields.filled(values, [self._asked[LONGEST]]).get("generation", {}).get("max_tokens")
        return _limits(new_run.limits_replaced(typed, self.plan.teachers), "'s")

    async def _count(self, run: Run) -> bool:
        """Whether the run's prompts can be counted and shared out; says what they would take."""
        try:
            found = await asyncio.to_thread(estimate.estimate, run)
        except PersynError as problem:
            key = "split.calibration" if problem.message.startswith("split") else "strategies"
            if problem.message.startswith("prompts"):
                key = TASK if TASK in self._asked else PATH
            self.form[key].say(f"✗ {problem.message}", "bad")
            self.say(str(problem), "bad")
            return False
        replaced = self._replaced(self._values())
        self.say(
            f"{found.n:,} prompts · all teachers {found.all.generations:,.0f} generations · "
            f"routed {found.routed.generations:,.0f}, {found.ratio:.1f} times fewer"
            # Another limit is another generation identity.
            + (
                f"\nmax tokens replaces {replaced}: responses stored with that are not used again"
                if replaced
                else ""
            ),
            "warn" if replaced else "good",
        )
        return True

    # The file

    async def _write(self) -> bool:
        assert self.plan.student is not None
        data = questions.run_file(self._values(), self._asked, self.plan.teachers, self.plan.student)
        text = run_file_writer.text(data, questions.HEAD)
        entry = self.form[FILE]
        path = path_of(entry.value).absolute()
        try:
            there = path.read_text(encoding="utf-8", errors="replace") if path.exists() else None
            if there is not None and there != text and self._written != (path, there):
                loss = f"Lost is what {path} holds now: {count(len(there))} characters."
                question = Confirm(f"Overwrite {path.name}?", loss, "Overwrite")
                if not await self.app.push_screen_wait(question):
                    entry.control.focus()
                    entry.say("✗ this file exists: another name?", "bad")
                    return False
            await asyncio.to_thread(_put, path, text)
            self._written = (path, text)
            self.plan.run = await asyncio.to_thread(run_files.load, path)
        except (OSError, PersynError) as problem:
            entry.control.focus()
            entry.say(f"✗ {problem}", "bad")
            self.say(str(problem), "bad")
            return False
        return True


def _limits(limits: Mapping[str, int], of: str = "") -> str:
    return ", ".join(f"{name}{of} {limit:,}" for name, limit in limits.items())


def _put(path: Path, text: str) -> None:
    """Writes the run file, whole or not at all."""
    part = path.with_name(path.name + ".part")
    part.write_text(text, encoding="utf-8")
    part.replace(path)


def _tasks() -> tuple[str, ...]:
    """Names of all reasoning_gym tasks; a second the first time."""
    from reasoning_gym.factory import DATASETS

    return tuple(sorted(DATASETS))
