"""Colours of a theme that can be read on its background."""

from collections.abc import Mapping

from textual.color import Color

LEAST = 4.5
"""Contrast of text with its background: WCAG 2.2, 1.4.3 (AA)."""
OF_PLAIN = 0.8
"""Where a theme's plain text has little more than that, quiet text keeps this share of its contrast."""
TOLD = ("text-success", "text-warning", "text-error", "text-primary")
"""Variables of the colours that say how something is."""
QUIET = 0.65
"""Share of the foreground in quiet text, where that is enough."""
STEP = 0.05


def contrast(one: Color, other: Color) -> float:
    """From 1 to 21, as WCAG 2.2 defines it."""

    def luminance(colour: Color) -> float:
        parts = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in colour.normalized]
        return sum(weight * part for weight, part in zip((0.2126, 0.7152, 0.0722), parts, strict=True))

    low, high = sorted((luminance(one), luminance(other)))
    return (high + 0.05) / (low + 0.05)


def readable(theme: Mapping[str, str]) -> dict[str, str]:
    """The theme's variables to change, and `quiet`: titles of columns and what is of less weight.

    Colours that are too near to the background are mixed with the foreground until they are not. A theme of the
    terminal's own colours stays as it is: what they look like is not known.
    """
    background, foreground = Color.parse(theme["background"]), Color.parse(theme["foreground"])
    if background.ansi is not None or foreground.ansi is not None:
        return {"quiet": theme["text-muted"]}
    plain = contrast(background, foreground)

    def mixed(colour: Color, share: float, least: float) -> str:
        found = colour.blend(foreground, share)
        while contrast(background, found) < least and share < 1:
            share += STEP
            found = colour.blend(foreground, min(1.0, share))
        return found.hex

    told = {name: mixed(Color.parse(theme[name]), 0.0, min(LEAST, plain)) for name in TOLD}
    return {"quiet": mixed(background, QUIET, min(LEAST, OF_PLAIN * plain)), **told}
