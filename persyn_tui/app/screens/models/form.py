"""The form of one model: every field is checked while it is typed, and nothing is stored before all are right."""

import asyncio
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, ClassVar, cast

from pydantic import ValidationError
from textual import events, on
from textual.binding import Binding, BindingType
from textual.widget import Widget

from engine.base.errors import NotAvailable
from engine.config.kinds import teacher_kind
from engine.config.models import TeacherConfig
from engine.config.setting import Setting
from engine.models.model_info import DEVICES, ModelCheck
from engine.registry import register
from engine.registry.register import Known
from persyn_tui.app.base.formatting import count, number, short_reference
from persyn_tui.app.screens.models import fields
from persyn_tui.app.textual_fixes.workers import background
from persyn_tui.app.widgets import setting_fields
from persyn_tui.app.widgets.confirm import Confirm
from persyn_tui.app.widgets.form_fields import Dialog, Edited, Form, amount, problems
from storage import registry
from storage import responses as stored_responses
from storage.errors import PersynError
from storage.records import Model, Role
from storage.store import Store

NEEDED = "needed"
LONGEST = "sampling.max_tokens"


@dataclass(frozen=True, slots=True)
class Examined:
    """What files and store say of settings that are valid."""

    check: ModelCheck | None = None
    record: Model | None = None
    known: Known | None = None
    responses: int = 0
    """Stored responses of the settings that are used again, or else of those that were in use until now."""
    problem: PersynError | None = None
    field: str = ""
    """Where the problem belongs."""


def examine(store: Store, wanted: TeacherConfig, role: Role) -> Examined:
    """What the model's files and the store say; blocks, at a hub for up to four seconds."""
    shown = fields.known(role, wanted.backend)
    try:
        filled, check = register.fill(wanted)
    except PersynError as problem:
        field = "backend" if isinstance(problem, NotAvailable) else "model"
        return Examined(problem=problem, field=fields.named(problem.message, shown) or field)
    record = register.record(filled, role)
    try:
        known = register.known(store, record)
    except PersynError as problem:
        field = fields.named(problem.message, shown) or ("model" if check else "backend")
        return Examined(check, record, problem=problem, field=field)
    counted = known.same or known.before
    responses = (
        stored_responses.count_of_teacher(store, counted.id) if counted is not None and counted.id else 0
    )
    return Examined(check, record, known, responses)


