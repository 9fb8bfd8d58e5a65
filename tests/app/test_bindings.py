"""Every key of the app: it can be remapped, reaches the app, hides no key of the whole app, and does something."""

import pkgutil
from collections.abc import Iterator
from importlib import import_module

import pytest
from textual.binding import Binding
from textual.dom import DOMNode
from textual.screen import Screen
from textual.widgets import Input

import persyn_tui.app
from persyn_tui.app.app import PersynApp
from persyn_tui.app.base.settings import TAKEN
from persyn_tui.app.screens.base import BaseScreen
from persyn_tui.app.widgets.confirm import Confirm

EVERYWHERE = {*"1234567", "question_mark", "q", "ctrl+q", "ctrl+p"}
"""Keys that mean the same on every screen."""


def classes() -> list[type[DOMNode]]:
    """Every class of the app that may have keys, from every one of its modules."""
    package = persyn_tui.app
    found: dict[type[DOMNode], None] = {}
    for module in pkgutil.walk_packages(package.__path__, f"{package.__name__}."):
        for made in vars(import_module(module.name)).values():
            if (
                isinstance(made, type)
                and issubclass(made, DOMNode)
                and made.__module__.startswith(package.__name__)
            ):
                found[made] = None
    return list(found)


def own(of: type[DOMNode]) -> list[Binding]:
    """The keys that a class itself brings, one for each key."""
    return list(Binding.make_bindings(of.__dict__.get("BINDINGS", ())))


ALL = [(of, binding) for of in classes() for binding in own(of)]
NAMED = [pytest.param(of, binding, id=f"{of.__name__}-{binding.key}-{binding.action}") for of, binding in ALL]
SCREENS = [
    of for of in classes() if issubclass(of, BaseScreen) and of.__module__.endswith((".screen", ".logs"))
]


def keys(pressed: str) -> Iterator[str]:
    """The keys of `a,b`."""
    return (key.strip() for key in pressed.split(","))


def test_all_seven_screens_and_their_dialogs_are_looked_at() -> None:
    assert sorted(screen.NUMBER for screen in SCREENS) == [1, 2, 3, 4, 5, 6, 7]
    assert [screen.NAME.lower() for screen in sorted(SCREENS, key=lambda of: of.NUMBER)][:-1] == list(
        PersynApp.MODES
    )[:-1]
    assert {PersynApp, Confirm} <= {of for of, _ in ALL}
    assert len(ALL) > 100


@pytest.mark.parametrize(("of", "binding"), NAMED)
def test_a_key_can_be_remapped_and_reaches_the_app(of: type[DOMNode], binding: Binding) -> None:
    assert binding.id, f"{of.__name__}: {binding.key} has no id"
    assert "." in binding.id
    assert binding.id == binding.id.lower()
    assert binding.description, f"{binding.id} has no words for `?`"
    for key in keys(binding.key):
        assert key not in TAKEN or binding.action == "suspend_process"  # as the terminal means it
        assert not key.startswith(("super+", "alt+ctrl+")), f"{key} never leaves most terminals"


@pytest.mark.parametrize(("of", "binding"), NAMED)
def test_a_key_hides_none_of_the_whole_app(of: type[DOMNode], binding: Binding) -> None:
    if of is not PersynApp and not issubclass(of, Input):
        assert EVERYWHERE.isdisjoint(keys(binding.key))


@pytest.mark.parametrize(("of", "binding"), NAMED)
def test_a_key_names_an_action_that_there_is(of: type[DOMNode], binding: Binding) -> None:
    place, _, name = binding.action.partition("(")[0].rpartition(".")
    where: type[DOMNode] = {"": of, "app": PersynApp, "screen": Screen}[place]
    assert callable(getattr(where, f"action_{name}", None) or getattr(where, f"_action_{name}", None)), (
        f"{of.__name__} has no action `{binding.action}`"
    )


def test_an_id_means_one_thing() -> None:
    """The settings file names keys by id: two keys of one id must do the same kind of thing in one class."""
    owners: dict[str, set[type[DOMNode]]] = {}
    for of, binding in ALL:
        owners.setdefault(str(binding.id), set()).add(of)
    assert {key: [of.__name__ for of in found] for key, found in owners.items() if len(found) > 1} == {}


@pytest.mark.parametrize("screen", SCREENS, ids=lambda screen: screen.__name__)
def test_a_screen_binds_a_key_once_and_its_footer_fits_80_columns(screen: type[BaseScreen[object]]) -> None:
    bound = [key for binding in own(screen) for key in keys(binding.key)]
    assert len(bound) == len(set(bound))
    shown = [binding for binding in [*own(screen), *own(PersynApp)] if binding.show]
    labels: dict[str, str] = {}
    for binding in shown:
        key = binding.key_display or {"enter": "⏎", "escape": "esc"}.get(binding.key, binding.key)
        labels.setdefault(binding.action, f"{key} {binding.description}")
    assert len(" ".join(labels.values())) <= 80


def test_letters_are_not_taken_while_words_are_typed() -> None:
    """A priority binding of a letter would eat it in every search line."""
    for of, binding in ALL:
        if binding.priority:
            assert all(len(key) > 1 for key in keys(binding.key)), f"{of.__name__}: {binding.key}"
