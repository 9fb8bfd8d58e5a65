"""Small words that several screens write: bars, counts, money, times."""

from pathlib import Path

THIN = "━"
HALF = "╸"
OF_TERMINAL = 1_000
"""Characters from which on it is said what a copy needs: they are not seen at a glance where they are missed."""


def sent(length: int, what: str = "") -> str:
    """What to say of a copy of so many characters: no terminal answers whether it took it."""
    characters = "1 character" if length == 1 else f"{count(length)} characters"
    needs = "; it must allow OSC 52 (tmux: set -g set-clipboard on)" if length >= OF_TERMINAL else ""
    return f"{characters}{what} sent to the terminal's clipboard{needs}"


def bar(share: float, width: int) -> str:
    """A thin bar of `width` cells, filled to `share`, which is cut to 0…1."""
    halves = round(max(0.0, min(1.0, share)) * width * 2)
    return (THIN * (halves // 2) + (HALF if halves % 2 else "")).ljust(width)


def spinner(seconds: float, steps: int) -> str:
    """What turns while something is waited for, by so many steps a second."""
    return "⠋⠙⠹⠸⠼⠴⠦⠧⠇⠏"[int(seconds * steps) % 10]


def count(number: float | None) -> str:
    """`12,345`; `–` when not known."""
    return "–" if number is None else f"{number:,.0f}"


def done_of(done: int, total: int, width: int) -> str:
    """`12,345 / 47,500`; shorter where it would not fit `width` cells."""
    whole = f"{count(done)} / {count(total)}"
    return whole if len(whole) <= width else f"{number(done)} / {number(total)}"


def rate(value: float | None, unit: str = "") -> str:
    """Per second: one decimal under 100, thousands as k; `–` when not known."""
    if value is None:
        return "–"
    text = f"{value / 1000:,.1f}k" if value >= 10_000 else f"{value:,.0f}" if value >= 100 else f"{value:.1f}"
    return text + unit


def signed(value: float | None, digits: int = 2) -> str:
    """`+0.61`, `−0.41`, with a true minus; `–` when not known."""
    return "–" if value is None else f"{value:+.{digits}f}".replace("-", "−")


def short(value: float) -> str:
    """A share or a reward in two decimals, without a leading zero: `.71`, `1.00`, `−.20`."""
    return (
        f"{value:.2f}".replace("-", "−").replace("0.", ".", 1)
        if abs(value) < 0.995
        else signed(value).lstrip("+")
    )


def one_line(message: str) -> str:
    """A message of several lines, such as an error with its remedy, as one."""
    return " ".join(message.split())


def money(dollars: float) -> str:
    """Dollars with cents."""
    return f"${dollars:,.2f}"


def number(value: float | None) -> str:
    """A number of weights or tokens: `135M`, `72B`, `167.6k`."""
    if value is None:
        return "–"
    for size, letter in ((1e12, "T"), (1e9, "B"), (1e6, "M"), (1e3, "k")):
        if value >= size:
            return f"{value / size:.4g}{letter}"
    return f"{value:.0f}"


def short_reference(model: str) -> str:
    """A model reference; of a path or a hub id its last part."""
    return model if model.startswith("zoo:") else Path(model).name
