"""Every binding id of the app, for `keys` of the settings file: what cannot work is named, not passed over."""

import pkgutil
from collections.abc import Iterable, Mapping
from functools import cache
from importlib import import_module

from textual.app import App
from textual.binding import Binding

import persyn_tui.app


@cache
def _bound() -> dict[type, list[Binding]]:
    """The bindings of all screens, dialogs and widgets. Imports each: called in a thread, after the first paint."""
    found: dict[type, list[Binding]] = {}
    for module in pkgutil.walk_packages(persyn_tui.app.__path__, "persyn_tui.app."):
        for thing in vars(import_module(module.name)).values():
            if isinstance(thing, type):
                of = [
                    each for each in vars(thing).get("BINDINGS", ()) if isinstance(each, Binding) and each.id
                ]
                if of:
                    found[thing] = of
    return found


def known() -> set[str]:
    """Their ids."""
    return {each.id for bindings in _bound().values() for each in bindings if each.id}


def unknown(ids: Iterable[str]) -> list[str]:
    """A line for each id that is none, with the nearest that is one."""
    from engine.base.suggest import nearest

    valid = known()
    lines = []
    for name in ids:
        if name not in valid:
            guess = nearest(name, sorted(valid))
            lines.append(f"keys.{name}: no such binding" + (f"; did you mean {guess}?" if guess else ""))
    return lines


def taken_twice(keys: Mapping[str, str]) -> list[str]:
    """A line for each chosen key that something else on the same screen has, or that works on all screens."""
    bound = _bound()
    lines = []
    for thing, bindings in bound.items():
        # What is inherited counts, and so does what the app has everywhere.
        others = [
            each
            for other, of in bound.items()
            if other is not thing and (issubclass(thing, other) or issubclass(other, App))
            for each in of
        ]
        of_key: dict[str, dict[str, None]] = {}
        for each in [*bindings, *others]:
            for key in keys.get(str(each.id), each.key).split(","):
                of_key.setdefault(key.strip(), {})[str(each.id)] = None
        own = {str(each.id) for each in bindings}
        lines += [
            f"keys: {key} is that of {' and '.join(ids)}; one of them cannot be reached"
            for key, ids in of_key.items()
            if len(ids) > 1 and own & set(ids) and set(ids) & set(keys)
        ]
    return list(dict.fromkeys(lines))
