"""A paste whose end never comes does not make the app deaf."""

import pytest
from textual import events
from textual._xterm_parser import XTermParser
from textual.drivers import linux_driver

from persyn_tui.app.textual_fixes import paste
from persyn_tui.app.textual_fixes.paste import END, START, PasteParser


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    now = [0.0]
    monkeypatch.setattr(paste._time, "get_time", lambda: now[0])
    return now


def heard(parser: XTermParser, data: str) -> list[str]:
    return said(parser.feed(data))


def said(messages) -> list[str]:
    return [one.text if isinstance(one, events.Paste) else one.key for one in messages]


def test_a_whole_paste_is_one(clock: list[float]) -> None:
    parser = PasteParser()
    assert heard(parser, f"{START}two\nlines{END}q") == ["two\nlines", "q"]
    assert heard(parser, START + "slow") == []
    clock[0] += 1
    assert said(parser.tick()) == []
    assert heard(parser, "ly" + END) == ["slowly"]
    clock[0] += 60
    assert said(parser.tick()) == []


def test_one_without_an_end_ends_after_a_while(clock: list[float]) -> None:
    parser = PasteParser()
    assert heard(parser, START + "lost") == []
    clock[0] += paste.SILENT_S
    assert said(parser.tick()) == ["lost"]
    assert heard(parser, "q") == ["q"]


def test_ctrl_c_and_ctrl_q_end_it_and_are_heard(clock: list[float]) -> None:
    for key, name in (("\x03", "ctrl+c"), ("\x11", "ctrl+q")):
        assert heard(PasteParser(), f"{START}lost{key}") == ["lost", name]


def test_textual_alone_still_needs_it_and_the_driver_gets_it(monkeypatch: pytest.MonkeyPatch) -> None:
    assert heard(XTermParser(), START + "lost" + "q\x03\x11") == []
    monkeypatch.setattr(linux_driver, "XTermParser", XTermParser)
    paste.install()
    assert linux_driver.XTermParser is PasteParser
