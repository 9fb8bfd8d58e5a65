"""What a thinking model wrote before its answer: kept apart from it, and shown where the run file says so.

Servers that know a model's marks give its reasoning in a field of its own; others, and published data sets, leave the
marks in the text. Every family's are known here, and what they look like broken: without a beginning (a template wrote
it into the prompt), without an end (cut off), twice, after a greeting. A mark that is quoted (in backticks, quotation
marks or a block of code, or within a sentence) is text: an answer that explains `</think>` stays whole.

Sources: the reasoning parsers of vLLM and SGLang, and the chat templates of the models named below.
"""

import re
from collections import deque
from collections.abc import Sequence
from functools import lru_cache
from itertools import islice
from typing import Final, NamedTuple

from engine.models import control_tokens
from storage.records import Dataset, TrainingRow

Mark = tuple[str, str]
"""What stands before and after reasoning."""


class Said(NamedTuple):
    """A model's text, taken apart."""

    reasoning: str
    answer: str
    mark: str
    """What set the reasoning apart, e.g. `<think>`; empty where nothing did."""


class _Family(NamedTuple):
    name: str
    start: str
    """Pattern of what begins reasoning."""
    end: str
    answer: str = ""
    """Pattern of what may stand around the answer that follows."""
    headless: bool = True
    """Whether the start may be missing."""
    first: str = "<&"
    """Characters of which each mark begins with one."""


def _tag(name: str, written: str = "", answer: str = "") -> _Family:
    """The family of an XML tag, with its attributes, in any case, escaped for HTML or not."""
    written = written or name
    start = rf"(?:<|&lt;)\s?{written}(?:\s[^<>]{{0,80}})?(?:>|&gt;)"
    return _Family(f"<{name}>", start, rf"(?:<|&lt;)\s?/\s?{written}\s?(?:>|&gt;)", answer)


_FAMILIES: Final = (
    # Qwen, DeepSeek, GLM, MiniMax, Hunyuan, Nemotron, Phi 4, Granite 3.3, ERNIE 4.5; `<response>` is of the last two.
    # `<thinking>`: Amazon Nova, Claude 3, Reflection.
    _tag("think", "think(?:ing)?", answer=r"<\s?/?response\s?>"),
    _tag("thought", "thoughts?"),  # Gemini, EXAONE Deep
    _tag("seed:think"),  # Seed-OSS
    _Family("[THINK]", r"\[THINK\]", r"\[/THINK\]", first="["),  # Magistral
    _Family("◁think▷", r"◁\s?think\s?▷", r"◁\s?/\s?think\s?▷", first="◁"),  # Kimi
    _Family("<|think|>", r"<\|think\|>", r"<\|/think\|>"),
    _Family(  # Cohere Command A Reasoning
        "<|START_THINKING|>",
        r"<\|START_THINKING\|>",
        r"<\|END_THINKING\|>",
        r"<\|(?:START|END)_(?:RESPONSE|TEXT)\|>",
    ),
    _Family(  # OpenThinker, Light-R1
        "<|begin_of_thought|>",
        r"<\|begin_of_thought\|>",
        r"<\|end_of_thought\|>",
        r"<\|(?:begin|end)_of_solution\|>",
    ),
    _Family("<|inner_prefix|>", r"<\|inner_prefix\|>", r"<\|inner_suffix\|>"),  # Apertus
    _Family("<|channel>thought", r"<\|channel>\s?thought\b", r"<channel\|>", headless=False),  # Gemma 4
    _Family(  # Z.ai, Open WebUI
        '<details type="reasoning">',
        r'<details\s+type="reasoning"[^<>]{0,200}>',
        r"</details>",
        headless=False,
    ),
    _Family(  # Granite 3.2
        "Here is my thought process:",
        r"Here(?:'s| is) my thought process:",
        r"\bHere(?:'s| is) my response:",
        headless=False,
        first="Hh",
    ),
)

_LIKE_A_MARK: Final = re.compile(
    r"[<\[◁;]\|?\s?/?\s?(?i:think|thought|seed:|details|START_THINK|END_THINK|begin_of_t|end_of_t|inner_|channel)"
)
"""What most responses have nothing of, and every family something."""
_CHANNEL: Final = re.compile(
    r"(?P<turn>(?:<\|(?:end|return|call)\|>\s*)?(?:<\|start\|>[^<]{0,80})?)"
    r"<\|channel\|>\s*(?P<name>\w+)[^<]{0,200}(?:<\|constrain\|>[^<]{0,80})?<\|message\|>"
)
"""The head of a message in gpt-oss's format, harmony."""
_NO_CHANNEL: Final = re.compile(r"\s*(?P<turn>)(?P<name>analysis|commentary|final)\s*<\|message\|>")
"""The same at the beginning of a text whose first token was dropped."""
_NO_TOKENS: Final = re.compile(
    r"\s*(?:assistant)?analysis(?P<thought>.*?)assistant\s?final(?P<answer>.*)", re.DOTALL
)
"""The same where all tokens were dropped, and the channels' names were not."""
_CODE: Final = re.compile(r"```.*?(?:```|\Z)|~~~.*?(?:~~~|\Z)|`[^`\n]*`", re.DOTALL)
_OPENING_QUOTES, _CLOSING_QUOTES = frozenset("\"'`“‘«„("), frozenset("\"'`”’»“)")
_MENTIONS: Final = frozenset(("and", "or", "und", "/", ",", "&", "...", "…"))
"""What stands between two marks that are spoken of."""
_MOST_BLOCKS: Final = 32
_MOST_MARKS: Final = 256
"""Blocks, and marks of one family, that are looked at in a text."""
_AROUND: Final = 200
"""Characters around a mark that tell what it is."""