class ModelForm(Dialog[Model | None]):
    """Registers a model, or gives other settings to a registered one; the answer is the stored model."""

    BINDINGS: ClassVar[list[BindingType]] = [
        # Where enter begins a new line, f2 saves too.
        Binding("enter,f2", "save", "Save", id="model_form.save"),
    ]

    def __init__(self, model: Model | None = None) -> None:
        super().__init__()
        self._model = model
        self._kept = fields.kept(model)
        self._shown: Mapping[str, Setting] = {}
        """The settings that the role and the kind have."""
        self._wrong: Mapping[str, str] = {}
        """Field → what is wrong with what was typed."""
        self._examined: Examined | None = None
        self._asked = False
        """Whether saving was tried: from then on missing fields are named too."""
        self._taken: Model | None = None
        """The model that has the name which is typed, or was."""
        self._auto: set[str] = set()
        """Fields that the model's files filled in."""

    def heading(self) -> str:
        return "2 Models · add a model" if self._model is None else f"2 Models · edit {self._model.name}"

    def body(self) -> Iterable[Widget]:
        yield Form(fields.entries(self._model), id="form")

    def ready(self) -> None:
        super().ready()
        self.form["name" if self._model is None else "model"].control.focus()
        self._show()
        self._settings()
        self.soon(self._look, "look")

    # While typing

    @on(Edited)
    def _edited(self, event: Edited) -> None:
        self._auto.discard(event.key)
        self._examined = None
        if event.key in ("role", "backend"):
            self._show()
        self._settings()
        self.soon(self._look, "look")

    def on_descendant_blur(self, event: events.DescendantBlur) -> None:
        """A field that was left is finished: now its hub id is looked up."""
        if self._examined is None:
            self.soon(self._look, "look")

    def on_descendant_focus(self, event: events.DescendantFocus) -> None:
        self._tell()

    def _show(self) -> None:
        """Shows the fields that the role and the kind have, each in the kind's own words."""
        self._shown = fields.known(self._role, self._kind)
        stays = ("role", "name") if self._model is not None else ("role",)
        setting_fields.show(self.form, self._shown, stays, partial(fields.field, begun=self._kept))

    @property
    def _role(self) -> Role:
        return cast(Role, self.form["role"].value)

    @property
    def _kind(self) -> str:
        """How the model is run; a student is trained, which one kind does."""
        return self.form["backend"].value if self._role == "teacher" else fields.USUAL_KIND

    def _settings(self) -> TeacherConfig | None:
        """The settings, when every field can be read; says what is wrong beside each that cannot."""
        values = {key: field.value for key, field in self.form.entries.items()}
        entry = fields.entry_of(values, self._shown, self._kept)
        wrong = dict.fromkeys(fields.missing(entry), NEEDED)
        # With a stand-in for each, the others are checked as well.
        stand_ins = {key: "-" for key in wrong if key != "base_url"}
        wanted = None
        try:
            wanted = register.settings(entry | stand_ins, self._role, Path.cwd())
        except ValidationError as error:
            found, rest = problems(error, {one.place: key for key, one in self._shown.items()})
            wrong |= found
            for message in rest:
                wrong.setdefault(fields.named(message, self._shown) or "name", message)
        except PersynError as problem:  # a path that can be none
            wrong["model"] = problem.message
        device = self.form.values.get("device")
        if device and not re.fullmatch(DEVICES, device):
            wrong["device"] = f"none of {self._shown['device'].hint}"
        self._wrong = wrong
        self._say_beside()
        return None if wrong else wanted

    def _say_beside(self) -> None:
        """Says of each field what is wrong or doubtful, or what the model's files say; then `_tell`."""
        found = self._examined or Examined()
        doubts = {
            "api_key_env": fields.unset(self.form.values),
            "name": self._whose(),
            LONGEST: self._tight(),
        }
        for key, entry in self.form.entries.items():
            wrong = self._wrong.get(key, "")
            if wrong and (self._asked or wrong != NEEDED):
                entry.say(f"{NEEDED}: {entry.hint}" if wrong == NEEDED and entry.hint else wrong, "bad")
            elif found.problem is not None and key == found.field:
                entry.say(_one_line(found.problem), "bad")
            elif doubts.get(key):
                entry.say(doubts[key], "warn")
            elif key == "model" and found.check is not None and found.check.folder is None:
                entry.say("✓ at the hub, not downloaded yet", "good")
            elif key == "model" and found.check is not None:
                entry.say(f"✓ {found.check.architecture or found.check.family}", "good")
            else:
                entry.say()
        self._tell()

    def _tight(self) -> str:
        """A doubt about responses that may be longer than what the model can hold."""
        check = self._examined.check if self._examined is not None else None
        try:
            context = int(amount(self.form["context"].value)) or 0
        except ValueError:
            context = (check.context if check is not None else None) or 0
        try:
            wanted = int(amount(self.form[LONGEST].value or self._shown[LONGEST].nothing))
        except ValueError:
            return ""
        if not context or wanted <= context:
            return ""
        return f"▲ {wanted:,}, but prompt and response together have {context:,}"

    def _whose(self) -> str:
        """A doubt about a name that is in use."""
        taken = self._taken
        if taken is None or (taken.name, taken.role) != (self.form["name"].value, self._role):
            return ""
        return f"▲ taken: {short_reference(taken.model)}, {taken.backend}; saving asks before it is replaced"

    async def _look(self) -> None:
        wanted = self._settings()
        if self._model is None:
            background(self, self._ask_name, group="name", exclusive=True)
        wanted = wanted or self._reference()  # which alone says much already
        if wanted is None:
            return
        entry = self.form["model"]
        if teacher_kind(wanted.backend).local_files:
            if self.form.at is entry and not register.is_here(wanted.model):
                entry.say("a hub id? it is looked up when you leave this field")
                return
            entry.say("looking …")
        background(self, partial(self._examine, wanted), group="examine", exclusive=True)

    async def _ask_name(self) -> None:
        name, store = self.form["name"].value, self.app.store
        if store is None or not name:
            return
        try:
            self._taken = await asyncio.to_thread(registry.get, store, name, self._role)
        except PersynError:
            return  # saving says what is wrong with the store
        if not self.left and (doubt := self._whose()) and not self.form["name"].wrong:
            self.form["name"].say(doubt, "warn")
            self._tell()

    def _reference(self) -> TeacherConfig | None:
        values = {"name": self.form["name"].value, "backend": self._kind} | self.form.values
        # What the settings of an endpoint lack is said beside their own fields.
        if not values.get("model") or fields.declared(values["backend"]).openai_api:
            return None
        try:
            entry = {key: values[key] for key in ("model", "backend", "revision") if values.get(key)}
            name = "new" if "name" in self._wrong else values["name"]
            return register.settings({"name": name, **entry}, self._role, Path.cwd())
        except (ValidationError, PersynError):
            return None

    async def _examine(self, wanted: TeacherConfig) -> Examined | None:
        store = self.app.store
        if store is None:
            return None
        found = await asyncio.to_thread(examine, store, wanted, self._role)
        if self.left:
            return None
        self._examined = found
        if found.check is None:  # what the files of another model have filled in is taken back
            for key in ("family", "parameters", "context"):
                if key in self._auto:
                    self.form.fill(key, "")
                    self._auto.discard(key)
                self.form[key].hint = self._shown[key].hint
        else:
            self._fill("family", found.check.family)
            self._fill("parameters", setting_fields.text(found.check.parameters))
            if found.check.context:
                self.form["context"].hint = f"its files say {found.check.context:,}"
        self._say_beside()
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

    def _tell(self) -> None:
        """Below the fields: what is wrong with the one under the cursor, else what saving would mean."""
        at, found = self.form.at, self._examined
        if at is not None and at.wrong:
            full = found.problem if found is not None and found.field == at.key else None
            self.say(f"✗ {at.title}: {full or at.said}", "bad")
        elif at is not None and at.doubtful:
            self.say(f"{at.title}: {at.said}", "warn")
        elif found is None or found.known is None or self._wrong:
            self.say("")
        else:
            self.say(*_meaning(found, self._model))

    # Leaving

    def action_back(self) -> None:
        if self.form.touched:
            self.leave("the form", "what you typed; nothing of it is stored yet")
        else:
            self.dismiss(None)

    def action_save(self) -> None:
        """Stores the model when every field is right; else goes to the first that is not."""
        self._asked = True
        self.workers.cancel_group(self, "look")  # saving looks by itself
        wanted = self._settings()
        if wanted is None:
            self.form.to_wrong()
            return
        work = partial(self._save, wanted, self.app.ahead.hold())
        background(self, work, group="save", exclusive=True)

    async def _save(self, wanted: TeacherConfig, release: Callable[[], None]) -> None:
        try:
            self.say("checking …")
            found = await self._examine(wanted)
            if found is None or self.app.store is None:
                return
            if found.problem is not None or found.record is None:
                self.form[found.field].control.focus()
                self._tell()
                return
            if self._model is None and not await self._may_replace(found):
                self.form["name"].control.focus()
                self._tell()
                return
            self.dismiss(await asyncio.to_thread(register.put, self.app.store, found.record))
        except PersynError as problem:
            self.say(f"✗ {problem}", "bad")
        finally:
            release()

    async def _may_replace(self, found: Examined) -> bool:
        """Whether the name is free, or the operator lets go of the settings it has."""
        known = found.known
        before = known.before if known is not None else None
        if known is None or before is None or (known.same is not None and known.same.id == before.id):
            return True  # nothing is replaced
        meaning = _meaning(found, None)[0].removeprefix("▲ ")
        question = Confirm(
            f"Replace the {before.role} {before.name}?",
            f"Lost are its settings: {short_reference(before.model)}, {before.backend}. "
            f"{meaning[:1].upper()}{meaning[1:]}.",
            "Replace",
        )
        return await self.app.push_screen_wait(question) is True


def _meaning(found: Examined, edited: Model | None) -> tuple[str, Any]:
    known = found.known
    assert known is not None
    assert found.record is not None
    name, responses = found.record.name, f"{count(found.responses)} stored responses"
    if known.same is not None and known.before is not None and known.same.id == known.before.id:
        if edited is not None:
            return f"the same identity: its {responses} are used again", "good"
        return f"`{name}` is registered with these settings already; its {responses} are used again", "good"
    if known.same is not None:
        return f"earlier settings of `{name}`: their {responses} are used again", "good"
    if known.before is not None:
        return (
            f"▲ a new identity of `{name}`: its {responses} stay in the store with the old settings; "
            "runs with these settings generate anew",
            "warn",
        )
    return "a new model: nothing of it is stored yet", "dim"


def _one_line(problem: PersynError) -> str:
    """What is wrong, after the guess that may be all that is needed."""
    guess = problem.remedy.partition("?")[0] + "? " if problem.remedy.startswith("did you mean") else ""
    return "✗ " + guess + str(problem.message).partition("\n")[0]
