"""Screen 2: the registered models; settings and last probe of the one under the cursor."""

import asyncio
import time
from collections.abc import Iterable, Mapping
from contextlib import nullcontext
from dataclasses import dataclass
from functools import partial
from typing import Any, ClassVar, cast

from rich.console import Group
from rich.table import Table
from rich.text import Text
from textual import on
from textual.binding import Binding, BindingType
from textual.containers import Container, VerticalScroll
from textual.timer import Timer
from textual.widget import Widget
from textual.widgets import Static

from engine.base.sanitize import strip_control
from persyn_tui.app.base.formatting import count, number, short_reference
from persyn_tui.app.screens.filtered import FilteredScreen, FilterLine, passes
from persyn_tui.app.screens.models.probes import Probed, Probes, Probing, is_local
from persyn_tui.app.textual_fixes.workers import background
from persyn_tui.app.widgets.confirm import Confirm
from persyn_tui.app.widgets.virtual_table import Cell, Column, VirtualTable
from storage import registry, responses
from storage.errors import PersynError
from storage.records import Model
from storage.store import Store

COLUMNS = (
    Column("role", 8),
    Column("name", 16),
    Column("family", 9, drop=4),
    Column("size", 7, right=True, drop=1),
    Column("backend", 12, drop=6),
    Column("model"),
    Column("context", 8, right=True, drop=5),
    Column("$/M in", 7, right=True, drop=3),
    Column("$/M out", 7, right=True, drop=2),
    Column("health", 11, right=True),
)
ORDER = {"teacher": 0, "student": 1, "reward_model": 2}
PROMPT = "What is 2 + 3?"
"""What a probe asks."""


@dataclass(frozen=True, slots=True)
class Models:
    """What the screen shows."""

    models: list[Model]
    hidden: int
    """Archived models that are not listed."""
    filtered: int
    """Others that do not pass the filter."""
    chosen: int | None
    responses: int
    """Stored responses of the chosen one, made with its present settings."""
    described: Mapping[int | None, Model]
    """Model id → the model with what its files say."""


