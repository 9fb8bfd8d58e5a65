"""The form of one model: every field is checked while it is typed, and nothing is stored before all are right."""

import asyncio
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from textual import events, on
from textual.binding import Binding, BindingType
from textual.timer import Timer
from textual.widget import Widget

from persyn_tui.app.forms import (
    Area,
    Choice,
    Dialog,
    Edited,
    Entry,
    Form,
    Line,
    Paths,
    Place,
    amount,
    problems,
)
from persyn_tui.app.text import count, number
from storage.errors import PersynError
from storage.records import Model
from storage.store import Store

if TYPE_CHECKING:
    from engine.config import TeacherConfig
    from engine.models.modelfiles import ModelCheck
    from engine.models.registering import Known

PAUSE_S = 0.3
"""Typing must rest so long before files are looked at."""
SAMPLING = ("temperature", "top_p", "top_k", "max_tokens", "seed")
PRICES = {"price_input": "input", "price_output": "output"}
PLAIN = ("name", "backend", "model", "revision", "family", "parameters", "context", "system")
PLACES: dict[Place, str] = {
    **{(key,): key for key in PLAIN},
    **{("sampling", key): key for key in SAMPLING},
    **{("price", part): key for key, part in PRICES.items()},
    ("sampling",): "temperature",
    ("price",): "price_input",
}
"""Where the settings keep each field."""


@dataclass(frozen=True, slots=True)
class Examined:
    """What files and store say of settings that are valid."""

    check: "ModelCheck | None" = None
    record: Model | None = None
    known: "Known | None" = None
    answers: int = 0
    """Stored answers of the settings that are used again, or else of those that were in use until now."""
    problem: PersynError | None = None
    field: str = ""
    """Where the problem belongs."""


def entry_of(values: Mapping[str, str], kept: Mapping[str, Any]) -> dict[str, Any]:
    """A run file's entry from the form's values, on top of what the form does not show."""
    entry: dict[str, Any] = {
        key: value for key, value in kept.items() if key not in PLAIN and key not in ("sampling", "price")
    }
    for key in PLAIN:
        value = values.get(key, "")
        if value:
            entry[key] = amount(value) if key in ("parameters", "context") else value
    sampling = {"stop": kept["sampling"]["stop"]} if kept.get("sampling", {}).get("stop") else {}
    sampling |= {key: values[key] for key in SAMPLING if values.get(key)}
    price = {part: values[key] for key, part in PRICES.items() if values.get(key)}
    return entry | ({"sampling": sampling} if sampling else {}) | ({"price": price} if price else {})


def examine(store: Store, wanted: "TeacherConfig", role: str) -> Examined:
    """What the model's files and the store say; blocks, at a hub for up to four seconds."""
    from engine.errors import NotAvailable
    from engine.models import registering
    from storage import lookup

    try:
        filled, check = registering.fill(wanted)
    except PersynError as problem:
        return Examined(problem=problem, field="backend" if isinstance(problem, NotAvailable) else "model")
    record = registering.record(filled, "student" if role == "student" else "teacher")
    try:
        known = registering.known(store, record)
    except PersynError as problem:
        return Examined(check, record, problem=problem, field="model" if check else "backend")
    counted = known.same or known.before
    answers = lookup.answer_count(store, counted.id) if counted is not None and counted.id else 0
    return Examined(check, record, known, answers)


