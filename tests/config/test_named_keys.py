"""Every `section.key` that a message names is a key of the run file, and every setting is read."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

from pydantic import BaseModel

from engine.base.plugins import SCORERS, SOURCES, TEACHERS
from engine.config.kinds import scorer_kind, source_kind, teacher_kind
from engine.config.models import StudentConfig, TeacherConfig
from engine.config.quality import ScorerConfig
from engine.config.run_file import Run
from engine.config.setting import section_of, settings

ROOT = Path(__file__).parents[2]


def texts(file: Path) -> Iterator[str]:
    """The text constants of a file that are no docstrings."""
    tree = ast.parse(file.read_text("utf-8"))
    said = {node.value for node in ast.walk(tree) if isinstance(node, ast.Expr)}
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and node not in said:
            yield node.value


def sections() -> Iterator[type[BaseModel]]:
    """The run file's sections, those of all kinds included."""
    waiting: list[type[BaseModel]] = [Run, TeacherConfig, StudentConfig, ScorerConfig]
    waiting += [teacher_kind(kind).settings for kind in TEACHERS.names()]
    waiting += [scorer_kind(kind).settings for kind in SCORERS.names()]
    waiting += [source_kind(kind).settings for kind in SOURCES.names()]
    seen = set[type[BaseModel]]()
    while waiting:
        section = waiting.pop()
        if section not in seen:
            seen.add(section)
            yield section
            waiting += [inner for field in section.model_fields.values() if (inner := section_of(field))]


def test_every_key_that_a_message_names_is_in_the_schema() -> None:
    valid: dict[str, set[str]] = {}
    for key, field in Run.model_fields.items():
        section = section_of(field)
        if section is not None:
            valid[key] = set(settings(section)) | set(section.model_fields)
    for kind in TEACHERS.names():
        declared = teacher_kind(kind).settings
        for key, field in declared.model_fields.items():
            if (section := section_of(field)) is not None:
                valid.setdefault(key, set()).update(settings(section), section.model_fields)
    for kind in SCORERS.names():
        valid["quality"] |= set(settings(scorer_kind(kind).settings))
    named = re.compile(rf"(?<![\w./{{[]){'(' + '|'.join(valid) + ')'}\.(\w+(?:\.\w+)*)(?![\w(/-])")
    wrong = [  # a text without a space is no message, and a screen's keys stand in braces
        f"{file.relative_to(ROOT)}: {found[0]}"
        for top in ("engine", "storage", "persyn_tui", "persyn")
        for file in (ROOT / top).rglob("*.py")
        for text in texts(file)
        if " " in text
        for found in named.finditer(text)
        if found[2] not in valid[found[1]]
    ]
    assert not wrong, wrong


def test_every_setting_is_read() -> None:
    read = set[str]()
    for file in (ROOT / "engine").rglob("*.py"):
        tree = ast.parse(file.read_text("utf-8"))
        read |= {node.attr for node in ast.walk(tree) if isinstance(node, ast.Attribute)}
        read |= set(texts(file))
    unread = [
        f"{section.__name__}.{key}"
        for section in sections()
        for key in section.model_fields
        if key not in read
    ]
    assert not unread, unread
