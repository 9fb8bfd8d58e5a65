"""Reasoning is taken out where its marks are marks, and stays where they are quoted."""

import json
from pathlib import Path

import pytest
from field.replies import answered, body

from engine.models.reasoning import is_mark, said

T = "The sum is 4."
ROWS = [
    json.loads(line) for line in (Path(__file__).parent / "data" / "reasoning.jsonl").open(encoding="utf-8")
]
SPLIT = [(row["text"], row["reasoning"], row["answer"]) for row in ROWS if "answer" in row]
WHOLE = [row["text"] for row in ROWS if "answer" not in row]


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
