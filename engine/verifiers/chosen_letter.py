"""How responses name a choice: by its letter, its text, a sentence or JSON with it, or by ruling out the others."""

import re
from collections.abc import Iterator, Sequence

from engine.verifiers.answer_extraction import after_lead, before_reason, emphasized, marked, undecorated
from engine.verifiers.comparison import SHOWN, normal
from engine.verifiers.notation import plain

_CALLED = (
    r"(?:the\s+)?(?:correct\s+|right\s+|best\s+|final\s+)?(?:option|choice|letter|answer|statement)s?[\s:*]{0,3}"
    r"(?:is\s+)?"
)
_ALONE = re.compile(
    rf"(?:{_CALLED})?[\[({{<]?([A-Za-z])[\])}}>]?[.:),]?(?:입니다|이다|です|である)?", re.IGNORECASE
)
_FIRST = re.compile(
    rf"(?:{_CALLED})?(?:[(\[]([A-Za-z])[)\]]|([A-Z])(?=[.:),\]](?!\w\.)|\*\*|$|\s+[-–—=]+>?\s|\s*\n)"
    r"|([a-z])(?=\)(?!\w)))"
    rf"|{_CALLED}([A-Z])(?![\w'’])"
    r"|([A-Z])(?=\s+(?:is|was|because|since|as it|would|seems|fits|being|matches)\b)",
)
_SEVERAL = re.compile(
    r"\W{0,8}(?:both\s+|either\s+)?(?:option\s+|choice\s+)?\(?([A-Z])\)?\s*(?:,|/|&|\band\b|\bor\b)\s*"
    r"(?:and\s+|or\s+)?(?:option\s+|choice\s+)?\(?([A-Z])(?![\w'])"
)
_INSIDE = re.compile(
    r"\(([A-Z])\)|\b(?:option|choice|letter)\s+[(\"'*]{0,3}([A-Za-z])\b(?!['’])|\*\*\(?([A-Z])[).:]?\*\*"
    r"|\b([B-HJ-Z])\b(?=\s+(?:is|was)\s)|\bA(?=\s+is\s)|(?:选|選)(?:项|择)?\s?([A-Z])|([A-Z])\s?(?:选项|正确)",
    re.IGNORECASE,
)
_DENIED = re.compile(
    r"\W{0,8}(?:(?:option|choice|answer)\b)?[^.\n;,A-Z]{0,30}?\b(?:not|isn['’]t|wrong|incorrect|false|ruled out|"
    r"eliminated|doesn['’]t|does not|cannot)\b"
    r"|.{0,3}(?:错误|不对|不正确)",
)
_DENYING = re.compile(
    r"\b(?:not|rule out|rules out|eliminate|eliminates|isn['’]t|exclude|than|neither|nor)\W+(?:option\W+|choice\W+)?$",
    re.IGNORECASE,
)
_CHOSEN = re.compile(
    r"(?:\b(?:choose|chose|pick|picked|select|selected|go with|going with|opt for|settle on|conclude(?: that)?)"
    r"|(?:\b(?:correct|right|best|most appropriate|final)\s+(?:option|choice|letter|one|response)\s*"
    r"(?:is|:|would be|=))|选择?|選擇?|故选|应选)"
    r"[\s:：*]{0,4}(?:the\s+)?(?:(?:option|choice|letter|answer)\s+)?[\[(\"'*$]{0,4}([A-Za-z])(?![\w'’])",
    re.IGNORECASE,
)
_VERDICT = re.compile(
    r"(?:\b(?:option|choice|answer)\s+)?[(\[*]{0,4}\b([A-Z])[)\]*:.]{0,4}\s+(?:is|seems|looks)\s+"
    r"(?:therefore\s+|clearly\s+|the\s+)*(?:correct|right|best|most (?:likely|appropriate|accurate)|true|answer)\b"
)
_BETWEEN_WORDS = re.compile(r"[^\w%$.-]+|\.(?=\s|$)")
_IN_JSON = re.compile(
    r"[\"'](?:(?:final|correct|selected|predicted)[ _]?)?"
    r"(?:answer|choice|option|letter|label|selected|selection|prediction)(?:[ _](?:choice|letter|option))?[\"']\s*:\s*"
    r"(?:\"([^\"\n]{1,200})\"|'([^'\n]{1,200})')",
    re.IGNORECASE,
)
_ENDING = re.compile(
    r"(?:\b(?:[Ii]t['’]s|is|be|leaves?(?:\s+us)?(?:\s+with)?|[Hh]ence|[Tt]herefore|[Tt]hus|[Ss]o|think|believe|say|guess)"
    r"|→|=>)[\s,:*]{1,4}(?:option\s+|choice\s+)?[(\[\"'*]{0,3}([A-Z])[)\]\"'*]{0,3}[.!]?[ \t]*(?:$|\n)"
)
_TICKED = re.compile(
    r"\(?\b([A-Z])[).:]\s?(?:[^\n.(✅✔❌✗]{0,80}?[-–—:]\s?)?(?:✅|✔|☑|[Cc]orrect\b|[Rr]ight\b|[Tt]rue\b)"
)
_LABEL = re.compile(rf"(?:{_CALLED})?[\[(]?(\w{{1,3}})\b[)\].:]*(.*)", re.IGNORECASE | re.DOTALL)
_ITEM = re.compile(r"^(?:[-•]|1[.)])\s+(?=\(?[A-Za-z]\)?\W*$)")
_DECORATION = " \t*_`\"'“”!✅✔☑\ufe0f👉➡→•"


