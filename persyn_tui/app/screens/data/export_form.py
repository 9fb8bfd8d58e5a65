"""The question which dataset goes where, and which of its rows."""

from array import array
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from textual.binding import Binding, BindingType
from textual.widget import Widget

from engine.report.export import FORMATS, Only
from persyn_tui.app.base.formatting import count
from persyn_tui.app.screens.data.checked_form import CheckedForm
from persyn_tui.app.widgets.form_fields import Choice, Entry, Form, Line, Paths, path_of
from persyn_tui.views.dataset_view import Datasets
from storage import datasets, listing
from storage.listing import Listing
from storage.records import Dataset
from storage.store import Store

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


@dataclass(frozen=True, slots=True)
class ExportOrder:
    """What to write, and where."""

    dataset: Dataset
    name: str
    """What the dataset is called."""
    form: str
    """One of `engine.report.export.FORMATS`."""
    out: Path
    only: Only | None
    """Which of its rows; None for all that are not excluded."""


@dataclass(frozen=True, slots=True)
class Rows:
    """Which rows of a dataset may be exported."""

    only: Only | None
    """None for all that are not excluded."""
    counts: Mapping[int, int]
    """Id of each dataset that can be exported → how many of its rows these are."""


def choices(
    store: Store, ready: Sequence[Dataset], listed: Listing, words: str, marked: Collection[int]
) -> dict[str, Rows]:
    """What may be exported of these datasets, by name, all their rows last; takes as long as reading the list.

    `words` say what the list is filtered by, empty where it is not; `marked` are ids of responses.
    """
    store.check_file()
    some: dict[str, Only] = {}
    if marked:
        some[MARKED] = Only(sorted(marked), "marked by hand")
    if words:
        ids = array("q")
        for part in listing.stream(store, listed):
            ids.extend(part)
        some[LISTED] = Only(array("q", sorted(ids)), words)
    kept = {one.id: listing.kept(store, Listing(dataset_id=one.id)) for one in ready} if some else {}
    found = {
        name: Rows(only, {id: only.among(rows) for id, rows in kept.items()}) for name, only in some.items()
    }
    return {**found, ALL: Rows(None, {one.id: datasets.count(store, one.id) for one in ready})}


class ExportForm(CheckedForm[ExportOrder]):
    """Asks which dataset goes where, beginning with `chosen`; `rows` may be exported, as `choices` finds them."""

    BINDINGS: ClassVar[list[BindingType]] = [Binding("enter,f2", "apply", "Export", id="export.start")]

    def __init__(self, datasets: Datasets, chosen: Dataset, rows: Mapping[str, Rows]) -> None:
        super().__init__()
        self._datasets, self._chosen, self._rows = datasets, chosen, rows
        self._by_name = {datasets.name(one): one for one in datasets.all if one.id in rows[ALL].counts}
        self.FIRST = "rows" if len(rows) > 1 else "form"

    def heading(self) -> str:
        return "5 Data · export a dataset"

    def body(self) -> Iterable[Widget]:
        fields = [
            Entry("dataset", "dataset", Choice(tuple(self._by_name), self._datasets.name(self._chosen)))
        ]
        if len(self._rows) > 1:
            fields.append(Entry("rows", "rows", Choice(tuple(self._rows), next(iter(self._rows)))))
        fields.append(Entry("form", "format", Choice(FORMATS, FORMATS[0])))
        fields.append(Entry("out", "to", Line("", "", Paths()), "a new file"))
        yield Form(fields, id="export")

    def checked(self) -> ExportOrder | None:
        form, values, wrong = self.form, self.form.values, dict[str, str]()
        dataset = self._by_name[values["dataset"]]
        form["form"].say(CONTENTS[values["form"]])
        only = self._choose_rows(dataset, wrong)
        rows, twin = self._rows[ALL].counts[dataset.id], self._datasets.number(dataset.id)
        facts = self._datasets.facts(dataset, rows) if twin else []
        form["dataset"].say(" · ".join(facts) or f"{count(rows)} rows that are not excluded")
        if "out" not in form.touched:
            name = f"{dataset.name.replace('/', '-')}{twin.replace('#', '-')}-{values['form']}"
            form.fill("out", str(Path.cwd() / (name + SUFFIXES.get(values["form"], ".jsonl"))))
        what = "a new folder" if values["form"] == "huggingface" else "a new file"
        out, problem = place(form.values["out"])
        form["out"].say(what)
        if problem:
            wrong["out"] = problem
        # The field may be too narrow for all of the path: it stands below as well.
        self.tell(wrong, f"{what}: {out}", f": {out}" if next(iter(wrong), "") == "out" else "")
        if wrong:
            return None
        return ExportOrder(dataset, self._datasets.name(dataset), values["form"], out, only)

    def _choose_rows(self, dataset: Dataset, wrong: dict[str, str]) -> Only | None:
        """Which rows are asked for, and how many those are; None for all."""
        if len(self._rows) == 1:
            return None
        field, rows = self.form["rows"], count(self._rows[ALL].counts[dataset.id])
        chosen = self._rows[field.value]
        if chosen.only is None:
            field.say(f"{rows}, whatever is listed or marked")
        elif many := chosen.counts[dataset.id]:
            field.say(f"{count(many)} of {rows}: {chosen.only.words}")
        else:
            wrong["rows"] = f"none of this dataset: {chosen.only.words}"
        return chosen.only


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