class ModelsScreen(FilteredScreen[Models]):
    """Teachers, students and reward models."""

    NUMBER, NAME, LIST = 2, "Models", "#models"
    EMPTY = (
        "No models yet.\n\n"
        "{models.add:a}   add a teacher or a student: a zoo model, a folder, or a hub id\n"
        "A run registers those of its run file too: {go.jobs:1} goes to Jobs, {jobs.new:n} makes one."
    )
    NEEDS_ROWS = frozenset({"edit", "probe", "archive", "filter"})
    WRITES = frozenset({"add", "edit", "archive", "undo"})
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("a", "add", "Add", id="models.add"),
        Binding("e,enter", "edit", "Edit", key_display="e", id="models.edit"),
        Binding("t", "probe", "Probe", id="models.probe"),
        Binding("d", "archive", "Archive", id="models.archive"),
        Binding("u", "undo", "Undo the archive", show=False, id="models.undo"),
        Binding("h", "hidden", "Archived models too", show=False, id="models.hidden"),
        Binding("escape", "stop", "Clear the filter, stop the probe", show=False, id="models.stop"),
    ]

    def __init__(self) -> None:
        super().__init__()
        self._chosen: int | None = None
        self._archived = False
        self._undo: list[Model] = []
        self._probes = Probes()
        self._described: dict[int | None, tuple[Model, Model]] = {}
        """Model id → (the model, the same with what its files say)."""
        self._turn = asyncio.Lock()
        """Of the local ones: two large models at once may not fit the machine."""
        self._spinner: Timer | None = None

    def body(self) -> Iterable[Widget]:
        yield FilterLine("teacher qwen")
        yield VirtualTable(COLUMNS, id="models")
        with Container(id="about"):
            with VerticalScroll(id="settings"):
                yield Static(id="facts", markup=False)
            with VerticalScroll(id="probe"):
                yield Static(id="token", markup=False)

    def question(self) -> Any:
        return self._chosen, self._archived, super().question()

    def read(self, store: Store, question: Any) -> Models | None:
        wanted, archived, words = question
        everything = registry.models(store, archived=True)
        if not everything:
            return None
        shown = [model for model in everything if archived or not model.archived]
        described = {model.id: self._with_files(model) for model in shown}
        listed = [model for model in shown if passes(_line(described[model.id]), words)]
        listed.sort(key=lambda model: (ORDER.get(model.role, 9), model.name))
        ids = [model.id for model in listed]
        chosen = wanted if wanted in ids else ids[0] if ids else None
        stored = 0 if chosen is None else responses.count_of_teacher(store, chosen)
        filtered = len(shown) - len(listed)
        return Models(listed, len(everything) - len(shown), filtered, chosen, stored, described)

    def _with_files(self, model: Model) -> Model:
        """With what its files say, which are read once. Called where the store is read, off the event loop."""
        from engine.registry import register

        before, found = self._described.get(model.id, (None, model))
        if before != model:
            found = register.described(model)
            if found.context is not None:  # what could not be read may be there the next time
                self._described[model.id] = model, found
        return found

    def show(self, data: Models) -> None:
        self._paint_rows()
        self._paint_chosen()

    def about(self) -> str:
        if self.data is None:
            return ""
        roles: list[str] = [model.role for model in self.data.models]
        parts = [
            f"{many} {role.replace('_', ' ')}{'' if many == 1 else 's'}"
            for role in ORDER
            if (many := roles.count(role))
        ]
        if self.data.filtered:
            parts.append(f"{self.data.filtered} filtered, {{models.stop:esc}} shows them")
        if self.data.hidden:
            parts.append(f"{self.data.hidden} archived, {{models.hidden:h}} shows them")
        return " · ".join(parts)

    def text_to_copy(self) -> str:
        return "" if self.chosen is None else self.chosen.model

    @property
    def chosen(self) -> Model | None:
        return self.under_cursor("#models", self.data.models if self.data else (), lambda model: model.id)

    # Painting

    def _paint_rows(self) -> None:
        if self.data is not None:
            described, health = self.data.described, self._probes.word
            rows = [(model.id, _cells(described[model.id], health(model))) for model in self.data.models]
            self.query_one("#models", VirtualTable).fill(rows)

    def _paint_chosen(self) -> None:
        model = self.chosen
        if model is None or self.data is None:
            filtered = self.data is not None and self.data.filtered
            none = (
                "no model passes; {models.stop:esc} clears the filter"
                if filtered
                else "every model is archived; {models.hidden:h} shows them, {models.add:a} adds one"
            )
            self.query_one("#facts", Static).update(self.app.keyed(none))
            self.query_one("#token", Static).update("")
            return
        stored = self.data.responses if self.data.chosen == model.id else None
        self.query_one("#facts", Static).update(_facts(model, stored))
        said = self._probes.text(model, self.app.keyed)
        self.query_one("#token", Static).update(strip_control(said))

    @on(VirtualTable.Highlighted, "#models")
    def _look(self, event: VirtualTable.Highlighted) -> None:
        self._chosen = cast("int | None", event.key)
        self._paint_chosen()
        self.ask()

    @on(VirtualTable.Chosen, "#models")
    async def _open(self) -> None:
        await self.run_action("edit")

    # Adding and editing

    def action_add(self) -> None:
        from persyn_tui.app.screens.models.form import ModelForm

        self.app.push_screen(ModelForm(), self._saved)

    def action_edit(self) -> None:
        from persyn_tui.app.screens.models.form import ModelForm

        model = self.chosen
        if model is None:
            return
        if model.role == "reward_model":
            self.app.notify("a reward model is registered by the run that uses it", severity="warning")
            return
        self.app.push_screen(ModelForm(model), self._saved)

    def _saved(self, model: Model | None) -> None:
        if model is None:
            return
        self._chosen = model.id
        self.app.notify(f"{model.role} {model.name} is registered")
        background(self, partial(self._go_to, model), group="go", exclusive=True)

    async def _go_to(self, model: Model) -> None:
        await self.follow(changed=True)
        self.query_one("#models", VirtualTable).go_to(model.id)

    # Archive and undo

    def action_archive(self) -> None:
        model = self.chosen
        if model is None or self.data is None:
            return
        if model.archived:
            self._set_archived(model, False)
            return
        stored = self.data.responses if self.data.chosen == model.id else 0
        self.app.push_screen(
            Confirm(
                f"Archive the {model.role.replace('_', ' ')} {strip_control(model.name)}?",
                f"Lost is nothing: its {stored:,} responses, their scores and every dataset made of them stay in the "
                "store, and a run that names it registers it again. It is no longer listed; u brings it back.",
                "Archive",
            ),
            lambda yes: self._set_archived(model, True) if yes else None,
        )

    def _set_archived(self, model: Model, archived: bool) -> None:
        from engine.registry import register

        async def do() -> None:
            if self.app.store is None:
                return
            await asyncio.to_thread(register.archive, self.app.store, model, archived)
            self._undo = [old for old in self._undo if (old.role, old.name) != (model.role, model.name)]
            if archived:
                self._undo.append(model)
                self.app.notify(
                    f"{model.name} is archived · {{models.undo:u}} brings it back", about="archive"
                )
                self.ask()
            else:
                self.app.notify(f"{model.name} is back", about="archive")
                await self._go_to(model)

        background(self, do, group="archive", exit_on_error=False)

    def action_undo(self) -> None:
        if self._undo:
            self._set_archived(self._undo[-1], False)
        else:
            self.app.notify(
                "nothing was archived in this session · {models.hidden:h} shows all archived models"
            )

    def action_hidden(self) -> None:
        self._archived = not self._archived
        self.ask()

    # Probe

    def action_probe(self) -> None:
        """One real token of the model under the cursor, in a process of its own; local models one at a time."""
        model = self.chosen
        if model is None or model.id is None or model.id in self._probes.going:
            return
        local = is_local(model)
        waits = local and any(one.local for one in self._probes.going.values())
        probing = self._probes.going[model.id] = Probing(model.name, local, waits, time.monotonic())
        probing.worker = background(self, partial(self._probe, model, model.id, probing), group="probe")
        if self._spinner is None:
            self._spinner = self.set_interval(0.1, self._turn_spinner)
        self._paint_probes()

    def action_stop(self) -> None:
        """Takes the filter away; without one, ends the probe of the model under the cursor."""
        if self.filters:
            self.action_back()
            return
        model = self.chosen
        probing = None if model is None else self._probes.going.get(model.id or 0)
        if probing is not None and probing.worker is not None:
            probing.worker.cancel()

    def _turn_spinner(self) -> None:
        if self._probes.going:
            self._paint_rows()
        elif self._spinner is not None:
            self._spinner.stop()
            self._spinner = None

    async def _probe(self, model: Model, number_of: int, probing: Probing) -> None:
        from persyn_tui.app.state import engine_process

        try:
            async with self._turn if probing.local else nullcontext():
                if self.app.store is None:
                    return
                if probing.waits:
                    probing.waits, probing.began = False, time.monotonic()
                    self._paint_probes()
                options = ["--prompt", PROMPT]
                answer = await engine_process.ask(self.app.store, "probe", [str(number_of)], options)
            self._probes.ended[number_of] = Probed(time.time(), answer)
            self.app.settle(f"probe {number_of}")
        except PersynError as problem:
            self._probes.ended[number_of] = Probed(time.time(), problem=str(problem))
            failed = f"the probe of {strip_control(model.name)} failed"
            self.app.notify(failed, severity="error", about=f"probe {number_of}")
        finally:
            self._probes.going.pop(number_of, None)
            self._paint_probes()

    def _paint_probes(self) -> None:
        # Leaving the app ends a probe too, when the widgets are gone already.
        if self.query("#models"):
            self._paint_rows()
            self._paint_chosen()


