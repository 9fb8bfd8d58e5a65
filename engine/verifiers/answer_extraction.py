"""Finding the final answer in a text."""

import re

MAX_CHARS = 20_000
"""Only this much of a text's end is searched, and an answer is never longer: answers come last."""

_OPEN, _CLOSE = re.compile("<answer>", re.IGNORECASE), re.compile("</answer>", re.IGNORECASE)
_BOX = "\\boxed{"
_HASHES = re.compile(r"^[ \t]*####[ \t]+(\S[^\n]*)", re.MULTILINE)
_PHRASE = re.compile(r"\banswer(?:[ \t*]{0,4}:|[ \t]{1,4}is\b[ \t*]{0,4}:?)[ \t*]{0,4}", re.IGNORECASE)
_NUMBER = re.compile(r"(?<![\w.])[-+−]?(?:\d{1,3}(?:,\d{3})+|\d+)(?:\.\d+)?(?:/\d+)?(?!\d)")
_SENTENCE_END = re.compile(r"[.!?](?=\s+[A-Z])")
_QUOTES = ('""', "''", "“”", "‘’")
_AROUND = "*`$ \t\r\n"


def extract_final_answer(text: str, numeric: bool = False) -> str:
    """The final answer in a text, whitespace and decoration around it removed.

    The first of these that is there, and of each the last one in the text:

    1. the content of `<answer>…</answer>`;
    2. the content of `\\boxed{…}`, braces balanced;
    3. the rest of a line that begins with `####`;
    4. what follows "answer is" or "answer:", to the end of the sentence or the line; when nothing is left on
       that line, the lines below it up to an empty one;
    5. if `numeric`, the last number;
    6. the whole text.

    Args:
        text: any text; only its last `MAX_CHARS` characters are searched.
        numeric: whether the expected answer is a number. Of what was found the last number is taken then,
            without thousands separators, if it holds one: "x = 1,042 apples" is 1042.
    """
    found = undecorated(find_marked(text) or text[-MAX_CHARS:])
    numbers = _NUMBER.findall(found) if numeric else []
    return numbers[-1].replace(",", "").replace("−", "-") if numbers else found


def find_marked(text: str) -> str | None:
    """The answer that a mark announces (rules 1 to 4 above) as it stands there, or None without a mark."""
    text = text[-MAX_CHARS:]
    hashes = _HASHES.findall(text)
    for found in (_tagged(text), _boxed(text), hashes[-1] if hashes else None, _phrased(text)):
        if found is not None and found.strip():
            return found
    return None


def undecorated(answer: str) -> str:
    """Without whitespace, emphasis, dollar signs, a final full stop, and one pair of quotes around it."""
    stripped = answer.strip(_AROUND)
    if stripped.endswith(".") and not stripped.endswith(".."):
        stripped = stripped[:-1].rstrip(_AROUND)
    if len(stripped) > 1 and stripped[0] + stripped[-1] in _QUOTES:
        stripped = stripped[1:-1].strip(_AROUND)
    return stripped


def _tagged(text: str) -> str | None:
    closing = [match.start() for match in _CLOSE.finditer(text)]
    if not closing:
        return None
    opening = [match.end() for match in _OPEN.finditer(text, 0, closing[-1])]
    return text[opening[-1] : closing[-1]] if opening else None


def _boxed(text: str) -> str | None:
    """Content of the last box; None when it is never closed."""
    start = text.rfind(_BOX)
    if start < 0:
        return None
    start += len(_BOX)
    depth = 1
    for position in range(start, len(text)):
        depth += {"{": 1, "}": -1}.get(text[position], 0)
        if depth == 0:
            return text[start:position]
    return None


def _phrased(text: str) -> str | None:
    phrases = list(_PHRASE.finditer(text))
    if not phrases:
        return None
    rest = text[phrases[-1].end() :]
    line = rest.partition("\n")[0]
    if line.strip(_AROUND):
        return _SENTENCE_END.split(line, maxsplit=1)[0]
    return re.split(r"\n[ \t]*\n", rest.lstrip(_AROUND), maxsplit=1)[0]
