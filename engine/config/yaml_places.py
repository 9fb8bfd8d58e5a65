"""Where things stand in a YAML text, and the mistakes that PyYAML does not report."""

from typing import Final

import yaml

from engine.base.errors import ConfigError

NODES: Final = 100_000
"""More than any run file holds; anchors that unfold without end hold more."""


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


def check(node: yaml.Node | None, where: str) -> None:
    """Refuses what PyYAML takes without a word.

    Raises:
        ConfigError: a mapping has one key twice, a key is not a plain word, or anchors unfold to more than
            `NODES` values; names `where` and the line.
    """
    stack, seen = [node], 0
    while stack:
        node, seen = stack.pop(), seen + 1
        if seen > NODES:
            raise ConfigError(
                f"{where}: holds more than {NODES:,} values once its anchors are unfolded",
                "write out what the anchors stand for",
            )
        if isinstance(node, yaml.MappingNode):
            _check_keys(node, where)
            stack.extend(value for _, value in node.value)
        elif isinstance(node, yaml.SequenceNode):
            stack.extend(node.value)


def _check_keys(node: yaml.MappingNode, where: str) -> None:
    keys: set[str] = set()
    for key, _ in node.value:
        line = key.start_mark.line + 1
        if not isinstance(key, yaml.ScalarNode):
            raise ConfigError(f"{where}:{line}: a key is a list or a mapping", "use a plain word as the key")
        if key.value in keys:
            # PyYAML keeps the last of two equal keys.
            raise ConfigError(f"{where}:{line}: the key `{key.value}` stands twice", "keep one of them")
        keys.add(key.value)
