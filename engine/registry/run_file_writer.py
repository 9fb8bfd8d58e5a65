"""A run file's text: the settings that are given, and every other one commented out with its default.

`# words` is a comment. A `#` without a space behind it, or with two, stands before a setting: without it the file means
the same.
"""

import textwrap
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

import yaml
from pydantic import BaseModel
from pydantic.fields import FieldInfo

from engine.config import setting
from engine.config.kinds import scorer_kind
from engine.config.quality import ScorerConfig
from engine.config.run_file import Run
from engine.config.setting import Setting

HEAD: Final = """\
# A run file of PerSyn. Settings behind a # have these values already; take the # away to change one.
"""
_WHOLE: Final = ("student", "teachers", "prompts")
"""Keys that hold entries, whose own defaults are not listed."""
_WIDTH: Final = 110


def text(data: Mapping[str, Any], head: str = HEAD, notes: Mapping[str, Sequence[str]] | None = None) -> str:
    """The YAML of a run file's content, with the schema's own words as comments.

    Args:
        data: what the run file has; of its keys any may be missing.
        head: comment lines to begin with.
        notes: key → more comment lines above it.
    """
    known = setting.settings(Run)
    parts = [head]
    for key, field in Run.model_fields.items():
        words = _words(setting.about(Run, key), known.get(key))
        section = None if key in _WHOLE else setting.section_of(field)
        lines = _setting(key, field, data) if section is None else _section(key, section, data.get(key) or {})
        comments = [*_comments(words), *(f"# {note}" for note in (notes or {}).get(key, ()))]
        parts.append("".join(f"{line}\n" for line in (*comments, *lines)))
    return "\n".join(parts)


def _section(key: str, section: type[BaseModel], given: Mapping[str, Any]) -> Iterator[str]:
    """The lines of one section; those of a scorer with what its kind may have."""
    yield f"{key}:" if given else f"#{key}:"
    kinds = [section]
    if issubclass(section, ScorerConfig):
        kinds.append(scorer_kind(given.get("scorer", section.model_fields["scorer"].default)).settings)
    listed: set[str] = set()
    for kind in kinds:
        known = setting.settings(kind)
        for name, field in kind.model_fields.items():
            listed.add(name)
            first, *more = _setting(name, field, given, "  ")
            words = _words(known[name].about, known[name]) if name in known else setting.about(kind, name)
            if words and len(line := f"{first}  # {words.removesuffix('.')}") <= _WIDTH and not more:
                yield line
            else:
                yield from (*_comments(words, "  "), first, *more)
    own = {name: value for name, value in given.items() if name not in listed}
    yield from (f"  {line}" for line in (_yaml(own) if own else ()))


def _words(about: str, known: Setting | None) -> str:
    """What is said of a setting, and the words that it may have."""
    choices = f" ({', '.join(known.choices)})" if known is not None and known.choices else ""
    return f"{about.replace('None:', 'null:')}{choices}".strip()


def _comments(words: str, indent: str = "") -> list[str]:
    return textwrap.wrap(words, _WIDTH, initial_indent=f"{indent}# ", subsequent_indent=f"{indent}# ")


def _setting(key: str, field: FieldInfo, given: Mapping[str, Any], indent: str = "") -> list[str]:
    """The lines of one setting; behind a `#` where it is not given."""
    if key in given:
        return [indent + line for line in _yaml({key: given[key]})]
    default = None if field.is_required() else field.get_default(call_default_factory=True)
    return [f"#{indent}{line}" for line in _yaml({key: default})]


def _yaml(data: Mapping[str, Any]) -> list[str]:
    for flow in (None, False):
        made: str = yaml.safe_dump(
            _plain(data), sort_keys=False, allow_unicode=True, width=_WIDTH, default_flow_style=flow
        )
        if not made.startswith("{"):  # all of it on one line, which a key of its own is not
            break
    return made.splitlines()


def _plain(value: Any) -> Any:
    """Tuples as lists, and whole numbers of weights without a fraction."""
    if isinstance(value, BaseModel):
        return _plain(value.model_dump(mode="json"))
    if isinstance(value, Mapping):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, float) and value.is_integer() and value >= 1e3:
        return int(value)
    return value
