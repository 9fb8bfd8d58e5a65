"""The one hash that names specifications, prompts, generations and scorers."""

import hashlib
from typing import Any

from storage.text import dump_json


def sha(value: Any) -> str:
    """SHA-256 of the value's canonical JSON, as 64 hexadecimal digits.

    Keys are sorted and text is cleaned as the store cleans it, so a value read back from the store has the
    hash it went in with. 1 and 1.0 are different values.

    Raises:
        StoreError: the value holds NaN, an infinity or something that has no JSON form.
    """
    return hashlib.sha256(dump_json(value, canonical=True).encode()).hexdigest()