def said(text: str) -> Iterator[tuple[str, str]]:
    """Where a choice may be named, the most credible first."""
    if values := _IN_JSON.findall(text):
        yield "".join(values[-1]), "in its JSON"
    for found in marked(text):
        yield found.answer, found.mark
    chosen = [*_CHOSEN.finditer(text), *_VERDICT.finditer(text), *_ENDING.finditer(text)]
    chosen = [one for one in chosen if not _DENYING.search(text[max(0, one.start() - 30) : one.start(1)])]
    if chosen:
        last = max(chosen, key=lambda one: one.start())
        yield last[1], f"after “{' '.join(last[0][: last.start(1) - last.start()].split()) or last[0]}”"
    if len(ticked := set(_TICKED.findall(text))) == 1:
        yield ticked.pop(), "that said to be right"
    lines = [line for line in text.splitlines() if line.strip()]
    if len(lines) > 1:
        yield from (
            (line, f"the {place} line")
            for line, place in ((lines[-1], "last"), (lines[0], "first"))
            if _alone(line)
        )
    if bold := emphasized(text):
        yield bold.answer, bold.mark
    yield text, "the whole text"


def _alone(line: str) -> bool:
    return bool(_ALONE.fullmatch(_bare(line)))


def chosen(said: str, choices: Sequence[str], labels: Sequence[str] = ()) -> str | None:
    """The letter of the choice that a text names; "" for several, None for none.

    Args:
        said: a letter, a label, the text of a choice, or a sentence with one of them.
        choices: the texts in their normal form; none where they are not known.
        labels: what the choices are called where they have no letters: "1", "2".
    """
    bare = _bare(said)
    if labels and (label := _LABEL.match(bare)) and label[1].upper() in labels:
        place = labels.index(label[1].upper())
        if not label[2].strip() or _begins(normal(label[2].strip(" .:)-")), choices[place]):
            return _letter(place)
    if (several := _SEVERAL.match(bare)) and several[1] != several[2]:
        return ""
    if (alone := _ALONE.fullmatch(bare)) and _offered(alone[1], choices):
        return alone[1].upper()
    for form in dict.fromkeys((bare, _bare(before_reason(bare)), _bare(after_lead(before_reason(bare))))):
        if normal(form) in choices:
            return _letter(choices.index(normal(form)))
    if first := _FIRST.match(bare):
        letter = next(filter(None, first.groups())).upper()
        rest = normal(bare[first.end() :].lstrip(".:),]*-–—= \t"))
        others = [place for place, choice in enumerate(choices) if choice and rest == choice]
        if _offered(letter, choices):
            return letter if not others or letter in map(_letter, others) else ""
    if (quoting := re.match(r"([A-Za-z])\s+(.+)", bare, re.DOTALL)) and _offered(quoting[1], choices):
        place = ord(quoting[1].upper()) - ord("A")
        if place < len(choices) and choices[place] and _begins(normal(quoting[2]), choices[place]):
            return quoting[1].upper()
    return _inside(bare, choices)


def _inside(bare: str, choices: Sequence[str]) -> str | None:
    named = set()
    for found in _INSIDE.finditer(bare):
        letter = (next(filter(None, found.groups()), "A")).upper()
        after, before = bare[found.end() : found.end() + 60], bare[max(0, found.start() - 30) : found.start()]
        if _offered(letter, choices) and not _DENIED.match(after) and not _DENYING.search(before):
            named.add(letter)
    if len(named) == 1:
        return named.pop()
    if named:
        return ""
    words = _words(bare)
    quoted = [place for place, choice in enumerate(choices) if choice and _words(choice) in words]
    if (begins := re.match(r"([A-Z])\s", bare)) and _offered(begins[1], choices) and quoted:
        # "A blue": the letter of one, the text of another.
        return begins[1] if begins[1] == _letter(quoted[0]) else ""
    denies = re.search(r"\b(?:not|never|neither)\b|n['’]t\b", bare)
    return _letter(quoted[0]) if len(quoted) == 1 and len(bare) < SHOWN and not denies else None


def _words(text: str) -> str:
    return f" {_BETWEEN_WORDS.sub(' ', normal(text)).strip()} "


def _bare(said: str) -> str:
    """A line without what decorates it or makes it an item of a list; more lines without decoration around them."""
    if "\n" in said.strip():
        return undecorated(said)
    bare = _ITEM.sub("", undecorated(plain(undecorated(said))).strip(_DECORATION))
    return bare[1:-1] if bare.startswith("[[") else bare


def _begins(text: str, choice: str) -> bool:
    return text == choice or bool(re.match(rf"{re.escape(choice)}(?!\w)", text))


def _offered(letter: str, choices: Sequence[str]) -> bool:
    return not choices or ord(letter.upper()) - ord("A") < len(choices)


def _letter(place: int) -> str:
    return chr(ord("A") + place)