def _line(model: Model) -> str:
    """What the filter looks at."""
    return f"{model.role} {model.name} {model.family} {model.backend} {model.model}"


def _cells(model: Model, health: Cell) -> list[Cell | str]:
    free = model.role != "teacher"
    return [
        Cell(model.role.removesuffix("_model"), "dim"),
        model.name,
        model.family or "–",
        number(model.parameters),
        model.backend,
        short_reference(model.model),
        count(model.context),
        Cell("–", "dim") if free else f"{model.price_input:g}",
        Cell("–", "dim") if free else f"{model.price_output:g}",
        health,
    ]


def _facts(model: Model, stored: int | None) -> Group:
    drawn = model.sampling
    options = ", ".join(f"{key} {value}" for key, value in sorted(model.options.items())) or "none"
    stop = f", stop {list(drawn.stop)}" if drawn.stop else ""
    facts = {
        "model": model.model + (f" @ {model.revision}" if model.revision else ""),
        "sampling": f"temperature {drawn.temperature:g}, top p {drawn.top_p:g}, top k {drawn.top_k}, "
        f"at most {drawn.max_tokens:,} tokens, seed {drawn.seed}{stop}",
        "options": options,
        "responses": "…" if stored is None else f"{stored:,} stored with these settings",
        "system": model.system or "none",
    }
    table = Table.grid(padding=(0, 2))
    for name, value in facts.items():
        table.add_row(name, Text(strip_control(value), overflow="fold"))
    head = f"{model.role.replace('_', ' ')} {model.name} · number {model.id}"
    return Group(
        Text(strip_control(head + (" · archived, u or d brings it back" if model.archived else ""))), table
    )
