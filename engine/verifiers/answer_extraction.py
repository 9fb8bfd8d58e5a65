"""Finding the final answer in a text."""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Final

MAX_CHARS = 20_000
"""Only this much of a text's end is searched, and an answer is never longer: answers come last."""
_EACH = 4
"""So many of a kind are looked at, from the last one backwards."""

_OPEN, _CLOSE = re.compile("<answer>", re.IGNORECASE), re.compile("</answer>", re.IGNORECASE)
_BOXES: Final = ("\\boxed", "\\fbox", "\\framebox")
_BOX_START = re.compile(r"\\(?:boxed|fbox|framebox)\s{0,4}(?:\{|(?=[^\s{}\\]))")
_BETWEEN_BOXES = re.compile(
    r"[\s$\\),.;(\[\]]*(?:(?:and|or|,|\\text\{\s*(?:and|or)\s*\}|\\q?quad)[\s$\\),.;(\[\]]*)*"
)
_HASHES = re.compile(r"^[ \t]*####[ \t]+(\S[^\n]*)", re.MULTILINE)
_NOUNS: Final[Mapping[str, tuple[str, ...]]] = {
    "ans": ("answer", "ans"),
    "final ": ("final result", "final value", "final total", "final solution"),
    # German and Dutch, French, Spanish, Portuguese and Italian, Turkish, Indonesian.
    "antwo": ("antwort", "antwoord"), "eponse": ("reponse",), "spuesta": ("respuesta",),
    "sposta": ("resposta", "risposta"), "cevap": ("cevap",), "jawaban": ("jawaban",),
}  # fmt: skip
"""What an answer is called, by a part of it that is searched first."""
_OTHER_NOUNS: Final[Mapping[str, tuple[str, ...]]] = {
    # Chinese and Japanese, Korean, French, Polish, Russian, Vietnamese, Hindi, Arabic.
    noun: (noun,) for noun in
    ("答案", "答え", "正解", "정답", "réponse", "odpowiedź", "ответ", "đáp án", "उत्तर", "الإجابة", "الجواب")
}  # fmt: skip
_ABOUT = r"(?:[ \t]+(?:to|for|of)[ \t][^\n.:;?!=]{1,80}?)?"
_SURELY = (
    r"(?:[ \t,]{1,3}(?:therefore|thus|then|hence|so|simply|just|only|clearly|indeed|now|actually|likely|probably|"
    r"definitely|obviously|certainly|still|also|most likely|equal to|given by|going to be)\b,?){0,3}"
)
_IS: Final = (
    r"(?:is|are|was|were|equals|would be|will be|should be|must be|can be|has to be|comes? out to(?: be)?|comes? to|"
    r"turns out to be|ist|lautet|es|est|è|é|is|adalah|là|olur)\b(?:[ \t]{1,3}(?:therefore|thus|then))?"
)
_PHRASE = re.compile(
    rf"(?:s?\)?[*_`]{{0,3}}{_ABOUT}[ \t*_]{{0,6}}"
    r"(?:[:：=]|[ \t]-{1,2}>?[ \t]|[ \t][–—][ \t]|(?:是|为|為|は|은|는|应为|应该是|选)[:：]?)"
    rf"|{_ABOUT}{_SURELY},?[ \t*_]{{1,4}}{_IS}{_SURELY}[ \t*]{{0,4}}:?)[ \t*_]{{0,6}}",
    re.IGNORECASE,
)
_HEADING_LINE = re.compile(r"^[ \t#>*_]{0,12}(?:the |my )?(?:final |correct )?$", re.IGNORECASE)
_HEADING_END = re.compile(r"[ \t*_#]{0,8}(?:\n|$)")
_NUMBER = re.compile(r"(?<![\w.])[-+−]?(?:\d{1,3}(?:,\d{3})+|\d+)(?:\.\d+)?(?:/\d+)?(?!\d)")
_SENTENCE_END = re.compile(r"[.!?](?=\s+[A-Z])|[。！？]")
_BOLD = re.compile(r"\*\*([^*\n]{1,200})\*\*(?!\*)")
_WORD = re.compile(r"(?<![\\A-Za-z])[A-Za-z]{2,}")
_SENTENCE = re.compile(r"[A-Za-z]{3,} (?:is|are|equals) ")
_QUOTES = ('""', "''", "“”", "‘’", "「」", "《》")
_AROUND = "*`_ \t\r\n"
_CLAUSE = re.compile(
    r"[,;]?\s+\(?(?:because|since|given that|as it|as the|as there|as we|as they|which|where|when|whereas|not|but|"
    r"due to|rather than|instead of|assuming|after)\b"
    r"|[,;]\s+(?:so|and so|that is|i\.e\.|for|with|if|while|as|rounded|and not|or about|or approximately|meaning)\b"
    r"|\s(?:—|–|--|-)\s+(?=[A-Za-z'’]{2,}(?![A-Za-z(]*\())|—(?=[A-Za-z])|[,，](?:因为|所以|故)|\s=>\s",
    re.IGNORECASE,
)
_LEAD = re.compile(
    r"^(?:[A-Za-z'’,*-]{1,24}\s+){0,14}?(?:is|are|was|equals|be|to|get|have|gives?|makes?|costs?|earns?|has|of|"
    r"there are|therefore|thus|so)\s*:?\s+(?=\S)",
    re.IGNORECASE,
)
_NEGATED = re.compile(
    r"\W{0,8}(?:definitely |certainly |simply )?not\s+(?:\(?[A-Za-z]\)?(?![\w'])|[-$\d\\])", re.IGNORECASE
)
_PLACEHOLDER = re.compile(
    r"[.…\s_?]*|(?:\\text\s?\{)?\s*(?:(?:your|the|final|my)\s+)*"
    r"(?:answer|result|number|letter|value|expression|solution)(?:\s+here)?\s*\}?",
    re.IGNORECASE,
)


