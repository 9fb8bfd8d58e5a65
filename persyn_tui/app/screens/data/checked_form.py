"""What the filter and the export ask alike: fields that are checked at every edit, one of which names a dataset."""

from collections.abc import Mapping, Sequence
from typing import Generic, TypeVar

from textual import on

from engine.base.suggest import nearest
from persyn_tui.app.widgets.form_fields import Dialog, Edited, Entry, Line, Words
from persyn_tui.views.dataset_view import Datasets
from storage.records import Dataset

T = TypeVar("T")


class CheckedForm(Dialog[T | None], Generic[T]):
    """A dialog of one form, which is left only when every field is right."""

    FIRST: str
    """The field in which the cursor begins."""

    def checked(self) -> T | None:
        """What the fields ask for; None where one is wrong, which is said beside it and below."""
        raise NotImplementedError

    def ready(self) -> None:
        super().ready()
        self.checked()
        self.form[self.FIRST].control.focus()

    @on(Edited)
    def _check(self) -> None:
        self.checked()

    def tell(self, wrong: Mapping[str, str], otherwise: str = "", more: str = "") -> None:
        """Says beside each field what is wrong with it, of the first also below with `more`; else `otherwise` below."""
        for key, text in wrong.items():
            self.form[key].say(text, "bad")
        if wrong:
            key, text = next(iter(wrong.items()))
            self.say(f"✗ {self.form[key].title}: {text}{more}", "bad")
        else:
            self.say(otherwise)

    def action_apply(self) -> None:
        """Leaves with what is asked for, or goes to what is wrong."""
        asked = self.checked()
        if asked is not None:
            self.dismiss(asked)
        else:
            self.form.to_wrong()


def named(key: str, value: str, names: Sequence[str]) -> Entry:
    """A field for one of these names, which tab completes; the first of them stand beside it."""
    distinct = list(dict.fromkeys(names))
    more = f" · {len(distinct) - 6} more" if len(distinct) > 6 else ""
    return Entry(key, key, Line(value, "", Words(names)), " · ".join(distinct[:6]) + more)


def which_dataset(text: str, ready: Sequence[Dataset], datasets: Datasets) -> tuple[Dataset | None, str]:
    """(the one of `ready` that a number, a name, or both mean, what is wrong: empty where one is)."""
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
