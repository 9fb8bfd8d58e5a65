"""Colours of every theme can be read."""

from pathlib import Path

import pytest
from app.support import running, until
from textual.color import Color
from textual.theme import BUILTIN_THEMES

from persyn_tui.app.base.colours import contrast, readable

OURS = ("quiet", "text-success", "text-warning", "text-error", "text-primary")


def test_contrast_is_that_of_the_standard() -> None:
    """Worked out by hand from WCAG 2.2's relative luminance."""
    black, white, grey = Color(0, 0, 0), Color(255, 255, 255), Color(119, 119, 119)
    assert contrast(black, white) == contrast(white, black) == 21
    assert contrast(grey, white) == pytest.approx(4.478, abs=0.001)


@pytest.mark.parametrize("name", BUILTIN_THEMES)
def test_what_is_told_and_what_is_quiet_stands_out_from_the_background(name: str) -> None:
    theme = BUILTIN_THEMES[name].to_color_system().generate()
    found = readable(theme)
    background, plain = Color.parse(theme["background"]), Color.parse(theme["foreground"])
    if background.ansi is not None or plain.ansi is not None:
        assert found == {"quiet": theme["text-muted"]}
        return
    most = contrast(background, plain)
    assert set(found) == set(OURS)
    for told in OURS[1:]:
        assert contrast(background, Color.parse(found[told])) >= min(4.5, most)
    quiet = contrast(background, Color.parse(found["quiet"]))
    assert min(4.5, 0.8 * most) <= quiet < most


async def test_every_theme_can_be_chosen(tmp_path: Path) -> None:
    async with running(str(tmp_path / "s.db")) as (app, pilot):
        for name in app.available_themes:
            app.theme = name
            await until(pilot, lambda name=name: app.current_theme.name == name)
            await pilot.pause()
            assert "quiet" in app.theme_variables
