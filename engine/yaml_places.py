"""Where things stand in a YAML text, and the one mistake that PyYAML does not report."""

import yaml

from engine.errors import ConfigError


def line_of(node: yaml.Node | None, loc: tuple[int | str, ...]) -> int:
    """The 1-based line of the deepest part of `loc` that the YAML has."""
    line = 1
    for part in loc:
        if isinstance(node, yaml.MappingNode):
            for key, value in node.value:
                if key.value == str(part):
                    line, node = key.start_mark.line + 1, value
                    break
        elif isinstance(node, yaml.SequenceNode) and isinstance(part, int) and part < len(node.value):
            node = node.value[part]
            line = node.start_mark.line + 1
    return line


def refuse_duplicate_keys(node: yaml.Node | None, where: str) -> None:
    """Raises ConfigError, naming `where` and the line, when a mapping has one key twice."""
    # PyYAML keeps the last of two equal keys without a word.
    if isinstance(node, yaml.MappingNode):
        seen: set[str] = set()
        for key, value in node.value:
            if key.value in seen:
                line = key.start_mark.line + 1
                raise ConfigError(f"{where}:{line}: the key `{key.value}` stands twice", "keep one of them")
            seen.add(key.value)
            refuse_duplicate_keys(value, where)
    elif isinstance(node, yaml.SequenceNode):
        for child in node.value:
            refuse_duplicate_keys(child, where)
