"""Another package that adds to the engine, as pip would have installed it."""

import importlib
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from engine.base import plugins
from engine.base.plugins import Group
from engine.config import setting
from engine.methods import strategy_kinds


@contextmanager
def installed(folder: Path, group: Group, name: str, source: str) -> Iterator[None]:
    """The group knows `name` meanwhile; its module has this source."""
    module = f"added_{name}"
    (folder / f"{module}.py").write_text(source)
    metadata = folder / f"{module}-1.0.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {module}\nVersion: 1.0\n")
    (metadata / "entry_points.txt").write_text(f"[{group.entry_points}]\n{name} = {module}\n")
    sys.path.insert(0, str(folder))
    _forget()
    try:
        yield
    finally:
        sys.path.remove(str(folder))
        sys.modules.pop(module, None)
        _forget()


def _forget() -> None:
    """What was learned of packages and of what they add is read again."""
    importlib.invalidate_caches()
    for known in (plugins._added, setting.settings, strategy_kinds.names, strategy_kinds.load):
        known.cache_clear()


ECHO = '''
"""Responds with the prompt."""

from pydantic import Field

from engine.config.kinds import TeacherKind
from engine.config.section import Section


class Settings(Section):
    loudness: int = Field(3, ge=1, title="loudness")
    """How loud; 1 is a whisper."""
    device: str = "auto"


KIND = TeacherKind(settings=Settings, about={"model": "Any word."}, remote=True)


def identity(model):
    return {"backend": "echo", "model": model.model, **model.options}


def create(model):
    raise NotImplementedError
'''
"""The module of a teacher's kind with a setting of its own."""
