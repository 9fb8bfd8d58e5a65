"""What is written to the terminal, whatever a widget was given."""

from rich.cells import cell_len
from rich.segment import ControlType, Segment
from textual.color import Color

from persyn_tui.app.textual_fixes.output_filter import OutputFilter

BLACK = Color.parse("black")


def test_no_character_of_a_text_acts_on_the_terminal() -> None:
    hostile = "a\x1b]0;owned\x07 \u202etxt\x9b2J"
    (safe,) = OutputFilter().apply([Segment(hostile)], BLACK)
    assert not set(safe.text) & {"\x1b", "\x07", "\x9b", "\u202e"}
    assert safe.text.replace("\ufffd", "") == "a]0;owned txt2J"
    assert cell_len(safe.text) == cell_len(hostile)


def test_plain_text_and_the_apps_own_control_codes_pass() -> None:
    given = [Segment("日本語 │ ok"), Segment("\x1b[H", control=[(ControlType.HOME,)])]
    assert OutputFilter().apply(given, BLACK) == given