class ModelForm(Dialog[Model | None]):
    """Registers a model, or gives other settings to a registered one; the answer is the stored model.

    Args:
        model: whose settings to change; None for a new one.
    """

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("enter", "save", "Save", id="model_form.save"),
    ]

    def __init__(self, model: Model | None = None) -> None:
        super().__init__()
        self._model = model
        self._kept: dict[str, Any] = {}
        self._examined: Examined | None = None
        self._asked = False
        """Whether saving was tried: from then on missing fields are named too."""
        self._auto: set[str] = set()
        """Fields that the model's files filled in."""
        self._timer: Timer | None = None

    def heading(self) -> str:
        """Which model."""
        return "2 Models · add a model" if self._model is None else f"2 Models · edit {self._model.name}"

    def body(self) -> Iterable[Widget]:
        """The fields."""
        from engine import backends, zoo
        from engine.models.registering import ROLES

        start = self._start()
        fixed = self._model is not None
        kinds = backends.kinds()
        refs = [f"zoo:{name}" for name in zoo.names()]
        entries = [
            Entry(
                "role",
                "role",
                Choice(ROLES, start["role"]),
                "stays; a adds another" if fixed else "",
            ),
            Entry("name", "name", Line(start["name"]), "stays" if fixed else "what runs call it"),
            Entry("backend", "backend", Choice(kinds, start["backend"]), "how it is run"),
            Entry("model", "model", Line(start["model"], "", Paths(refs)), "zoo:NAME, a folder or a hub id"),
            Entry("revision", "revision", Line(start["revision"]), "commit of a hub id"),
            Entry("family", "family", Line(start["family"]), "as its files say"),
            Entry("parameters", "parameters", Line(start["parameters"]), "weights, e.g. 7.6B"),
            Entry("context", "context", Line(start["context"]), "tokens of prompt and answer"),
            Entry("price_input", "price in", Line(start["price_input"], "0"), "$ per million prompt tokens"),
            Entry(
                "price_output", "price out", Line(start["price_output"], "0"), "$ per million answer tokens"
            ),
            Entry("temperature", "temperature", Line(start["temperature"], "0.7"), "0: greedy"),
            Entry("top_p", "top p", Line(start["top_p"], "1"), "0 to 1"),
            Entry("top_k", "top k", Line(start["top_k"], "0"), "0: off"),
            Entry("max_tokens", "max tokens", Line(start["max_tokens"], "1024"), "of an answer"),
            Entry("seed", "seed", Line(start["seed"], "0")),
            Entry("system", "system prompt", Area(start["system"], "none"), "before every prompt"),
        ]
        for entry in entries:
            entry.disabled = fixed and entry.key in ("role", "name")
        yield Form(entries, id="form")

    def _start(self) -> dict[str, str]:
        keys = ("role", *PLAIN, *PRICES, *SAMPLING)
        start = dict.fromkeys(keys, "") | {"role": "teacher", "backend": "transformers"}
        model = self._model
        if model is None:
            return start
        from engine.models.registry import as_entry, sampling

        self._kept = as_entry(model) | {"sampling": sampling(model)}
        for key in PLAIN:
            start[key] = _plain(getattr(model, key))
        start |= {key: _plain(getattr(model.sampling, key)) for key in SAMPLING}
        start |= {key: _plain(getattr(model, key) or None) for key in PRICES}
        return start | {"role": model.role}

    @property
    def form(self) -> Form:
        """The fields."""
        return self.query_one("#form", Form)

    def on_mount(self) -> None:
        """The first field to fill in has the focus."""
        super().on_mount()
        self.form["name" if self._model is None else "model"].focus_control()
        self._roles()
        self._settings()
        self._soon()

    # While typing

    @on(Edited)
    def _edited(self, event: Edited) -> None:
        self._auto.discard(event.key)
        self._examined = None
        if event.key == "role":
            self._roles()
        self._settings()
        self._soon()

    def on_descendant_blur(self, event: events.DescendantBlur) -> None:
        """A field that was left is finished: now its hub id is looked up."""
        if self._examined is None:
            self._soon()

    def on_descendant_focus(self, event: events.DescendantFocus) -> None:
        """What is wrong with the field under the cursor is said in full."""
        self._tell()

    def _roles(self) -> None:
        student = self._role == "student"
        for key in PRICES:
            self.form[key].disabled = student
        temperature = self.form["temperature"].control
        if isinstance(temperature, Line):
            temperature.placeholder = "0" if student else "0.7"

    @property
    def _role(self) -> str:
        return self.form["role"].value

    def _settings(self) -> "TeacherConfig | None":
        """The settings, when every field can be read; says what is wrong beside each that cannot."""
        from pydantic import ValidationError

        from engine.models import registering

        values = {key: entry.value for key, entry in self.form.entries.items()}
        wrong: dict[str, str] = {}
        wanted = None
        try:
            wanted = registering.settings(entry_of(values, self._kept), self._role, Path.cwd())
        except ValidationError as error:
            wrong, rest = problems(error, PLACES)
            if rest:
                wrong.setdefault("name", "; ".join(rest))
        for key, entry in self.form.entries.items():
            missing = wrong.get(key) == "needed" and not self._asked
            if key in wrong and not missing:
                entry.say(wrong[key], "bad")
            elif entry.wrong or key in ("model", "backend"):
                entry.say()
        self._wrong = set(wrong)
        self._tell()
        return wanted

    def _soon(self) -> None:
        if self._timer is not None:
            self._timer.stop()
        self._timer = self.set_timer(PAUSE_S, self._look)

    def _look(self) -> None:
        from engine import backends
        from engine.models import registering

        wanted = self._settings()
        if wanted is None:
            # The reference alone says much already.
            wanted = self._reference()
            if wanted is None:
                return
        entry = self.form["model"]
        if (
            wanted.backend in backends.LOCAL
            and not registering.is_here(wanted.model)
            and self.form.at is entry
        ):
            entry.say("a hub id? it is looked up when you leave this field")
            return
        if wanted.backend in backends.LOCAL:
            entry.say("looking …")
        self.run_worker(self._examine(wanted), group="examine", exclusive=True)

    def _reference(self) -> "TeacherConfig | None":
        from pydantic import ValidationError

        from engine.models import registering

        values = self.form.values
        if not values.get("model"):
            return None
        try:
            entry = {key: values[key] for key in ("model", "backend", "revision") if values[key]}
            return registering.settings({"name": "-", **entry}, self._role, Path.cwd())
        except ValidationError:
            return None

    async def _examine(self, wanted: "TeacherConfig") -> Examined | None:
        store = self.app.store
        if store is None:
            return None
        found = await asyncio.to_thread(examine, store, wanted, self._role)
        if not self.is_mounted:
            return None
        self._examined = found
        entry = self.form["model"]
        if found.problem is not None:
            self.form[found.field].say(_one_line(found.problem), "bad")
        elif found.check is not None and found.check.folder is None:
            entry.say("✓ at the hub, not downloaded yet", "good")
        elif found.check is not None:
            entry.say(f"✓ {found.check.architecture or found.check.family}", "good")
        if found.check is not None:
            self._fill("family", found.check.family)
            self._fill("parameters", _plain(found.check.parameters))
            if found.check.context:
                self.form["context"].hint = f"its files say {found.check.context:,}"
                if "context" not in self._wrong:
                    self.form["context"].say()
        self._tell()
        return found

    def _fill(self, key: str, value: str) -> None:
        entry = self.form[key]
        if not value:
            return
        if not entry.value or key in self._auto:
            self.form.fill(key, value)
            self._auto.add(key)
        shown = number(float(value)) if key == "parameters" else value
        entry.hint = f"✓ {shown}, from its files" if entry.value == value else f"its files say {shown}"
        if key not in self._wrong:
            entry.say()

    def _tell(self) -> None:
        """Below the fields: what is wrong with the one under the cursor, else what saving would mean."""
        at, found = self.form.at, self._examined
        if at is not None and at.wrong:
            full = found.problem if found is not None and found.field == at.key else None
            self.say(f"✗ {at.key}: {full or at.said}", "bad")
        elif found is None or found.known is None or self._wrong:
            self.say("")
        else:
            self.say(*_meaning(found, self._model))

    # Leaving

    def action_back(self) -> None:
        """Leaves; asks first when something was typed."""
        if self.form.touched:
            self.leave("the form", "what you typed; nothing of it is stored yet")
        else:
            self.dismiss(None)

    def action_save(self) -> None:
        """Stores the model when every field is right; else goes to the first that is not."""
        self._asked = True
        wanted = self._settings()
        if wanted is None:
            next(self.form[key] for key in self.form.entries if key in self._wrong).focus_control()
            return
        self.run_worker(self._save(wanted), group="save", exclusive=True, exit_on_error=True)

    async def _save(self, wanted: "TeacherConfig") -> None:
        from engine.models import registering

        self.say("checking …")
        found = await self._examine(wanted)
        if found is None or self.app.store is None:
            return
        if found.problem is not None or found.record is None:
            self.form[found.field].focus_control()
            self._tell()
            return
        try:
            self.dismiss(await asyncio.to_thread(registering.put, self.app.store, found.record))
        except PersynError as problem:
            self.say(f"✗ {problem}", "bad")


def _meaning(found: Examined, edited: Model | None) -> tuple[str, Any]:
    known = found.known
    assert known is not None
    assert found.record is not None
    name, answers = found.record.name, f"{count(found.answers)} stored answers"
    if known.same is not None and known.before is not None and known.same.id == known.before.id:
        if edited is not None:
            return f"the same identity: its {answers} are used again", "good"
        return f"`{name}` is registered with these settings already; its {answers} are used again", "good"
    if known.same is not None:
        return f"earlier settings of `{name}`: their {answers} are used again", "good"
    if known.before is not None:
        return (
            f"▲ a new identity of `{name}`: its {answers} stay in the store with the old settings; "
            "runs with these settings generate anew",
            "warn",
        )
    return "a new model: nothing of it is stored yet", "dim"


def _one_line(problem: PersynError) -> str:
    return "✗ " + str(problem.message).partition("\n")[0]


def _plain(value: object) -> str:
    """The value as the operator would type it."""
    if value is None:
        return ""
    return f"{value:.12g}" if isinstance(value, float) else str(value)
