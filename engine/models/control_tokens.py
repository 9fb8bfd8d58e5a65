"""Control tokens that a server, or a published data set, has left in a model's text."""

import re
from typing import Final

_GENERIC: Final = r"<\|[A-Za-z][\w ▁/]{0,31}\|>|<｜[^<>｜]{1,40}｜>"
"""`<|im_end|>`, `<|eot_id|>`, `<|user|>` and their kind; DeepSeek's have wider bars."""
_PLAIN: Final = (
    r"</?s>|<(?:bos|eos|pad|eod|eop|eot|sop|unk)>|<(?:start|end)_of_(?:turn|utterance|text)>|<\|?turn\|?>"
    r"|\[(?:EOS|BOS|PAD|gMASK|/?INST)\]|\[\|(?:endofturn|assistant)\|\]"
)
_ROLE: Final = r"(?:assistant|model|chatbot|gpt)"
_START: Final = re.compile(
    r"\s*(?:(?:"
    # A role stands in a header, or between two tokens: Llama 3 and 4, Granite, Qwen, Gemma, Kimi.
    rf"<\|(?:start_header_id|header_start|start_of_role|im_start|im_assistant|turn)\|?>\s*{_ROLE}\b\s*"
    r"(?:<\|(?:end_header_id|header_end|end_of_role|im_middle)\|>)?"
    rf"|<start_of_turn>\s*{_ROLE}\b"
    r"|<\|START_OF_TURN_TOKEN\|>\s*<\|CHATBOT_TOKEN\|>"
    r"|<\|(?:im_start|begin_of_text|startoftext|begin_of_sentence|endoftext|assistant|eot_id|end_header_id)\|>"
    r"|<｜(?:begin▁of▁sentence|Assistant)｜>"
    r"|<s>|<bos>|\[gMASK\]|<sop>|\[/INST\]|\[\|assistant\|\]"
    r")\s*)+",
    re.IGNORECASE,
)
_BARE_ROLE: Final = re.compile(r"\s*assistant[ \t]*\n\s*(?=\S)")
"""What stays of Llama's header where its tokens are dropped and its role is not."""
_END: Final = re.compile(rf"(?:{_GENERIC}|{_PLAIN})\s*\Z")
_NEXT_TURN: Final = re.compile(
    r"(?:<\|(?:im_end|eot_id|eot|end|endoftext|end_of_text|end_of_role|eom_id)\|>|<end_of_turn>|</s>|<｜end▁of▁sentence｜>)\s*"
    r"(?:<s>\s*)?(?:<\|(?:im_start|start_header_id|header_start|start_of_role)\|>\s*(?:user|system|tool)"
    r"|<start_of_turn>\s*user|<\|user\|>|<｜User｜>|\[INST\])"
)
"""The end of a turn and the beginning of one that the model has made up."""
_NAMED: Final = re.compile(
    r"\b(?:a|an|the|is|are|with|by|to|of|and|or|on|in|at|as|use|uses|called|named|tag|token|tokens|mark|marker|writes?|emits?|"
    r"generates?|prints?|like)[ \t]*\Z",
    re.IGNORECASE,
)
"""A sentence that goes on to name the token."""


def without(text: str) -> str:
    """The text without the control tokens at its ends, and without a next turn that the model has made up.

    A token that a sentence names, or that is in backticks, stays; so does text that has none, to its last space.
    """
    return trailing_off(leading_off(text))


def leading_off(text: str) -> str:
    """The text without the known tokens, and the role, that begin a turn."""
    if found := _START.match(text):
        text = text[found.end() :]
    if found := _BARE_ROLE.match(text):
        text = text[found.end() :]
    return text


def trailing_off(text: str) -> str:
    """The text without what ends a turn."""
    for found in _NEXT_TURN.finditer(text):
        if not _in_code(text, found.start()):
            text = text[: found.start()]
            break
    for _ in range(_MOST):
        ending = _END.search(text, max(0, len(text) - _LONGEST))
        if ending is None or _is_named(text, ending):
            break
        text = text[: ending.start()].rstrip()
    return text


_MOST: Final = 64
_LONGEST: Final = 200
"""Characters at the end among which a token is looked for."""


def _is_named(text: str, found: re.Match[str]) -> bool:
    before, token = text[: found.start()], found[0].strip()
    if token == "</s>" and "<s>" in before:  # struck through, in HTML
        return True
    if token in ("<s>", "<bos>", "<sop>") and before[-1:].isalnum():  # a type of a type
        return True
    return _in_code(text, found.start()) or _NAMED.search(before[-24:]) is not None


def _in_code(text: str, place: int) -> bool:
    """Whether the place is within backticks of its line, or in a block of code."""
    line = text.rfind("\n", 0, place) + 1
    if text.count("`", line, place) % 2 and not text.startswith("```", line):
        return True
    return text.count("```", 0, place) % 2 == 1 and "```" in text[place:]
