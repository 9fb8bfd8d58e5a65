"""What may enter the database as text.

Models produce lone surrogates and NUL characters. SQLite's driver refuses the first (they have no UTF-8
form), PostgreSQL refuses both. Each such character becomes U+FFFD at the door, for every column and every
JSON document on both databases, so that a hostile answer is stored and can be looked at.
"""

import json
import re
from collections.abc import Mapping
from dataclasses import asdict, is_dataclass
from typing import Any

from storage.errors import StoreError

_UNSTORABLE = re.compile("[\x00\ud800-\udfff]")


def clean(text: str) -> str:
    """The text with NUL and lone surrogates replaced by U+FFFD; the same object when there are none."""
    if "\x00" not in text:
        try:
            text.encode()
        except UnicodeEncodeError:
            pass
        else:
            return text
    return _UNSTORABLE.sub("�", text)


def _clean_tree(value: Any) -> Any:
    if isinstance(value, str):
        return clean(value)
    if isinstance(value, Mapping):
        return {clean(str(key)): _clean_tree(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_clean_tree(item) for item in value]
    return value


def _plain(value: Any) -> Any:
    if is_dataclass(value) and not isinstance(value, type):
        return asdict(value)
    if isinstance(value, Mapping):
        return dict(value)
    raise TypeError(f"{type(value).__name__} has no JSON form")


def dump_json(value: Any, *, canonical: bool = False) -> str:
    """JSON text of mappings, sequences, dataclasses and scalars, cleaned as `clean` does.

    Args:
        value: what to write.
        canonical: sorted keys and no spaces, so that equal values give equal text.

    Raises:
        StoreError: the value holds NaN, an infinity or something that has no JSON form.
    """
    separators = (",", ":")
    try:
        text = json.dumps(
            value,
            ensure_ascii=False,
            allow_nan=False,
            sort_keys=canonical,
            separators=separators,
            default=_plain,
        )
        if "\\u0000" in text or clean(text) is not text:
            plain = json.loads(json.dumps(value, default=_plain))
            text = json.dumps(
                _clean_tree(plain), ensure_ascii=False, sort_keys=canonical, separators=separators
            )
    except (TypeError, ValueError) as problem:
        raise StoreError(
            f"a value cannot be stored as JSON: {problem}",
            "Store finite numbers, text, lists and mappings with text keys only.",
        ) from problem
    return text


def load_json(text: str) -> Any:
    """The value of a JSON document.

    Raises:
        StoreError: a broken file holds something else there.
    """
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as problem:
        raise StoreError(
            f"the store holds a document that is no JSON ({problem})", "Restore a copy of it."
        ) from None
