"""Every binding id of the app, for `keys` of the settings file: an id that is none is named, not passed over."""

import pkgutil
from collections.abc import Iterable
from importlib import import_module

from textual.binding import Binding

import persyn_tui.app


def known() -> set[str]:
    """The ids of all screens, dialogs and widgets. Imports each: called in a thread, after the first paint."""
    found: set[str] = set()
    for module in pkgutil.walk_packages(persyn_tui.app.__path__, "persyn_tui.app."):
        for thing in vars(import_module(module.name)).values():
            bindings = vars(thing).get("BINDINGS", ()) if isinstance(thing, type) else ()
            found |= {each.id for each in bindings if isinstance(each, Binding) and each.id}
    return found


def unknown(ids: Iterable[str]) -> list[str]:
    """A line for each id that is none, with the nearest that is one."""
    from engine.suggest import nearest

    valid = known()
    lines = []
    for name in ids:
        if name not in valid:
            guess = nearest(name, sorted(valid))
            lines.append(f"keys.{name}: no such binding" + (f"; did you mean {guess}?" if guess else ""))
    return lines
