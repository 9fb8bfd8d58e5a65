"""What forms and comments learn of a setting is what the schema says."""

from typing import Literal

from pydantic import Field

from engine.config import setting
from engine.config.run_file import StudentConfig, TeacherConfig
from engine.config.section import Section


class Inner(Section):
    """What lies within.

    Not said in one line.
    """

    share: float = Field(0.25, gt=0, title="part")
    """Of the whole, e.g. a half; 0 is refused. More of it."""
    words: tuple[str, ...] = ()


class Outer(Inner):
    """The outside."""

    way: Literal["one", "other"] | None = None
    """`one` or the `other`; None: both."""
    number: int
    inner: Inner = Inner()


def test_a_setting_is_what_its_field_declares() -> None:
    found = setting.settings(Outer)
    assert list(found) == ["share", "words", "way", "number", "inner.share", "inner.words"]
    way, number, share = found["way"], found["number"], found["inner.share"]
    assert (way.choices, way.type, way.required, way.nothing) == (("one", "other"), str, False, "both")
    assert (number.type, number.required, number.about, number.hint) == (int, True, "", "")
    assert (share.place, share.title, share.default, share.nothing) == (
        ("inner", "share"),
        "part",
        0.25,
        "0.25",
    )
    assert share.hint == "of the whole, e.g. a half"
    assert found["words"].type is tuple
    assert setting.about(Outer, "inner") == "What lies within."
    assert setting.about(Outer, "share").endswith("0 is refused. More of it.")


def test_the_names_of_kinds_are_choices() -> None:
    found = setting.settings(TeacherConfig)
    assert {"openai", "transformers", "vllm"} <= set(found["backend"].choices)
    assert found["dtype"].choices == ("auto", "float32", "bfloat16", "float16")


def test_every_setting_of_a_model_says_what_it_is() -> None:
    """They are what a form shows."""
    for section in (TeacherConfig, StudentConfig):
        named = [one for one in setting.settings(section).values() if len(one.place) == 1]
        assert [one.key for one in named if not one.about] == []
