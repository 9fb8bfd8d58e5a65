"""Private names of Textual: one module uses them, and says which is gone."""

import ast
from pathlib import Path

import pytest
from textual.app import App

import persyn_tui.app
from persyn_tui.app.textual_fixes import private

USED = {"_exception", "_notifications"} | {name for names in private._NAMES.values() for name in names}


def test_a_private_name_that_is_gone_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(App, "_unnotify")
    with pytest.raises(private.TextualChangedError, match=r"has no App\._unnotify"):
        private.check()


def test_no_other_module_uses_a_private_name_of_textual() -> None:
    used = {
        (path.name, name)
        for path in Path(persyn_tui.app.__path__[0]).rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text()))
        for name in (getattr(node, "attr", ""), getattr(node, "name", ""), getattr(node, "value", ""))
        if isinstance(name, str) and name in USED
    }
    assert {path for path, _ in used} == {"private.py"}
    assert {name for _, name in used} == USED
