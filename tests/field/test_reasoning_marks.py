"""Reasoning is taken out where its marks are marks, and stays where they are quoted."""

import pytest
from field.replies import answered, body

from engine.models.reasoning import is_mark, said

T = "The sum is 4."
SPLIT = [
    ("<think>\na\n</think>\n\n" + T, "a", T),
    ("<think>a</think>" + T, "a", T),
    ("a\n</think>\n\n" + T, "a", T),
    ("a</think>" + T, "a", T),
    ("two plus two </think> The sum", "two plus two", "The sum"),
    ("</think>\n\n" + T, "", T),
    ("<think>\n\n</think>\n\n" + T, "", T),
    ("<think>cut off", "cut off", ""),
    ("<think>a</think>", "a", ""),
    ("<think><think>a</think></think>" + T, "a", T),
    ("<think>\n<think>\na\n</think>\n" + T, "a", T),
    ("<think>a</think>\n<think>b</think>\n" + T, "a\n\nb", T),
    ("<think>a</think>\nb\n</think>\n" + T, "a\n\nb", T),
    ("<Think>a</ think >" + T, "a", T),
    ("Okay.\n<think>a</think>\n" + T, "a", "Okay.\n\n" + T),
    ("Sure. <think>a</think> " + T, "a", "Sure.\n\n" + T),
    ("<think>user asks about `</think>` here</think>" + T, "user asks about `</think>` here", T),
    ("<think>```python\nx=1\n</think>" + T, "```python\nx=1", T),
    ("[THINK]a[/THINK]" + T, "a", T),
    ("◁think▷a◁/think▷" + T, "a", T),
    ("<seed:think>a</seed:think>" + T, "a", T),
    ("a</seed:think>" + T, "a", T),
    ("<|START_THINKING|>a<|END_THINKING|><|START_RESPONSE|>" + T + "<|END_RESPONSE|>", "a", T),
    ("<thought>a</thought>" + T, "a", T),
    ("<thinking>a</thinking>\n" + T, "a", T),
    ("<|begin_of_thought|>a<|end_of_thought|>\n<|begin_of_solution|>" + T + "<|end_of_solution|>", "a", T),
    ("Here is my thought process:\na\nHere is my response:\n" + T, "a", T),
    ("<think>a</think><response>" + T + "</response>", "a", T),
    (
        "<|channel|>analysis<|message|>a<|end|><|start|>assistant<|channel|>final<|message|>"
        + T
        + "<|return|>",
        "a",
        T,
    ),
    ("analysis<|message|>a<|end|><|start|>assistant<|channel|>final<|message|>" + T, "a", T),
    ("a<|end|><|start|>assistant<|channel|>final<|message|>" + T, "a", T),
    ("<|channel|>analysis<|message|>cut", "cut", ""),
    ("<|start|>assistant<|channel|>final<|message|>" + T + "<|return|>", "", T),
    (
        "<|channel|>analysis<|message|>a<|end|><|start|>assistant<|channel|>commentary<|message|>b<|end|><|start|>assistant<|channel|>final<|message|>"
        + T,
        "a\n\nb",
        T,
    ),
    ("analysisWe need two.assistantfinal" + T, "We need two.", T),
    ("<|channel>thought\na<channel|>" + T, "a", T),
    (T + "<|im_end|>", "", T),
    (T + "</s>", "", T),
    (T + "\n<|endoftext|><|im_end|>\n", "", T),
    ("<s> " + T + "</s>", "", T),
    ("<|im_start|>assistant\n" + T + "<|im_end|>", "", T),
    ("<|start_header_id|>assistant<|end_header_id|>\n\n" + T + "<|eot_id|>", "", T),
    ("assistant\n\n" + T, "", T),
    ("<start_of_turn>model\n" + T + "<end_of_turn>", "", T),
    (T + "<｜end▁of▁sentence｜>", "", T),
    ("[/INST] " + T + " </s>", "", T),
    (T + "<|im_end|>\n<|im_start|>user\nNext?", "", T),
    ("<|im_start|>assistant\n<think>\na\n</think>\n" + T + "<|im_end|>", "a", T),
    ("<think>a</think>" + T + "<|im_end|>", "a", T),
    ("<|assistant|>\n" + T + "<|user|>", "", T),
    (
        '<details type="reasoning" done="true"><summary>Thought</summary>a</details>\n' + T,
        "<summary>Thought</summary>a",
        T,
    ),
    (
        "<think>\nI must not write </think> yet, so on.\n</think>\n" + T,
        "I must not write </think> yet, so on.",
        T,
    ),
    ("<think>a</think>\n\n```python\nprint('</think>')\n```", "a", "```python\nprint('</think>')\n```"),
    ('<think time="3">a</think>' + T, "a", T),
    ("\n\n  <think>a</think>\n" + T, "a", T),
    ("<s><think>a</think>" + T + "</s>", "a", T),
    ("<｜Assistant｜><think>a</think>" + T + "<｜end▁of▁sentence｜>", "a", T),
    ("[THINK]a", "a", ""),
    ("a[/THINK]" + T, "a", T),
    ("<|inner_prefix|>a<|inner_suffix|>" + T, "a", T),
    ("a<|END_THINKING|><|START_RESPONSE|>" + T + "<|END_RESPONSE|>", "a", T),
    (
        "<|START_OF_TURN_TOKEN|><|CHATBOT_TOKEN|><|START_THINKING|>a<|END_THINKING|><|START_TEXT|>"
        + T
        + "<|END_TEXT|><|END_OF_TURN_TOKEN|>",
        "a",
        T,
    ),
    ("<think>a</think><answer>4</answer>", "a", "<answer>4</answer>"),
    ("<think>a\n</think>\n<response>\n" + T + "\n</response>\n", "a", T),
    ("<|im_start|>assistant\n" + T, "", T),
    ("<|header_start|>assistant<|header_end|>\n\n" + T + "<|eot|>", "", T),
    ("<|start_of_role|>assistant<|end_of_role|>" + T + "<|end_of_text|>", "", T),
    (T + " <|endoftext|>", "", T),
    (T + "<eos>", "", T),
    (T + "[|endofturn|]", "", T),
    (T + "\n<end_of_turn>\n<eos>", "", T),
    (T + "<|END_OF_TURN_TOKEN|>", "", T),
    (T + "<|eot_id|><|start_header_id|>user<|end_header_id|>\n\nMore?", "", T),
    (T + "</s><s>[INST] And 3? [/INST] 6", "", T),
]
WHOLE = [
    "The model writes <think>reasoning</think> first.",
    "Use `<think>` and `</think>`.",
    "Split on </think> and keep the rest.",
    "Example:\n```\n<think>\na\n</think>\nb\n```\nDone.",
    "Example:\n<think>\na\n</think>\nb",
    "<think> and </think> are tags.",
    "analysis of the data shows 4",
    "In harmony `<|channel|>analysis<|message|>` starts it.",
    "The format is <|channel|>analysis<|message|>text<|end|>, then more.",
    "Qwen ends a turn with <|im_end|>",
    "It is `<|im_end|>`",
    "Now <s>10</s>",
    "  ",
    "yes\n",
    "assistant: yes",
    "Use the `<think>` tag:\n\n```\n<think>\nreasoning\n</think>\nanswer\n```\n",
    'The tags "<think>" and "</think>" mark it.',
    "A closing </think> tag ends it.",
    "In XML, `</thinking>` closes `<thinking>`.",
    "The token `[/THINK]` ends it.",
    "A list: [1, 2]",
    "2 < 3 and 4 > 3",
    "<think",
    "`◁/think▷` is Kimi's.",
    "The harmony format: `<|start|>assistant<|channel|>final<|message|>Hi<|return|>`.",
    "The end token of Llama 3 is <|eot_id|>",
    "ends with `</s>`",
    "analysis, then synthesis",
    "assistant is a role.",
    "Here is my thought process in short: add.",
    "<details><summary>x</summary>y</details>",
    "a <|> b",
    'She said: "I think</think>".',
]


