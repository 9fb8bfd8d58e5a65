"""What may reach a terminal: text that people read, and JSON that programs read."""

import json
import re
from typing import Any

# C0 but newline and tab, DEL, C1, soft hyphen, bidi controls, zero-width marks, lone surrogates, tag characters.
_HARMFUL = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\xad\u061c\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff\ud800-\udfff"
    "\U000e0000-\U000e007f]"
)


def strip_control(text: str) -> str:
    """The text with every character that could act on a terminal replaced by `�`."""
    return _HARMFUL.sub("\ufffd", text)


def one_line(text: str, most: int = 300) -> str:
    """Foreign text as part of a message of ours: on one line, harmless, cut to `most` characters with `…` at the end.

    A line break in it could pass for a line that we wrote.
    """
    line = strip_control(" ".join(text[: 4 * most].split()))
    return line if len(line) <= most and len(text) <= 4 * most else line[: most - 1] + "…"


def json_line(data: Any) -> str:
    """The data as JSON on one line; characters that could act on a terminal stand as `\\uXXXX`."""
    return _HARMFUL.sub(lambda found: json.dumps(found[0])[1:-1], json.dumps(data, ensure_ascii=False))
