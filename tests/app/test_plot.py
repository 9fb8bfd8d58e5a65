"""Series, scales and dots by hand."""

import pytest

from persyn_tui.app.widgets.plot import Scale, Series, dots, interval, scale


def test_a_step_that_comes_again_replaces_what_followed() -> None:
    series = Series([(1, 9.0), (2, 8.0), (3, 7.0), (4, 6.0)])
    series.add(3, 1.0)
    assert (list(series.steps), list(series.values), series.last) == ([1, 2, 3], [9.0, 8.0, 1.0], 1.0)
    series.add(0, 5.0)
    assert list(series.steps) == [0]


def test_buckets_hold_means_and_empty_ones_nothing() -> None:
    series = Series([(0, 1.0), (1, 3.0), (5, 10.0)])
    assert series.thin(3, until=5) == [(0, 2.0), (2, 10.0)]
    assert series.thin(1, until=5) == [(0, pytest.approx(14 / 3))]
    assert len(Series((step, 0.0) for step in range(10_000)).thin(240, until=9_999)) == 240


@pytest.mark.parametrize(
    ("values", "wanted"),
    [
        ([0.4, 1.2], Scale(0.0, 1.5, 0.5)),
        ([2.0, 2.0], Scale(2.0, 3.0, 1.0)),
        ([0.0], Scale(0.0, 0.5, 0.5)),
        ([-1.0, 5.0], Scale(-2.0, 6.0, 2.0)),
        ([1e-5, 2e-4], Scale(0.0, pytest.approx(2e-4), pytest.approx(1e-4))),
    ],
)
def test_ticks_are_round_and_hold_the_values(values: list[float], wanted: Scale) -> None:
    assert scale(values) == wanted


def test_a_line_has_no_gaps_and_stays_on_its_cells() -> None:
    cells = dots([(0, 1.0), (3, 0.0)], Scale(0.0, 1.0, 1.0), width=2, height=1)
    # Four columns of dots from the top row to the bottom row.
    assert [chr(0x2800 | bits) for bits in cells[0]] == ["⠑", "⢄"]
    up = dots([(0, 0.0), (1, 1.0)], Scale(0.0, 1.0, 1.0), width=1, height=2)
    assert [[chr(0x2800 | bits) for bits in row] for row in up] == [["⢸"], ["⡸"]]


def test_an_interval_lies_on_its_scale() -> None:
    assert interval(0.5, 0.25, 0.75, 8) == "  ──●── "
    assert interval(0.0, 0.0, 0.0, 4) == "●   "
    assert interval(1.0, 0.5, 1.0, 4) == "  ─●"


def test_the_average_begins_at_the_first_value_and_follows_the_others() -> None:
    series = Series((step, 4.0 if step % 2 else 2.0) for step in range(1, 201))
    smooth = series.smoothed(10)
    assert list(smooth.steps) == list(series.steps)
    assert smooth.values[0] == 4.0
    assert max(abs(value - 3.0) for value in smooth.values[50:]) < 0.2
    assert list(Series([(1, 5.0), (2, 5.0)]).smoothed(10).values) == pytest.approx([5.0, 5.0])