def said(text: str, marks: Sequence[Mark] = (), *, parsed: bool = False) -> Said:
    """A model's text as its reasoning and its answer, without control tokens at the answer's ends.

    Args:
        text: as it came.
        marks: more than the known families', as the run file has them.
        parsed: whether the server has taken reasoning out already, so that none can lack its beginning.
    """
    whole = text
    text = control_tokens.leading_off(text)
    found = _harmony(text) or _bare_harmony(text)
    odd = "y thought process:" in text or any(end in text or start in text for start, end in marks)
    if found is None and (odd or _LIKE_A_MARK.search(text)):
        families = (*map(_own, marks), *_FAMILIES)
        first = [family for family in families if _compiled(rf"\s*(?:{family.start})").match(text)]
        found = next(
            (split for family in (*first, *families) if (split := _split(text, family, parsed))), None
        )
    if found is None:
        return Said("", control_tokens.without(whole), "")
    return found._replace(answer=control_tokens.trailing_off(found.answer))


def is_mark(token: str, marks: Sequence[Mark] = ()) -> bool:
    """Whether a token is a mark by which `said` takes a text apart."""
    families = (*map(_own, marks), *_FAMILIES)
    own = (pattern for family in families for pattern in (family.start, family.end, family.answer) if pattern)
    harmony = ("<|channel|>", "<|message|>")
    return token in harmony or any(_compiled(pattern).fullmatch(token) for pattern in own)


def with_reasoning(reasoning: str, answer: str) -> str:
    """The answer after what was thought before it, marked as thinking models do; `answer` where nothing was."""
    return f"<think>\n{reasoning}\n</think>\n\n{answer}" if reasoning else answer


def target(dataset: Dataset, row: TrainingRow) -> str:
    """What a student learns to say: a row's answer, its reasoning before it where the dataset was built with it."""
    if dataset.manifest.get("reasoning"):
        return with_reasoning(row.response.reasoning, row.response.text)
    return row.response.text


def _own(mark: Mark) -> _Family:
    return _Family(mark[0], re.escape(mark[0]), re.escape(mark[1]), first=mark[0][0] + mark[1][0])


def _split(text: str, family: _Family, parsed: bool) -> Said | None:
    """The text by the marks of one family; None where it has none that are marks."""
    thoughts: list[str] = []
    for _ in range(_MOST_BLOCKS):
        block = _block(text, family, again=bool(thoughts), parsed=parsed)
        if block is None:
            break
        thoughts.append(block[0])
        text = block[1]
    if not thoughts:
        return None
    if family.answer and (wrapped := _compiled(rf"\s*(?:{family.answer})").match(text)):
        text = text[wrapped.end() :].lstrip()
        closing = _compiled(rf"(?:{family.answer})\s*\Z").search(text)
        text = text[: closing.start()].rstrip() if closing else text
    return Said("\n\n".join(filter(None, thoughts)), text, family.name)


def _block(text: str, family: _Family, *, again: bool, parsed: bool) -> tuple[str, str] | None:
    """(reasoning, text without it) of the first block; None where there is none."""
    marks = _marks(text, family)
    start = next((mark for mark in marks if mark.opens and mark.begins), None)
    loud = next((mark for mark in marks if not mark.opens and mark.loud), None)
    if loud is not None and (start is None or (start.before and loud.place < start.place)):
        # The beginning is missing, unless it is there and is spoken of; of a second block the end stands alone.
        spoken_of = [mark for mark in marks[: loud.place] if mark.opens and not mark.quoted]
        alone = loud.alone and not any(mark.alone for mark in spoken_of)
        headless = alone if again or spoken_of else not parsed
        if not family.headless or not (headless or not loud.before):
            return None
        return text[: loud.start].strip(), text[loud.end :].lstrip()
    if start is None:
        return None
    ends = [mark for mark in marks[start.place + 1 :] if not mark.opens]
    end = next((mark for mark in ends if mark.loud), None)
    if not start.before:
        end = end or next((mark for mark in ends if not mark.quoted), None)
        end = end or next((mark for mark in reversed(ends) if not mark.cited), None)
        if end is None:
            return text[start.end :].strip(), ""  # cut off in the middle of its thoughts
    if end is None or (thought := text[start.end : end.start].strip()) in _MENTIONS:
        return None
    doubled = _compiled(family.start).match(thought)
    thought = thought[doubled.end() :].lstrip() if doubled else thought
    before, after = text[: start.start].strip(), text[end.end :].lstrip()
    return thought, f"{before}\n\n{after}" if before else after


