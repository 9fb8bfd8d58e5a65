"""The last guard before the terminal: whatever a widget was given, no character of it acts on the terminal.

Textual 8.2 writes the text of a widget as it is, but for markup: an escape sequence in a model's output would be
obeyed. Stays, unless Textual replaces control characters itself:
`tests/app/test_output_filter.py`.
"""

from rich.cells import cell_len
from rich.segment import Segment
from textual.color import Color
from textual.filter import LineFilter

from engine.base.sanitize import strip_control


class OutputFilter(LineFilter):
    """Replaces what `strip_control` replaces, cell for cell, so that a line that is laid out keeps its width."""

    def apply(self, segments: list[Segment], background: Color) -> list[Segment]:
        return [
            segment
            if segment.control or strip_control(segment.text) == segment.text
            else Segment("".join(map(_safe, segment.text)), segment.style)
            for segment in segments
        ]


def _safe(character: str) -> str:
    return character if strip_control(character) == character else "\ufffd" * cell_len(character)
