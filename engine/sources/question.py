"""What makes two prompts the same question."""

import re
import unicodedata

from storage.records import Prompt


def core_question(prompt: Prompt) -> str:
    """The prompt's words alone: case, spacing and punctuation between words removed, symbols kept.

    Two prompts of one core question are near duplicates. Digits and mathematical symbols are kept:
    "2 + 3" and "2 - 3" are different questions.
    """
    text = "\x1e".join(str(message["content"]) for message in prompt.messages)
    text = unicodedata.normalize("NFKC", text).casefold()
    return _SPACING.sub(" ", _PUNCTUATION.sub(" ", text)).strip()


_PUNCTUATION = re.compile(r"[\"'`,;:!?]|\.(?!\d)")
_SPACING = re.compile(r"\s+")
