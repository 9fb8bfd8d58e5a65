"""The keys that work now: those of the settings file as far as they can, and texts that name them."""

import re
from collections.abc import Iterable, Mapping

from textual.binding import Binding

from persyn_tui.app.base.settings import TAKEN
from persyn_tui.app.textual_fixes.private import key_of

NAMED = re.compile(r"\{([a-z_]+\.[a-z_]+):([^{}\s,]+)\}( {2,})?")
"""`{jobs.new:n}`: the key of a binding in a text, with the one that it has where nothing else is chosen."""
SCREENS = ("app", "go", "view", "jobs", "models", "router", "generation", "data", "distil", "logs")
"""Beginnings of the ids of keys that work where everybody's do; those of dialogs work where few others do."""


def keys_of(text: str) -> list[str]:
    """The keys of `f6, ?` as the library calls them."""
    found = [key.strip() for key in text.split(",")]
    return [key_of(key) if len(key) == 1 else key for key in found if key]


def settled(chosen: Mapping[str, str], everybodys: Iterable[Binding]) -> tuple[dict[str, str], list[str]]:
    """(binding id → keys that can work, a line for each that cannot; the binding keeps what it has without it)."""
    works: dict[str, str] = {}
    faults: list[str] = []
    for id, text in chosen.items():
        if not text.isprintable():
            faults.append(f"keys.{id}: no key is written like this")
            continue
        keys = keys_of(text)
        faults += [
            f"keys.{id}: {key} belongs to the terminal or to tmux; choose another"
            for key in keys
            if key in TAKEN
        ]
        if left := [key for key in keys if key not in TAKEN]:
            works[id] = ",".join(left)
    own = {str(each.id): each.key for each in everybodys if each.id}
    while clash := _clash(works, own):
        id, key, other = clash
        left = [each for each in keys_of(works[id]) if each != key]
        own_again = "" if left else f"; {id} keeps its own key"
        faults.append(f"keys.{id}: {display(key)} is that of {other}, which works everywhere{own_again}")
        if left:
            works[id] = ",".join(left)
        else:
            del works[id]
    return works, faults


def _clash(works: Mapping[str, str], own: Mapping[str, str]) -> tuple[str, str, str] | None:
    """(id, key, id of everybody's that has this key already) of the first that there is."""
    holders = {key: id for id, text in own.items() for key in keys_of(works.get(id, text))}
    # Of two of everybody's the one that was not moved there stays.
    holders |= {key: id for id, text in own.items() if id not in works for key in keys_of(text)}
    for id, text in works.items():
        for key in keys_of(text):
            if id.partition(".")[0] in SCREENS and holders.get(key, id) != id:
                return id, key, holders[key]
    return None


def keyed(text: str, works: Mapping[str, str]) -> str:
    """The text with the keys that work now, as `settled` has them, in the place of `{jobs.new:n}`."""

    def key(found: re.Match[str]) -> str:
        id, default, space = found.groups()
        own = works.get(id)
        if own is None:
            return default + (space or "")
        shown = display(own)
        # What stands below each other stays so.
        return shown + (" " * max(2, len(default) + len(space) - len(shown)) if space else "")

    return NAMED.sub(key, text)


def shown(binding: Binding, works: Mapping[str, str]) -> str:
    """The key of a binding as a class declares it, as it stands on a keyboard."""
    own = works.get(binding.id or "")
    return binding.key_display if own is None and binding.key_display else display(own or binding.key)


def display(keys: str) -> str:
    """The first of the keys, as it stands on a keyboard."""
    from textual.keys import format_key

    *modifiers, key = keys_of(keys)[0].split("+")
    return "+".join([*modifiers, format_key(key)])
