"""Fields of a form made from a schema's settings, and back: the part of a run file that their values make."""

from collections.abc import Callable, Container, Iterable, Mapping
from contextlib import suppress
from typing import Any, Final

from textual.suggester import Suggester

from engine.config.setting import Setting
from persyn_tui.app.widgets.form_fields import Area, Choice, Control, Entry, Form, Line, amount, words

USUAL: Final = "usual"
"""The choice that leaves a setting out."""


def entry(
    one: Setting, value: Any = None, suggester: Suggester | None = None, *, tall: bool = False
) -> Entry:
    """A setting's field, which begins with `value` (None: left out); `tall`: its text may have several lines."""
    options, begun = _options(one), text(value)
    control: Control
    if options:
        control = Choice(options, begun or (USUAL if one.optional else one.nothing))
    elif tall:
        control = Area(begun, one.nothing)
    else:
        control = Line(begun, one.nothing, suggester)
    return Entry(one.key, one.title, control, _hint(one))


def show(
    form: Form, known: Mapping[str, Setting], always: Container[str], make: Callable[[Setting], Entry]
) -> None:
    """Shows the fields of these settings, in their words, and those that are there `always`; hides all others.

    Fields that were never shown are made now: a form of every kind's would open slowly.
    """
    before = next(iter(form.entries))
    for key in known:
        if key not in form.entries:
            form.add(make(known[key]), before)
        before = key
    for key, field in form.entries.items():
        if key in always:
            continue
        field.display = key in known
        field.disabled = not field.display
        if (one := known.get(key)) is None:
            continue
        field.describe(one.title, _hint(one))
        if isinstance(field.control, Choice):
            field.control.options = _options(one)
        else:
            field.control.placeholder = one.nothing


def filled(values: Mapping[str, str], known: Iterable[Setting]) -> dict[str, Any]:
    """The part of a run file that the values of these settings' fields make, by the setting's place.

    Left out is what is empty, and what was chosen though it is the default. A number that is none stays text, for the
    validation to name.
    """
    found: dict[str, Any] = {}
    for one in known:
        given = values.get(one.key, "")
        if given and (not _options(one) or given not in (USUAL, one.nothing)):
            put(found, one.place, _value(one, given))
    return found


def put(data: dict[str, Any], place: tuple[str, ...], value: Any) -> None:
    """Puts a value at its place; None takes away what is there, and the section that is empty then."""
    head, *rest = place
    if rest:
        inner = dict(data.get(head) or {})
        put(inner, tuple(rest), value)
        value = inner or None
    if value is None:
        data.pop(head, None)
    else:
        data[head] = value


def at(data: Mapping[str, Any], place: tuple[str, ...]) -> Any:
    """The value at a place; None where there is none."""
    found: Any = data
    for key in place:
        found = found.get(key) if isinstance(found, Mapping) else None
    return found


def text(value: object) -> str:
    """The value as the operator would type it."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, list | tuple):
        return ", ".join(map(str, value))
    return f"{value:.12g}" if isinstance(value, float) else str(value)


def _options(one: Setting) -> tuple[str, ...]:
    options = ("no", "yes") if one.type is bool else one.choices if one.type is str else ()
    return (USUAL, *options) if options and one.optional else options


def _hint(one: Setting) -> str:
    usual = f"{USUAL}: {one.nothing}" if USUAL in _options(one) and one.nothing else ""
    return "; ".join(filter(None, (one.hint, usual)))


def _value(one: Setting, given: str) -> Any:
    if one.type is tuple:
        several = words(given)
        return several[0] if one.alone and len(several) == 1 else several
    if one.type is bool:
        return given == "yes"
    if one.type in (int, float):
        plain = amount(given)
        for kind in (int, one.type):
            with suppress(ValueError):
                return kind(plain)
    return given
