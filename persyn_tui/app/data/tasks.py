"""What the data screen does in threads while the list goes on: the word index, and exports."""

from collections.abc import Callable, Sequence
from dataclasses import replace

from textual.message import Message
from textual.worker import get_current_worker

from persyn_tui.app.data.forms import ExportOrder
from persyn_tui.app.text import count
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


def passing(store: Store, wanted: listing.Listing, ready: Sequence[Dataset]) -> dict[int, int]:
    """Dataset id → how many of its rows that are not excluded pass; empty where there is no filter."""
    from engine.export import described

    if not described(wanted):
        return {}
    return {one.id: len(listing.kept(store, replace(wanted, dataset_id=one.id))) for one in ready}


def export(store: Store, order: ExportOrder, post: Post) -> None:
    """Writes a dataset; said in the end is where it is."""
    from engine.export import export as write

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
    post(Said("export", f"{count(written.rows)} rows of `{order.name}` are in {written.path}"))
