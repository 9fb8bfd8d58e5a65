"""Every private name of Textual that the app uses, here and nowhere else; written for Textual 8.2.

Textual has no public way to: read the keys behind a dialog, take back a single message, replace the traceback of a
crash (it prints local variables, so prompts and keys), tell whether a message has a handler, see an input's
completion, or name the key of a character. A name that is gone is reported when the app starts, by `check`. An entry
of `_NAMES` can go with the function that uses it once Textual has a public name for it: `tests/app/test_private.py`.
"""

from collections.abc import Iterable
from importlib.metadata import version
from typing import Any, Generic, TypeVar

from textual import keys
from textual.app import App
from textual.binding import Binding, BindingsMap
from textual.css.match import match
from textual.dom import DOMNode
from textual.message import Message
from textual.notifications import Notification
from textual.screen import ModalScreen, Screen
from textual.widgets import Input

from storage.errors import PersynError

R = TypeVar("R")

_NAMES: dict[object, tuple[str, ...]] = {
    App: ("_fatal_error", "_unnotify", "_decorated_handlers"),
    Screen: ("_binding_chain", "_modal_binding_chain"),
    Input: ("_suggestion",),
    keys: ("_character_to_key",),
}
_OF_INSTANCES = ("_exception", "_notifications")
"""Names that an app has only once it is made."""


class TextualChangedError(PersynError):
    """The installed Textual lacks something private that the app is built on."""

    exit_code = 2


def check(app: App[Any] | None = None) -> None:
    """Raises where a private name is missing; `app` adds those that only an instance has.

    Raises:
        TextualChangedError: names what is missing.
    """
    missing = [
        f"{getattr(owner, '__name__', owner)}.{name}"
        for owner, names in _NAMES.items()
        for name in names
        if not hasattr(owner, name)
    ]
    if app is not None:
        missing += [f"App().{name}" for name in _OF_INSTANCES if not hasattr(app, name)]
    if missing:
        raise TextualChangedError(
            f"Textual {version('textual')} has no {', '.join(missing)}, which the app needs",
            'pip install "textual>=8.2,<8.3"',
        )


def key_of(character: str) -> str:
    """Textual's name of the key that types this character: `question_mark` for `?`."""
    return keys._character_to_key(character)


def is_handled(message: type[Message], sender: DOMNode) -> bool:
    """Whether the sender or a node above it has an `@on` handler for this message of the sender."""
    heard = (
        selectors
        for node in sender.ancestors_with_self
        for kind in type(node).__mro__
        for _, selectors in vars(kind).get("_decorated_handlers", {}).get(message, ())
    )
    return any(all(match(one, sender) for one in selectors.values()) for selectors in heard)


def suggestion(line: Input) -> str:
    """The completion that is shown behind what is typed; empty for none."""
    return line._suggestion


class PrivateApp(App[None]):
    """An app that can take a single message back, and says itself how it crashed."""

    def __init__(self) -> None:
        super().__init__()
        check(self)

    @property
    def messages(self) -> list[Notification]:
        """The messages that are shown or wait to be."""
        return list(self._notifications)

    def take_back(self, message: Notification) -> None:
        """Forgets a message, and its place on the screen, which `_unnotify` leaves empty."""
        self._unnotify(message, refresh=False)
        for place in self.screen.query("ToastHolder"):
            if place.id is not None and place.id.endswith(message.identity):
                place.remove()

    def _fatal_error(self) -> None:
        self.crashed(self._exception)

    def crashed(self, error: BaseException | None) -> None:
        """Ends the app after an exception that nothing handled, with `panic`."""
        raise NotImplementedError


class PrivateModal(ModalScreen[R], Generic[R]):
    """A dialog that hears some of the app's keys; Textual's hears none."""

    def heard_behind(self, bindings: Iterable[Binding]) -> list[Binding]:
        """Those of the app's bindings of one key that work here too."""
        raise NotImplementedError

    @property
    def _modal_binding_chain(self) -> list[tuple[DOMNode, BindingsMap]]:
        app = next(bindings for node, bindings in self._binding_chain if node is self.app)
        heard = {
            key: found
            for key, bindings in app.key_to_bindings.items()
            if (found := self.heard_behind(bindings))
        }
        return [*super()._modal_binding_chain, (self.app, BindingsMap.from_keys(heard))]


check()
