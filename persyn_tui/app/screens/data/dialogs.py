"""What the data screen asks: which answers, in which order, and where an export goes."""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import ClassVar, cast, get_args

from textual import on
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical
from textual.widget import Widget
from textual.widgets import Static

from engine.base.suggest import nearest
from engine.report import export
from engine.report.export import FORMATS
from persyn_tui.app.base.formatting import count
from persyn_tui.app.screens.data.listing_line import SCORES
from persyn_tui.app.widgets.form_fields import (
    Choice,
    Dialog,
    Edited,
    Entry,
    Form,
    Line,
    Paths,
    Words,
    path_of,
)
from persyn_tui.app.widgets.question import Question
from persyn_tui.app.widgets.virtual_table import Cell, Column, Listed, VirtualTable
from persyn_tui.views.dataset_view import Datasets
from storage.listing import SORTS, Listing, Sort
from storage.records import Dataset, Split, Status
from storage.rows import SPLITS

ANY = "any"
MARKED, LISTED, ALL = "marked", "as listed", "all"
"""Which rows of a dataset are exported, where some are marked or the list is filtered."""
CONTENTS = {
    "messages": "JSONL, a conversation a line",
    "sharegpt": "JSONL, ShareGPT",
    "alpaca": "JSONL, Alpaca",
    "parquet": "one file, rows as in messages",
    "huggingface": "a folder that datasets.load_dataset reads",
}
SUFFIXES = {"parquet": ".parquet", "huggingface": ""}


def which_dataset(text: str, ready: Sequence[Dataset], datasets: Datasets) -> tuple[Dataset | None, str]:
    """(the dataset that is meant, what is wrong: empty where one is).

    Args:
        text: a number, a name, or both.
        ready: those to choose from.
        datasets: all of the store.
    """
    found = [one for one in datasets.find(text) if one in ready]
    if len(found) == 1:
        return found[0], ""
    if found:
        return None, f"{len(found)} have this name, add the number: {datasets.which(found)}"
    return None, unknown(text, [datasets.name(one) for one in ready])


def unknown(text: str, names: Sequence[str]) -> str:
    """What to say of a name that is not stored, or not yet whole."""
    if text and any(name.startswith(text) for name in names):
        return "not whole; tab completes"
    guess = nearest(text, names)
    return "not stored" + (f"; did you mean {guess}?" if guess else "")


class FilterForm(Dialog[Listing | None]):
    """Asks which answers to list; the answer is the listing with these filters.

    Args:
        listing: filters to start from; words and order are kept.
        teachers: names that are stored.
        datasets: those that are stored.
    """

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("enter,f2", "apply", "Apply", id="filter.apply"),
        Binding("ctrl+l", "clear", "Clear all", id="filter.clear"),
    ]

    def __init__(self, listing: Listing, teachers: Sequence[str], datasets: Datasets) -> None:
        super().__init__()
        self._listing, self._teachers, self._datasets = listing, teachers, datasets

    def heading(self) -> str:
        """What is asked."""
        return "5 Data · which answers"

    def body(self) -> Iterable[Widget]:
        """A field per filter; an empty one filters nothing."""
        start, names = self._listing, self._datasets.names
        held = self._datasets.get(start.dataset_id)
        hints = {
            "quality": "at least, as the scorer gives it: 1 is right, 0 wrong",
            "learnability": "at least, nats per token: -0.4",
            "reward": "at least; only rows of datasets have one",
        }
        scores = [
            Entry(name, f"{name} ≥", Line("" if least is None else str(least)), hints[name])
            for name, least in ((name, getattr(start, name)) for name in SCORES)
        ]
        yield Form(
            [
                Entry(
                    "teacher",
                    "teacher",
                    Line(start.teacher or "", "", Words(self._teachers)),
                    _few(self._teachers),
                ),
                Entry("status", "status", Choice((ANY, *get_args(Status)), start.status or ANY)),
                Entry(
                    "dataset",
                    "dataset",
                    Line(self._datasets.name(held) if held else "", "", Words(names)),
                    _few(names),
                ),
                Entry("split", "split", Choice((ANY, *SPLITS), start.split or ANY)),
                *scores,
            ],
            id="filters",
        )

    def ready(self) -> None:
        """The cursor is in the first field."""
        super().ready()
        self._wanted()
        self.query_one(Form)["teacher"].focus_control()

    @on(Edited)
    def _check(self) -> None:
        self._wanted()

    def _wanted(self) -> Listing | None:
        """The listing of the fields; None where one is wrong, which is said beside it."""
        form = self.query_one(Form)
        wrong: dict[str, str] = {}
        values = form.values
        teacher, dataset = values["teacher"], values["dataset"]
        if teacher and teacher not in self._teachers:
            wrong["teacher"] = unknown(teacher, self._teachers)
        chosen: Dataset | None = None
        if dataset:
            chosen, problem = which_dataset(dataset, self._datasets.all, self._datasets)
            if problem:
                wrong["dataset"] = problem
        least: dict[str, float | None] = {}
        for name in SCORES:
            try:
                least[name] = float(values[name].replace("−", "-")) if values[name] else None
                if not math.isfinite(least[name] or 0.0):
                    raise ValueError
            except ValueError:
                wrong[name] = "not a number"
        for key, entry in form.entries.items():
            entry.say(wrong.get(key, ""), "bad" if key in wrong else "dim")
        if chosen is not None:
            name = self._datasets.name(chosen)
            form["dataset"].say(" · ".join([name] * (dataset != name) + self._datasets.facts(chosen)))
        elif values["reward"] and self._datasets.scales > 1 and not wrong:
            form["reward"].say(f"{self._datasets.scales} scales mixed: name a dataset above", "warn")
        key = next(iter(wrong), "")
        self.say(f"✗ {form[key].title}: {wrong[key]}" if key else "", "bad")
        if wrong:
            return None
        return replace(
            self._listing,
            teacher=teacher or None,
            status=None if values["status"] == ANY else cast(Status, values["status"]),
            dataset_id=chosen.id if chosen else None,
            split=None if values["split"] == ANY else cast(Split, values["split"]),
            quality=least["quality"],
            learnability=least["learnability"],
            reward=least["reward"],
        )

    def action_apply(self) -> None:
        """Lists these answers, when every field is right."""
        wanted = self._wanted()
        if wanted is not None:
            self.dismiss(wanted)
        else:
            next(entry for entry in self.query_one(Form).entries.values() if entry.wrong).focus_control()

    def action_clear(self) -> None:
        """Empties every field."""
        form = self.query_one(Form)
        for entry in form.entries.values():
            entry.put(ANY if isinstance(entry.control, Choice) else "")


