"""What the data screen does in threads while the list goes on: the word index, and exports."""

from array import array
from collections.abc import Callable, Collection, Sequence

from textual.message import Message
from textual.worker import get_current_worker

from persyn_tui.app.base.formatting import count
from persyn_tui.app.screens.data.dialogs import LISTED, MARKED, ExportOrder, Some
from storage import listing, search
from storage.errors import PersynError
from storage.records import Dataset
from storage.store import Store

STEP = 5000
"""Texts indexed in one transaction: a job that writes waits no longer than this takes."""


class Doing(Message):
    """How far something in the background is."""

    def __init__(self, what: str, text: str) -> None:
        super().__init__()
        self.what, self.text = what, text


class Said(Message):
    """The end of something in the background; `text` is empty where there is nothing to say of it."""

    def __init__(self, what: str, text: str = "", problem: PersynError | None = None) -> None:
        super().__init__()
        self.what, self.text, self.problem = what, text, problem


Post = Callable[[Message], object]


def index(store: Store, post: Post) -> None:
    """Brings the word index up to date; said in the end is whether anything was added."""
    worker = get_current_worker()
    added = 0
    try:
        while not worker.is_cancelled:
            reached, last = search.reached(store)
            if reached < last:
                post(Doing("index", f"indexing {count(reached)} of {count(last)}"))
            new = search.sync(store, limit=STEP)
            added += new
            if not new:
                break
    except PersynError as problem:
        post(Said("index", problem=problem))
        return
    post(Said("index", "more" if added else ""))


def some(
    store: Store, wanted: listing.Listing, words: str, marked: Collection[int], ready: Sequence[Dataset]
) -> dict[str, Some]:
    """What else than all rows may be exported: the marked ones, those of a filtered list.

    Args:
        store: an open store.
        wanted: what the list is of.
        words: what it is filtered by; empty where it is not.
        marked: ids of responses.
        ready: datasets that may be exported.
    """
    from engine.report.export import Only

    found: dict[str, Only] = {}
    if marked:
        found[MARKED] = Only(sorted(marked), "marked by hand")
    if words:
        ids = array("q")
        for part in listing.stream(store, wanted):
            ids.extend(part)
        found[LISTED] = Only(array("q", sorted(ids)), words)
    rows: dict[str, dict[int, int]] = {name: {} for name in found}
    for one in ready if found else ():
        kept = listing.kept(store, listing.Listing(dataset_id=one.id))
        for name, only in found.items():
            rows[name][one.id] = only.among(kept)
    return {name: Some(only, rows[name]) for name, only in found.items()}


def export(store: Store, order: ExportOrder, post: Post) -> None:
    """Writes a dataset; said in the end is where it is."""
    from engine.report.export import export as write

    worker = get_current_worker()

    def progress(done: int, total: int) -> None:
        if worker.is_cancelled:  # the app is left: the unfinished file is removed on the way out
            raise PersynError("the export was given up")
        post(Doing("export", f"exporting {count(done)} of {count(total)}"))

    try:
        written = write(store, order.dataset, order.form, order.out, progress, order.only)
    except PersynError as problem:
        post(Said("export", problem=problem))
        return
    except Exception as problem:  # the app goes on, and says what it was
        post(Said("export", problem=PersynError(f"the export failed: {type(problem).__name__}: {problem}")))
        return
    post(Said("export", f"{count(written.rows)} rows of `{order.name}` are in {written.path}"))
