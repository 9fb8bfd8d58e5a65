"""JSON of other programs: each wrong shape is one error that names its place."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from engine.base import foreign_json
from engine.base.foreign_json import Value, WrongShape

CONTENT: Callable[[Value], Any] = lambda reply: reply["choices"][0]["message"]["content"].text()  # noqa: E731


@pytest.mark.parametrize(
    ("text", "read", "problem"),
    [
        ("{", CONTENT, "not JSON: "),
        ("", CONTENT, "not JSON: "),
        ("[" * 100_000, CONTENT, "not JSON: nested too deeply"),
        ('{"choices": ' + "9" * 5000 + "}", CONTENT, "not JSON: "),
        ("null", CONTENT, "expected an object, found null"),
        ("[]", CONTENT, "expected an object, found a list"),
        ("{}", CONTENT, "choices is missing"),
        ('{"choices": {}}', CONTENT, "choices: expected a list, found an object"),
        ('{"choices": []}', CONTENT, "choices[0] is missing"),
        ('{"choices": ["x"]}', CONTENT, "choices[0]: expected an object, found text"),
        (
            '{"choices": [{"message": {"content": [1]}}]}',
            CONTENT,
            "choices[0].message.content: expected text, found a list",
        ),
        (
            '{"choices": [{"message": {"content": 3.5}}]}',
            CONTENT,
            "choices[0].message.content: expected text, found 3.5",
        ),
        ('{"a": NaN}', lambda value: value["a"].number(), "a: expected a finite number, found nan"),
        ('{"a": -Infinity}', lambda value: value["a"].number(), "a: expected a finite number, found -inf"),
        (f'{{"a": 1{"0" * 400}}}', lambda value: value["a"].number(), "a: expected a finite number, found 1000"),
        ('{"a": true}', lambda value: value["a"].number(), "a: expected a finite number, found true or false"),
        ('{"a": 1.0}', lambda value: value["a"].integer(), "a: expected a whole number from 0 to 2,147,483,647"),
        ('{"a": -1}', lambda value: value["a"].integer(), "a: expected a whole number from 0 to 2,147,483,647"),
        ('[[], ""]', lambda value: [one.list() for one in value.list()], "[1]: expected a list, found text"),
        ("[1]", lambda value: value.get("a"), "expected an object, found a list"),
    ],
)  # fmt: skip
def test_a_wrong_shape_is_an_error_with_its_place(
    text: str, read: Callable[[Value], Any], problem: str
) -> None:
    with pytest.raises(WrongShape) as caught:
        read(foreign_json.parse(text))
    assert str(caught.value).startswith(problem)


def test_bytes_that_are_not_utf_8_are_no_json(tmp_path: Path) -> None:
    (tmp_path / "x.json").write_bytes(b'{"a": "\xff"}')
    with pytest.raises(WrongShape, match="not JSON"):
        foreign_json.read(tmp_path / "x.json")


def test_what_has_the_right_shape_is_read_and_what_is_not_needed_may_have_any() -> None:
    value = foreign_json.parse('{"a": {"b": ["x", 2, 0.5]}, "c": null, "d": NaN}')
    assert [value["a"]["b"][0].text(), value["a"]["b"][1].integer(), value["a"]["b"][2].number()] == [
        "x",
        2,
        0.5,
    ]
    assert (value.get("c"), value.get("e")) == (None, None)