class _Seen(NamedTuple):
    """A mark in a text, or what looks like one."""

    place: int
    """Of all that were seen."""
    start: int
    end: int
    opens: bool
    before: bool
    """Whether anything is written before it."""
    cited: bool
    """Whether it stands in quotation marks."""
    quoted: bool
    """Whether it does, or is code."""
    alone: bool
    """Whether it has its line to itself."""
    begins: bool
    """Whether it can begin reasoning: first of a text, a line or a sentence, and not what a colon introduces."""
    loud: bool
    """Whether it can end reasoning: it is not quoted, and no sentence goes on around it."""


def _marks(text: str, family: _Family) -> list[_Seen]:
    # Only where a mark can begin: most characters of a response are looked at by no pattern.
    pattern, first = _compiled(f"(?P<opens>{family.start})|(?:{family.end})"), re.escape(family.first)
    places = (place.start() for place in re.finditer(f"[{first}]", text))
    found = list(islice(filter(None, (pattern.match(text, place) for place in places)), _MOST_MARKS))
    if not found:
        return []
    code = deque(span.span() for span in _CODE.finditer(text))
    seen: list[_Seen] = []
    for index, mark in enumerate(found):
        start, end = mark.span()
        head, tail = text[max(0, start - _AROUND) : start], text[end : end + _AROUND]
        line, rest = head.rpartition("\n")[2], tail.partition("\n")[0]
        last = head.rstrip()[-1:]
        while code and code[0][1] <= start:
            code.popleft()
        cited = bool(head and tail) and head[-1] in _OPENING_QUOTES and tail[0] in _CLOSING_QUOTES
        cited |= line.count('"') % 2 == 1 and '"' in rest
        quoted = cited or bool(code and code[0][0] < start)
        spaced = bool(line.strip()) and line[-1:].isspace()
        goes_on = (
            (rest[:1] == " " and rest.lstrip()[:1].islower())
            or rest[:1] in tuple(".,;:!?)")
            or not tail.strip()
        )
        flows = spaced and goes_on
        before = start > _AROUND or bool(last)
        fresh = last != ":" and (not line.strip() or (line[-1:].isspace() and last in ".!?…"))
        seen.append(
            _Seen(
                index,
                start,
                end,
                opens=mark["opens"] is not None,
                before=before,
                cited=cited,
                quoted=quoted,
                alone=not line.strip() and not rest.strip(),
                begins=not before or (fresh and not quoted),
                loud=not quoted and not flows,
            )
        )
    return seen


def _harmony(text: str) -> Said | None:
    """gpt-oss's channels: what is not `final` is reasoning. None where the text has none."""
    heads = list(islice(_CHANNEL.finditer(text), _MOST_MARKS)) if "<|channel|>" in text else []
    code = [span.span() for span in _CODE.finditer(text)] if heads else []
    heads = [
        head
        for head in heads
        if head["turn"].strip() or not any(start < head.start() < end for start, end in code)
    ]
    if (unmarked := _NO_CHANNEL.match(text)) is not None:
        heads.insert(0, unmarked)
    begun = bool(text[: heads[0].start()].strip()) if heads else False
    quoted = any(start < heads[0].start() < end for start, end in code) if heads else False
    if not heads or (begun and (quoted or not heads[0]["turn"].strip())):
        return None
    parts = [("analysis", text[: heads[0].start()])]
    ends = [*(head.start() for head in heads[1:]), len(text)]
    parts += [(head["name"], text[head.end() : end]) for head, end in zip(heads, ends, strict=True)]
    thoughts = [control_tokens.trailing_off(part).strip() for name, part in parts if name != "final"]
    answers = [control_tokens.trailing_off(part).strip() for name, part in parts if name == "final"]
    return Said("\n\n".join(filter(None, thoughts)), "\n\n".join(filter(None, answers)), "<|channel|>")


def _bare_harmony(text: str) -> Said | None:
    if found := _NO_TOKENS.fullmatch(text):
        return Said(found["thought"].strip(), found["answer"].strip(), "analysis … assistantfinal")
    return None


@lru_cache(maxsize=64)
def _compiled(pattern: str) -> re.Pattern[str]:
    return re.compile(pattern, re.IGNORECASE | re.MULTILINE)
