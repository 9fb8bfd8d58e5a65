"""The question which responses to list."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any, ClassVar, get_args

from textual.binding import Binding, BindingType
from textual.widget import Widget

from persyn_tui.app.screens.data.checked_form import CheckedForm, named, unknown, which_dataset
from persyn_tui.app.screens.data.formatting import SCORES
from persyn_tui.app.widgets.form_fields import Choice, Entry, Form, Line
from persyn_tui.views.dataset_view import Datasets
from storage.listing import Listing
from storage.records import Status
from storage.rows import SPLITS

ANY = "any"
HINTS = {
    "quality": "at least, as the scorer gives it: 1 is right, 0 wrong",
    "learnability": "at least, nats per token: -0.4",
    "reward": "at least; only rows of datasets have one",
}


class FilterForm(CheckedForm[Listing]):
    """Asks which responses to list; the answer is the listing with these filters, its words and order kept."""

    FIRST = "teacher"
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("enter,f2", "apply", "Apply", id="filter.apply"),
        Binding("ctrl+l", "clear", "Clear all", id="filter.clear"),
    ]

    def __init__(self, listing: Listing, teachers: Sequence[str], datasets: Datasets) -> None:
        super().__init__()
        self._listing, self._teachers, self._datasets = listing, teachers, datasets

    def heading(self) -> str:
        return "5 Data · which responses"

    def body(self) -> Iterable[Widget]:
        """A field per filter; an empty one filters nothing."""
        start = self._listing
        held = self._datasets.get(start.dataset_id)
        least = {name: getattr(start, name) for name in SCORES}
        fields = [
            named("teacher", start.teacher or "", self._teachers),
            Entry("status", "status", Choice((ANY, *get_args(Status)), start.status or ANY)),
            named("dataset", self._datasets.name(held) if held else "", self._datasets.names),
            Entry("split", "split", Choice((ANY, *SPLITS), start.split or ANY)),
        ]
        for name, value in least.items():
            fields.append(Entry(name, f"{name} ≥", Line("" if value is None else str(value)), HINTS[name]))
        yield Form(fields, id="filters")

    def checked(self) -> Listing | None:
        form, values, wrong = self.form, self.form.values, dict[str, str]()
        asked: dict[str, Any] = {"dataset_id": None}
        for key in ("teacher", "status", "split"):
            asked[key] = None if values[key] in ("", ANY) else values[key]
        if asked["teacher"] and asked["teacher"] not in self._teachers:
            wrong["teacher"] = unknown(asked["teacher"], self._teachers)
        for entry in form.entries.values():
            entry.say()
        if text := values["dataset"]:
            chosen, problem = which_dataset(text, self._datasets.all, self._datasets)
            if chosen is None:
                wrong["dataset"] = problem
            else:
                name, asked["dataset_id"] = self._datasets.name(chosen), chosen.id
                form["dataset"].say(" · ".join([name] * (text != name) + self._datasets.facts(chosen)))
        for name in SCORES:
            try:
                asked[name] = _number(values[name])
            except ValueError:
                wrong[name] = "not a number"
        if not text and values["reward"] and self._datasets.scales > 1 and not wrong:
            form["reward"].say(f"{self._datasets.scales} scales mixed: name a dataset above", "warn")
        self.tell(wrong)
        return None if wrong else replace(self._listing, **asked)

    def action_clear(self) -> None:
        for entry in self.form.entries.values():
            entry.put(ANY if isinstance(entry.control, Choice) else "")


def _number(text: str) -> float | None:
    """A finite number; None of an empty text.

    Raises:
        ValueError: it is none.
    """
    value = float(text.replace("−", "-")) if text else None
    if not math.isfinite(value or 0.0):
        raise ValueError(text)
    return value