@dataclass(frozen=True, slots=True)
class Found:
    """An answer that a mark announces."""

    answer: str
    """As it stands there."""
    mark: str
    """What announces it, in words."""
    prose: bool
    """Whether it stands in a sentence, which may go on after it."""


def extract_final_answer(text: str, numeric: bool = False) -> str:
    """The final answer in a text, whitespace and decoration around it removed.

    The first of these that is there, and of each the last one in the text:

    1. the content of `<answer>…</answer>`, or what a mark inside it announces;
    2. the content of `\\boxed{…}` or `\\fbox{…}`, braces balanced, that is neither empty nor a placeholder;
    3. the rest of a line that begins with `####`;
    4. what follows "answer is", "answer:", or the like in another language, to the end of the sentence or the line;
       when nothing is left on that line, or it is a heading, the lines below it up to an empty one;
    5. if `numeric`, the last number;
    6. the whole text.

    Args:
        text: any text; only its last `MAX_CHARS` characters are searched.
        numeric: whether the expected answer is a number. Of what was found a number is taken then, without thousands
            separators, if it holds one: that before the reason where there is one, else the last:
            "x = 1,042 apples, not 7" is 1042.
    """
    found = undecorated(find_marked(text) or text[-MAX_CHARS:])
    numbers = _NUMBER.findall(before_reason(found)) or _NUMBER.findall(found) if numeric else []
    return numbers[-1].replace(",", "").replace("−", "-") if numbers else found


def find_marked(text: str) -> str | None:
    """The answer that a mark announces (rules 1 to 4 above) as it stands there, or None without a mark."""
    return next((found.answer for found in marked(text)), None)


def marked(text: str) -> Iterator[Found]:
    """Every answer that a mark announces, the most credible one first: by rules 1 to 4, of each the last ones."""
    text = text[-MAX_CHARS:]
    if (tagged := _tagged(text)) is not None:
        inside = list(marked(tagged))
        yield from inside
        yield Found(tagged, "in <answer>", prose=True)
    yield from _boxed(text)
    if "####" in text:
        for hashes in reversed(_HASHES.findall(text)[-_EACH:]):
            yield Found(hashes, "after ####", prose=True)
    yield from _phrased(text)


def emphasized(text: str) -> Found | None:
    """The one bold part of a text's last paragraph, if it is no heading."""
    if "**" not in text:
        return None
    paragraph = text[-MAX_CHARS:].rstrip().rpartition("\n\n")[2]
    bold = [part for part in _BOLD.findall(paragraph) if not part.rstrip().endswith(":")]
    return Found(bold[0], "the bold part of the last paragraph", prose=True) if len(set(bold)) == 1 else None


def undecorated(answer: str) -> str:
    """Without whitespace, emphasis, dollar signs, a final full stop, and one pair of quotes around it."""
    stripped = _undelimited(answer.strip(_AROUND))
    if stripped.endswith((".", "。")) and not stripped.endswith(".."):
        stripped = _undelimited(stripped[:-1].rstrip(_AROUND))
    if len(stripped) > 1 and stripped[0] + stripped[-1] in _QUOTES:
        stripped = stripped[1:-1].strip(_AROUND)
    return stripped


def _undelimited(answer: str) -> str:
    """Without dollar signs around it: a single one is a currency."""
    inside = answer.strip("$")
    paired = (
        inside and answer.startswith("$") and answer.endswith("$") and "$" not in inside.replace("\\$", "")
    )
    return inside.strip(_AROUND) if paired else answer


