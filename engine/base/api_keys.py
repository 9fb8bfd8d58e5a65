"""Keys of endpoints: read from the environment alone, and in no message."""

import os

from engine.base.errors import ConfigError

MIN_PART = 8
"""Characters of a key that a cut message may end with unseen."""


def read(whose: str, name: str) -> str:
    """The key in an environment variable.

    Args:
        whose: for messages.
        name: of the variable.

    Raises:
        ConfigError: it is not set, or what it holds can be no key.
    """
    value = os.environ.get(name, "").strip()  # a secret file often ends in a newline
    if not value:
        raise ConfigError(
            f"{whose}: the environment variable {name} is {'empty' if name in os.environ else 'not set'}",
            # An environment is that of the start: a program that runs does not see a change.
            f"export {name}=…, then start persyn again",
        )
    if not (value.isascii() and value.isprintable()):
        raise ConfigError(
            f"{whose}: the key in {name} holds characters that no header can carry",
            f"set {name} to the key alone, on one line",
        )
    return value


def redacted(text: str, key: str | None) -> str:
    """The text without the key, and without its beginning where the text was cut in the middle of it."""
    if not key:
        return text
    text = text.replace(key, "***")
    for length in range(len(key) - 1, MIN_PART - 1, -1):
        if text.endswith(key[:length]):
            return text[:-length] + "***"
    return text