@pytest.mark.parametrize(("text", "reasoning", "answer"), SPLIT)
def test_reasoning_is_taken_out(text: str, reasoning: str, answer: str) -> None:
    found = said(text)
    assert (found.reasoning, found.answer) == (reasoning, answer)
    assert found.mark or not reasoning


@pytest.mark.parametrize("text", WHOLE)
def test_what_is_quoted_stays(text: str) -> None:
    assert said(text) == ("", text, "")


def test_new_marks_are_a_setting() -> None:
    marks = (("<plan>", "</plan>"), ("⟦", "⟧"))
    assert said("<plan>a</plan>" + T, marks) == ("a", T, "<plan>")
    assert said("⟦a⟧ " + T, marks) == ("a", T, "⟦")
    assert said("a</plan>" + T, marks) == ("a", T, "<plan>")
    assert said("<think>b</think>" + T, marks) == ("b", T, "<think>")
    found = answered(body("<plan>a</plan>" + T), reasoning_marks=[["<plan>", "</plan>"]])
    assert (found.text, found.reasoning, found.mark) == (T, "a", "<plan>")
    assert answered(body("<plan>a</plan>" + T)).text == "<plan>a</plan>" + T
    assert is_mark("[THINK]")
    assert is_mark("<plan>", marks)
    assert not is_mark("<|im_end|>")


