"""What the data screen does in threads while the list goes on: the word index, and exports.

Each is a worker of the group that it is named by; what it returns, or why it failed, is said when it has ended.
"""

from collections.abc import Callable
from dataclasses import dataclass

from textual.message import Message
from textual.worker import get_current_worker

from engine.report import export
from persyn_tui.app.base.formatting import count
from persyn_tui.app.screens.data.export_form import ExportOrder
from storage import search
from storage.errors import PersynError
from storage.store import Store

INDEX, EXPORT = "index", "export"
STEP = 5000
"""Texts indexed in one transaction: a job that writes waits no longer than this takes."""


@dataclass
class Doing(Message):
    """How far something in the background is."""

    what: str
    text: str


Post = Callable[[Message], object]


def index(store: Store, post: Post) -> int:
    """How many texts were added to the word index, which is up to date then."""
    worker, added = get_current_worker(), 0
    while not worker.is_cancelled:
        reached, last = search.reached(store)
        if reached < last:
            post(Doing(INDEX, f"indexing {count(reached)} of {count(last)}"))
        new = search.sync(store, limit=STEP)
        added += new
        if not new:
            break
    return added


def write(store: Store, order: ExportOrder, post: Post) -> str:
    """What to say of a dataset that was written.

    Raises:
        PersynError: it was not.
    """
    worker = get_current_worker()

    def progress(done: int, total: int) -> None:
        if worker.is_cancelled:  # the app is left: the unfinished file is removed on the way out
            raise PersynError("the export was given up")
        post(Doing(EXPORT, f"exporting {count(done)} of {count(total)}"))

    try:
        written = export.export(store, order.dataset, order.form, order.out, progress, order.only)
    except PersynError:
        raise
    except Exception as problem:
        raise PersynError(f"the export failed: {type(problem).__name__}: {problem}") from problem
    return f"{count(written.rows)} rows of `{order.name}` are in {written.path}"
