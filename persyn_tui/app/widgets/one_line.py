"""Words on a line of their own."""

from textual.visual import VisualType
from textual.widgets import Static


class OneLine(Static):
    """Cut where there is no room, so that other words move nothing: only this line is painted again."""

    DEFAULT_CSS = "OneLine { height: 1; text-wrap: nowrap; text-overflow: ellipsis; }"

    def __init__(self, *, id: str) -> None:
        super().__init__(id=id, markup=False)

    def update(self, content: VisualType = "", *, layout: bool = False) -> None:
        """Shows other words; the same ones are not painted again."""
        if content != self.content:
            super().update(content, layout=layout)