@pytest.mark.parametrize(
    "reply",
    [
        body(T, reasoning_content="a"),
        body(T, reasoning="a"),
        body(T, reasoning=None, reasoning_details=[{"type": "reasoning.text", "text": "a", "format": None}]),
        body(
            T,
            reasoning_details=[
                {"type": "reasoning.encrypted", "data": "x"},
                {"type": "reasoning.summary", "summary": "a"},
            ],
        ),
        body(T, thinking="a"),
        body(T, thinking_blocks=[{"type": "thinking", "thinking": "a", "signature": "s"}]),
        body(
            [{"type": "thinking", "thinking": [{"type": "text", "text": "a"}]}, {"type": "text", "text": T}]
        ),
        body([{"type": "thinking", "thinking": "a"}, {"type": "text", "text": T}]),
        body([{"type": "reasoning", "reasoning": "a"}, {"type": "text", "text": T}]),
        body(
            [
                {"type": "reasoning", "summary": [{"type": "summary_text", "text": "a"}]},
                {"type": "output_text", "text": T},
            ]
        ),
        body([{"text": "a", "thought": True}, {"text": T}]),
        body([{"type": "thinking", "thinking": "a"}, T]),
        body(f"<think>a</think>{T}", reasoning_content="a"),
        body(f"<think>a</think>{T}", reasoning_content=""),
    ],
)
def test_reasoning_in_a_field_or_a_part_of_its_own_is_kept(reply: bytes) -> None:
    found = answered(reply)
    assert (found.text, found.reasoning, found.status) == (T, "a", "ok")
    assert found.mark


def test_what_a_server_has_taken_apart_is_not_taken_apart_again() -> None:
    text = "Write it before\n</think>\nand after."
    assert answered(body(text, reasoning_content="a")).text == text


@pytest.mark.parametrize(
    "text",
    [
        "<think>" * 9000,
        "</think>" * 9000,
        "`" * 60_000,
        "<|im_end|>" * 6000,
        "<" + " " * 60_000,
        "<|channel|>" * 6000,
    ],
)
def test_what_nobody_writes_takes_no_time(text: str) -> None:
    said(text)  # a pattern that looks at it in the square of its length takes minutes
