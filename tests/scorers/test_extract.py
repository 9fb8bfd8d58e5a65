"""The final answer in a text, as a table of what is written and what is found."""

import time

import pytest

from engine.verifiers.answer_extraction import extract_final_answer

PLAIN = [
    ("<answer> a, b </answer> and then <answer>c</answer>.", "c"),
    ("<ANSWER>\n1 2\n3 4\n</ANSWER>", "1 2\n3 4"),
    ("<answer>never closed", "<answer>never closed"),
    (r"so \boxed{1} and finally \boxed{\frac{1}{2}}.", r"\frac{1}{2}"),
    (r"\boxed{never closed. The answer is 3.", "3"),
    ("24 - 3 = 21\n#### 21", "21"),
    ("The answer is 12.", "12"),
    ("The answer is 3.5. I hope this helps.", "3.5"),
    ("First I thought the answer is 4. But the final answer is: 5", "5"),
    ("**Answer:** go, hundred, acute", "go, hundred, acute"),
    ("Answer:\n1 2\n3 4\n\nDone.", "1 2\n3 4"),
    ("answer: `nus`", "nus"),
    ('The answer is "nus".', "nus"),
    ("The answer is -7.", "-7"),
    ("  just this.  ", "just this"),
    ("wait...", "wait..."),
    ("", ""),
    ("The answer is", "The answer is"),
]
NUMERIC = [
    ("12 + 34 = 46", "46"),
    ("So 1,042 apples are left.", "1042"),
    ("The answer is x = 1,042 apples, not 7.", "1042"),
    ("The answer is $-3.50.", "-3.50"),
    ("It is −4 degrees", "-4"),
    ("3-2", "2"),
    ("one half is 1/2", "1/2"),
    ("no number here", "no number here"),
    (r"\boxed{42}, which is 6 times 7", "42"),
]


@pytest.mark.parametrize(("text", "answer"), PLAIN)
def test_plain(text: str, answer: str) -> None:
    assert extract_final_answer(text) == answer


@pytest.mark.parametrize(("text", "answer"), NUMERIC)
def test_numeric(text: str, answer: str) -> None:
    assert extract_final_answer(text, numeric=True) == answer


@pytest.mark.parametrize(
    "text",
    [
        "x" * 100_000,
        "answer " * 20_000,
        "<answer>" * 15_000,
        "</answer>" * 15_000,
        r"\boxed{" * 15_000,
        "#### " * 20_000,
        "1," * 50_000,
        " \t" * 50_000,
        "answer:" + " " * 100_000,
        "9" * 100_000,
        "\ud800" * 100_000,
    ],
)
def test_hostile_texts_take_no_time(text: str) -> None:
    start = time.process_time()
    for numeric in (False, True):
        assert len(extract_final_answer(text, numeric)) <= 20_000
    assert time.process_time() - start < 1.0


def test_lone_surrogates_survive() -> None:
    assert extract_final_answer("The answer is \ud800.") == "\ud800"
