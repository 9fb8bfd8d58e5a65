"""A paste without an end.

Textual 8.2 takes all that comes after the mark of a bracketed paste for pasted text until the mark of its end comes.
Where that was lost (a connection that broke, a terminal multiplexer, a program that writes marks of its own) no key is
heard any more. Can go once Textual's parser ends such a paste by itself: `tests/app/test_paste.py`.
"""

from collections.abc import Iterable

from textual import _time
from textual._xterm_parser import XTermParser
from textual.drivers import linux_driver
from textual.message import Message

START, END = "\x1b[200~", "\x1b[201~"
SILENT_S = 2.0
"""Seconds without a character after which a paste has ended. Over a slow line a paste comes in pieces with gaps."""
STOP = ("\x03", "\x11")
"""ctrl+c and ctrl+q, which no terminal leaves in a paste: whoever presses them wants out."""


class PasteParser(XTermParser):
    """Ends a paste after `SILENT_S` without a character, and at a key of `STOP`, which is then heard."""

    def __init__(self, debug: bool = False) -> None:
        super().__init__(debug)
        self._seen, self._pasting, self._last = "", False, 0.0

    def feed(self, data: str) -> Iterable[Message]:
        """As `XTermParser.feed`."""
        if not data:
            yield from super().feed(data)
            return
        self._last = _time.get_time()
        for character in data:
            if self._pasting and character in STOP:
                yield from self._end()
            yield from super().feed(character)
            self._seen = (self._seen + character)[-len(START) :]
            self._pasting = self._seen == START or (self._pasting and self._seen != END)

    def tick(self) -> Iterable[Message]:
        """As `XTermParser.tick`."""
        yield from super().tick()
        if self._pasting and _time.get_time() - self._last >= SILENT_S:
            yield from self._end()

    def _end(self) -> Iterable[Message]:
        self._pasting = False
        yield from super().feed(END)


def install() -> None:
    """Makes the driver of a terminal read with it."""
    setattr(linux_driver, "XTermParser", PasteParser)  # noqa: B010 (mypy sees no such name there)
