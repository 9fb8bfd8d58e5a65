"""Keys of endpoints: read from the environment alone, and in no message, whichever way a server writes them back."""

import base64
import os
import re
from functools import lru_cache

from engine.base.errors import ConfigError

MIN_PART = 8
"""Characters of a key that may stand in a message by chance; more of its beginning or its end may not."""

MIN_SECRET = 16
"""Characters of a key that is one: shorter ones, such as `lm-studio`, are words that a response may hold."""

_URL_PASSWORD = re.compile(r"(://[^/\s:@]{1,200}:)[^@\s/]{1,200}@")
_ENTITIES = {"&": "amp", "<": "lt", ">": "gt", '"': "quot", "'": "apos"}


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
    """A message without the key, a part of it, and passwords in addresses."""
    text = _URL_PASSWORD.sub(r"\1***@", text)
    if not key:
        return text
    text = _pattern(key).sub("***", text) if len(key) >= MIN_PART else text.replace(key, "***")
    for length in range(len(key) - 1, MIN_PART - 1, -1):  # what a server, or a limit of ours, has cut
        if key[:MIN_PART] not in text and key[-MIN_PART:] not in text:
            break
        text = text.replace(key[:length], "***").replace(key[-length:], "***")
    return text


def redacted_body(body: bytes, key: str | None, least: int) -> bytes:
    """A reply's bytes without the key, before anything decodes, cuts or quotes them.

    Args:
        body: as it came, decompressed.
        key: None where no key was sent.
        least: characters of a key below which the body stays as it is.
    """
    if not key or len(key) < least:
        return body
    return _pattern_of_bytes(key).sub(
        # In UTF-16 each sign has two bytes, which must stay so.
        lambda found: b"*" * len(found[0]) if b"\0" in found[0] else b"***",
        body,
    )


@lru_cache(maxsize=64)
def _pattern(key: str) -> re.Pattern[str]:
    """The key however it is written: plainly, escaped for JSON (once or more often), a URL or HTML, or as base64."""
    signs = "".join(rf"(?:{_forms(sign)})" for sign in key)
    return re.compile("|".join((signs, *map(re.escape, _base64(key)))))


@lru_cache(maxsize=64)
def _pattern_of_bytes(key: str) -> re.Pattern[bytes]:
    signs = r"\0{0,3}".join(rf"(?:{_forms(sign)})" for sign in key)
    return re.compile("|".join((signs, *map(re.escape, _base64(key)))).encode())


def _forms(sign: str) -> str:
    code = ord(sign)
    hexadecimal = "".join(
        f"[{digit}{digit.upper()}]" if digit.isalpha() else digit for digit in f"{code:02x}"
    )
    forms = [
        rf"\\*{re.escape(sign)}",
        rf"\\+u(?:00|\{{0{{0,4}}){hexadecimal}\}}?",
        rf"\\+x{hexadecimal}",
        rf"%(?:25)*{hexadecimal}",
        rf"&(?:amp;)?#(?:0*{code}|[xX]0*{hexadecimal});",
    ]
    if sign in _ENTITIES:
        forms.append(f"&(?:amp;)?{_ENTITIES[sign]};")
    return "|".join(forms)


def _base64(key: str) -> list[str]:
    """What is the same in every text in base64 that holds the key, at each of its three places."""
    found = []
    for shift in range(3):
        whole = base64.b64encode(b"\0" * shift + key.encode()).decode()
        first = (0, 2, 3)[shift]
        last = len(whole.rstrip("=")) - ((shift + len(key)) % 3 > 0)
        if last - first >= MIN_PART:
            found += [whole[first:last], whole[first:last].replace("+", "-").replace("/", "_")]
    return found