def before_reason(answer: str) -> str:
    """The answer without the clause that gives a reason, an alternative or a remark: "24" of "24, because 4! = 24"."""
    cut = _CLAUSE.search(answer)
    return answer[: cut.start()] if cut and cut.start() and answer[: cut.start()].strip(_AROUND) else answer


def after_lead(answer: str) -> str:
    """The answer without the words that lead to it: "42" of "The value is 42"."""
    lead = _LEAD.match(answer)
    return answer[lead.end() :] if lead else answer


def _tagged(text: str) -> str | None:
    if "</" not in text:
        return None
    closing = [match.start() for match in _CLOSE.finditer(text)]
    if not closing:
        return None
    opening = [match.end() for match in _OPEN.finditer(text, 0, closing[-1])]
    inside = text[opening[-1] : closing[-1]] if opening else ""
    return inside if inside.strip() else None


def _boxed(text: str) -> Iterator[Found]:
    """Contents of the last boxes; boxes that only commas or "and" part are one answer."""
    if not any(box in text for box in _BOXES):
        return
    starts = list(_BOX_START.finditer(text))[-2 * _EACH :]
    spans = [(start.start(), *_content(text, start.end())) for start in starts if start[0].endswith("{")]
    spans += [
        (start.start(), start.end(), start.end() + len(re.split(r"[\s$,.\\]", text[start.end() : start.end() + 40])[0]))
        for start in starts
        if not start[0].endswith("{")
    ]  # fmt: skip
    whole = [(at, first, end) for at, first, end in sorted(spans) if end >= 0]
    outer = [span for span in whole if not any(other[1] < span[0] < other[2] for other in whole)]
    real = [span for span in outer if not _PLACEHOLDER.fullmatch(text[span[1] : span[2]])]
    if len(real) > 1:
        chain = [real[-1]]
        for before in reversed(real[:-1]):
            if not _BETWEEN_BOXES.fullmatch(text, before[2] + 1, chain[0][0]) or len(chain) == _EACH:
                break
            chain.insert(0, before)
        contents = list(dict.fromkeys(text[first:end].strip() for _, first, end in chain))
        if len(contents) > 1:
            yield Found(", ".join(contents), "the last boxes", prose=False)
            return
    for _, first, end in reversed(real[-1:]):
        content = text[first:end]
        words = len(_WORD.findall(content.replace("\\text", ""))) > 2 and "\\frac" not in content
        yield Found(content, "the last box", prose=words or bool(_SENTENCE.search(content)))


def _content(text: str, start: int) -> tuple[int, int]:
    """(first character, end) of what stands before the brace that closes; end is -1 where none does."""
    depth, position = 1, start
    while position < len(text):
        character = text[position]
        if character == "\\":
            position += 1
        else:
            depth += {"{": 1, "}": -1}.get(character, 0)
            if depth == 0:
                return start, position
        position += 1
    return start, -1


def _phrased(text: str) -> Iterator[Found]:
    lowered = text.replace("İ", "I").lower()  # the only letter whose small form is longer
    ends: dict[int, int] = {}
    known = _NOUNS if text.isascii() else {**_NOUNS, **_OTHER_NOUNS}
    for noun in [noun for part, nouns in known.items() if part in lowered for noun in nouns]:
        at, seen = len(lowered), 0
        while seen < _EACH and (at := lowered.rfind(noun, 0, at)) >= 0:
            if noun.isascii() and at and lowered[at - 1].isalpha():
                continue
            if noun == "ans" and (at and lowered[at - 1] not in "\n *#>"):
                continue
            end = _phrase_end(text, at, at + len(noun))
            if end is not None:
                ends[at] = end
                seen += 1
    for at in sorted(ends, reverse=True)[:_EACH]:
        rest = text[ends[at] :]
        line = rest.partition("\n")[0]
        if line.strip(_AROUND + "#$"):
            answer = _SENTENCE_END.split(line, maxsplit=1)[0]
        else:
            answer = re.split(r"\n[ \t]*\n", rest.lstrip(_AROUND + "#"), maxsplit=1)[0]
        if answer.strip(_AROUND) and not _NEGATED.match(answer):
            yield Found(answer, f"after “{text[at : ends[at]].strip(_AROUND)}”", prose=True)


def _phrase_end(text: str, at: int, end: int) -> int | None:
    """Where the answer begins of a phrase whose noun stands here; None where it is no such phrase."""
    if phrase := _PHRASE.match(text, end):
        return phrase.end()
    line = text.rfind("\n", 0, at) + 1
    heading = _HEADING_END.match(text, end)
    return heading.end() if heading and at - line < 40 and _HEADING_LINE.match(text[line:at]) else None