def _few(names: Sequence[str]) -> str:
    """`a · b · c`, the first of them."""
    distinct = list(dict.fromkeys(names))
    return " · ".join(distinct[:6]) + (f" · {len(distinct) - 6} more" if len(distinct) > 6 else "")


class SortMenu(Question[tuple[Sort, bool] | None]):
    """Asks by what to sort: (key, whether the highest comes first).

    Args:
        sort: the present key.
        descending: whether the highest comes first now.
        scales: how many settings the rewards of the list are of.
    """

    DEFAULT_CSS = """
    SortMenu { align: center middle; }
    SortMenu > Vertical { width: 36; height: auto; border: round $primary; background: $surface; padding: 0 1; }
    SortMenu VirtualTable { background: $surface; }
    """
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape,o", "leave", "Back", id="sort.back"),
        Binding("left,right,space", "turn", "Other direction", id="sort.turn"),
    ]

    def __init__(self, sort: Sort, descending: bool, scales: int = 1) -> None:
        super().__init__()
        self._sort, self._descending, self._scales = sort, descending, scales

    def compose(self) -> ComposeResult:
        """One line per key."""
        with Vertical() as box:
            box.border_subtitle = self.app.keyed("{sort.turn:←→} other direction · enter")
            sheet = VirtualTable((Column("sort by", 13), Column("")), id="sorts", opens_at_once=True)
            sheet.styles.height = len(SORTS) + 1
            yield sheet
            if self._scales > 1:
                one = self.app.keyed(
                    f"reward mixes {self._scales} scales; {{data.filter:f}} chooses one dataset"
                )
                yield Static(one, markup=False)

    def ready(self) -> None:
        """The cursor is on the present order."""
        self._paint()
        self.query_one(VirtualTable).go_to(self._sort)

    def _paint(self) -> None:
        order = "▼ highest first" if self._descending else "▲ lowest first"
        for sheet in self.query(VirtualTable):
            sheet.update(Listed([(name, [Cell(name), Cell(order)]) for name in SORTS]))

    def action_turn(self) -> None:
        """Turns the direction round."""
        self._descending = not self._descending
        self._paint()

    @on(VirtualTable.Chosen)
    def _chosen(self, event: VirtualTable.Chosen) -> None:
        self.dismiss((cast(Sort, event.key), self._descending))

    def action_leave(self) -> None:
        """Leaves the order as it is."""
        self.dismiss(None)


@dataclass(frozen=True, slots=True)
class ExportOrder:
    """What to write, and where."""

    dataset: Dataset
    name: str
    """What the dataset is called."""
    form: str
    """One of `engine.report.export.FORMATS`."""
    out: Path
    only: export.Only | None
    """Which of its rows; None for all that are not excluded."""


@dataclass(frozen=True, slots=True)
class Some:
    """Rows that may be exported instead of all."""

    only: export.Only
    rows: Mapping[int, int]
    """Id of each dataset that can be exported → how many of its rows are among these."""


class ExportForm(Dialog[ExportOrder | None]):
    """Asks which dataset goes where.

    Args:
        datasets: of the store.
        chosen: the one to begin with.
        rows: id of each dataset that can be exported → how many rows it has that are not excluded.
        some: other choices than all of its rows, by name.
    """

    BINDINGS: ClassVar[list[BindingType]] = [Binding("enter,f2", "export", "Export", id="export.start")]

    def __init__(
        self,
        datasets: Datasets,
        chosen: Dataset,
        rows: Mapping[int, int],
        some: Mapping[str, Some] | None = None,
    ) -> None:
        super().__init__()
        self._some = some or {}
        self._datasets, self._chosen, self._rows = datasets, chosen, rows
        self._ready = [one for one in datasets.all if one.id in rows]

    def heading(self) -> str:
        """What is asked."""
        return "5 Data · export a dataset"

    def body(self) -> Iterable[Widget]:
        """Dataset, format, place."""
        names = [self._datasets.name(one) for one in self._ready]
        begin = self._datasets.name(self._chosen)
        which = (
            [Entry("rows", "rows", Choice((*self._some, ALL), next(iter(self._some))))] if self._some else []
        )
        yield Form(
            [
                Entry("dataset", "dataset", Line(begin, "", Words(names)), _few(names)),
                *which,
                Entry("form", "format", Choice(FORMATS, FORMATS[0])),
                Entry("out", "to", Line("", "", Paths()), "a new file"),
            ],
            id="export",
        )

    def ready(self) -> None:
        """Place and hints are filled in."""
        super().ready()
        self._wanted()
        self.query_one(Form)["rows" if self._some else "form"].focus_control()

    @on(Edited)
    def _check(self) -> None:
        self._wanted()

    def _choose_rows(self, form: Form, dataset: Dataset, wrong: dict[str, str]) -> export.Only | None:
        """Which rows are asked for, and how many those are; None for all."""
        if not self._some:
            return None
        some = self._some.get(form.values["rows"])
        if some is None:
            form["rows"].say(f"{count(self._rows[dataset.id])}, whatever is listed or marked")
            return None
        if many := some.rows[dataset.id]:
            form["rows"].say(f"{count(many)} of {count(self._rows[dataset.id])}: {some.only.words}")
        else:
            wrong["rows"] = f"none of this dataset: {some.only.words}"
        return some.only

    def _wanted(self) -> ExportOrder | None:
        """What the fields ask for; None where one is wrong. Beside the fields and below them stands the same."""
        form = self.query_one(Form)
        values = form.values
        dataset, problem = which_dataset(values["dataset"], self._ready, self._datasets)
        wrong: dict[str, str] = {}
        only: export.Only | None = None
        form["form"].say(CONTENTS[values["form"]])
        if dataset is None:
            wrong["dataset"] = problem
        else:
            only = self._choose_rows(form, dataset, wrong)
            rows, twin = self._rows[dataset.id], self._datasets.number(dataset.id)
            facts = self._datasets.facts(dataset, rows) if twin else []
            form["dataset"].say(" · ".join(facts) or f"{count(rows)} rows that are not excluded")
            if "out" not in form.touched:
                name = f"{dataset.name.replace('/', '-')}{twin.replace('#', '-')}-{values['form']}"
                form.fill("out", str(Path.cwd() / (name + SUFFIXES.get(values["form"], ".jsonl"))))
        what = "a new folder" if values["form"] == "huggingface" else "a new file"
        out, problem = place(form.values["out"])
        if problem:
            wrong["out"] = problem
        else:
            form["out"].say(what)
        for key, text in wrong.items():
            form[key].say(text, "bad")
        if wrong:
            key, text = next(iter(wrong.items()))
            self.say(f"✗ {form[key].title}: {text}" + (f": {out}" if key == "out" else ""), "bad")
        else:
            # The field may be too narrow for all of it.
            self.say(f"{what}: {out}")
        if wrong or dataset is None:
            return None
        return ExportOrder(dataset, self._datasets.name(dataset), values["form"], out, only)

    def action_export(self) -> None:
        """Starts, when the place is free; else goes to what is wrong."""
        order, form = self._wanted(), self.query_one(Form)
        if order is not None:
            self.dismiss(order)
        else:
            next(entry for entry in form.entries.values() if entry.wrong).focus_control()


def place(text: str) -> tuple[Path, str]:
    """(where an export would go, why it cannot: empty where it can)."""
    out = path_of(text).absolute()
    if not text:
        return out, "needed"
    try:
        if out.is_symlink() or out.exists():
            return out, "there already; an export never overwrites"
        return out, "" if out.parent.is_dir() else f"{out.parent}: no such folder"
    except OSError as error:
        return out, error.strerror or "cannot be used"
