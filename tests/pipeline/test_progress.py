"""Counters, rates and times left, on a clock that the test moves."""

from collections.abc import Sequence

import pytest

from engine.job.progress import Metric, Progress, Snapshot, from_json
from engine.pipeline.display import Plain, render, summary, time_left
from engine.teachers.traffic import Traffic


class Watch:
    """A clock, and the snapshots that were stored."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.stored: list[Snapshot] = []
        self.progress = Progress(self, lambda: self.now)
        self.progress.begin("generate")

    def publish(self, snapshot: Snapshot, metrics: Sequence[Metric]) -> None:
        self.stored.append(snapshot)

    def say(self, kind: str, message: str) -> None:
        raise AssertionError


@pytest.fixture
def watch() -> Watch:
    return Watch()


def test_each_row_has_its_own_rate_and_time_left(watch):
    watch.progress.expect(100, done=20, row="slow")
    watch.progress.expect(50, row="fast")
    for _ in range(10):
        watch.now += 1
        watch.progress.advance(tokens=5, row="slow")
        watch.progress.advance(3, tokens=30, row="fast")
    snapshot = watch.progress.snapshot()
    slow, fast = snapshot.rows["slow"], snapshot.rows["fast"]
    assert (slow.done, slow.tokens_per_second, slow.eta_s) == (30, 5, 70)
    assert (fast.done, fast.tokens_per_second, fast.eta_s) == (30, 30, pytest.approx(20 / 3))
    assert (snapshot.rate, snapshot.tokens_per_second, snapshot.eta_s) == (4, 35, 70)


def test_a_row_that_stands_still_loses_its_rate_after_the_window(watch):
    watch.progress.expect(10, row="done")
    watch.now += 1
    watch.progress.advance(10, tokens=100, row="done")
    watch.progress.expect(1000, row="next")
    for _ in range(30):
        watch.now += 1
        watch.progress.advance(tokens=7, row="next")
    rows = watch.progress.snapshot().rows
    assert (rows["done"].tokens_per_second, rows["done"].eta_s) == (None, None)
    assert rows["next"].tokens_per_second == 7


def test_a_row_that_is_expected_again_starts_its_rate_anew(watch):
    watch.progress.expect(10, row="a")
    watch.now += 1
    watch.progress.advance(10, tokens=100, row="a")
    watch.now += 9
    watch.progress.expect(4, row="a")
    watch.now += 1
    watch.progress.advance(1, tokens=20, row="a")
    row = watch.progress.snapshot().rows["a"]
    assert (row.done, row.tokens_per_second, row.eta_s) == (1, 20, 3)


def test_one_answer_after_a_long_loading_foretells_nothing(watch):
    watch.progress.expect(1000, row="a", lane=0)
    watch.now += 10
    watch.progress.advance(row="a")
    assert watch.progress.snapshot().eta_s is None
    for _ in range(3):
        watch.now += 0.5
        watch.progress.advance(row="a")
    assert watch.progress.snapshot().eta_s is not None


def test_the_loading_of_a_rows_model_does_not_count_for_its_speed(watch):
    watch.progress.expect(1000, row="before", lane=0)
    watch.progress.expect(1000, row="after", lane=0)
    watch.progress.works_on("after")
    watch.progress.doing("loading pupil (after)", "after")
    for _ in range(12):
        watch.now += 1
        watch.progress.works_on("after")
        watch.progress.doing("loading pupil (after)", "after")
    for _ in range(9):
        watch.progress.advance(4, tokens=20, row="after")
        watch.now += 0.25
    snapshot = watch.progress.snapshot()
    row = snapshot.rows["after"]
    assert (row.done, row.tokens) == (36, 180)
    # The first units end the loading, so that those after them are measured: 32 in 2.25 s.
    assert snapshot.rate == pytest.approx(32 / 2.25)
    assert row.tokens_per_second == pytest.approx(160 / 2.25)
    assert row.eta_s == pytest.approx((1000 - 36) / (32 / 2.25))


def test_where_a_part_stands_still_no_time_is_known(watch):
    watch.progress.expect(10, row="a", lane=0)
    watch.progress.expect(10, row="b", lane=1)
    for _ in range(4):
        watch.now += 1
        watch.progress.advance(row="a")
        watch.progress.advance(row="b")
    assert watch.progress.snapshot().eta_s == 6
    for _ in range(25):
        watch.now += 1
        watch.progress.traffic("b", Traffic(0, 8, 8, 3, "waits 300 s: http://x/v1: HTTP 429"))
    assert watch.progress.snapshot().eta_s is None
    watch.progress.traffic("b", Traffic(1, 8, 8, 3, ""))
    watch.progress.advance(row="b")
    assert watch.progress.snapshot().eta_s is not None


def test_a_snapshot_comes_back_from_json_as_it_was_and_an_older_one_can_be_read(watch):
    watch.progress.expect(10, row="a")
    watch.now += 1
    watch.progress.advance(2, tokens=8, row="a", status="truncated")
    snapshot = watch.progress.snapshot()
    assert from_json(snapshot.as_json()) == snapshot
    data = snapshot.as_json()
    del data["rows"]["a"]["eta_s"], data["rows"]["a"]["tokens_per_second"]
    assert from_json(data).rows["a"].counts == {"truncated": 2}
    data["rows"]["a"]["of_a_newer_version"] = 1  # the app may be open while the package is updated
    assert from_json(data).rows["a"].counts == {"truncated": 2}


def test_it_is_stored_at_most_four_times_a_second_and_at_the_end(watch):
    watch.progress.expect(1000, row="a")
    for _ in range(99):
        watch.now += 0.01
        watch.progress.advance(row="a")
    assert len(watch.stored) in (4, 5)
    watch.progress.flush()
    assert watch.stored[-1].done == 99


def test_only_the_part_at_work_shows_its_values(watch):
    watch.progress.expect(100, row="strong")
    watch.progress.values(1, {"strong/loss": 2.0, "strong/learning_rate": 0.1})
    watch.progress.values(1, {"persyn/loss": 3.0})
    assert summary(watch.progress.snapshot()).endswith("persyn/loss 3")
    watch.progress.values(2, {"strong/loss": 1.5})
    line = summary(watch.progress.snapshot())
    assert "strong/loss 1.5" in line
    assert "persyn" not in line


def test_the_time_left_is_that_of_each_teachers_own_speed(watch):
    for lane, name in ((0, "slow"), (0, "quick"), (1, "endpoint")):
        watch.progress.expect(100, row=name, lane=lane)
    assert (watch.progress.snapshot().eta_s, watch.progress.snapshot().rough) == (None, False)
    for _ in range(50):
        for name in ("slow", "endpoint"):
            watch.progress.works_on(name)
        watch.now += 2
        watch.progress.advance(1, row="slow")
        watch.progress.advance(2, row="endpoint")
    found = watch.progress.snapshot()
    # 50 of `slow` at 0.5/s, and 100 of `quick`, whose turn it has not been, as fast as 0.5/s and 1/s together.
    assert found.eta_s == pytest.approx(50 / 0.5 + 100 * (2 + 1) / 2, rel=0.05)
    assert found.rough
    assert "ETA ~4m" in summary(found)
    watch.now += 100
    watch.progress.advance(50, row="slow")
    watch.progress.works_on("quick")
    watch.now += 1
    watch.progress.advance(10, row="quick")
    found = watch.progress.snapshot()
    assert (found.eta_s, found.rough) == (pytest.approx(9), False), "the wait for its turn is not its own"
    assert from_json(found.as_json()) == found


def test_a_speed_measured_before_counts_until_there_is_one_of_this_run(watch):
    watch.progress.expect(100, row="a", lane=0, known=4.0)
    watch.progress.expect(60, row="b", lane=0, known=2.0)
    found = watch.progress.snapshot()
    assert (found.eta_s, found.rough) == (100 / 4 + 60 / 2, False)


def test_the_stage_is_as_fast_as_the_rows_that_move_and_takes_as_long_as_the_slowest(watch):
    """One teacher ends early, one is refused everything: neither is counted on."""
    for lane, (name, total, known) in enumerate(
        (("ended", 20, None), ("brief", 400, 50.0), ("far", 100, None))
    ):
        watch.progress.expect(total, row=name, lane=lane, known=known)
    for _ in range(10):
        watch.now += 1
        watch.progress.advance(2, tokens=200, row="ended")
        watch.progress.advance(1, tokens=12, row="brief")
        watch.progress.traffic("far", Traffic(4, 10, 10, 0, ""))
        watch.progress.advance(1, tokens=6, row="far")
    found = watch.progress.snapshot()
    assert found.rows["ended"].tokens_per_second is None
    assert found.tokens_per_second == pytest.approx(18)
    etas = [found.rows[name].eta_s for name in ("brief", "far")]
    assert etas == [pytest.approx(390), pytest.approx(90)]
    assert found.eta_s == pytest.approx(390)
    for _ in range(5):  # well within the window of 20 s
        watch.now += 1
        watch.progress.traffic("far", Traffic(0, 10, 10, 9, ""))
        watch.progress.advance(1, tokens=12, row="brief")
    found = watch.progress.snapshot()
    assert (found.rows["far"].tokens_per_second, found.rows["far"].eta_s) == (None, None)
    assert found.tokens_per_second == found.rows["brief"].tokens_per_second


def test_where_every_request_is_refused_no_speed_and_no_time_is_known(watch):
    watch.progress.expect(100, row="far", lane=0, known=5.0)
    for _ in range(10):
        watch.now += 1
        watch.progress.works_on("far")
        watch.progress.traffic("far", Traffic(4, 10, 10, 0, ""))
        watch.progress.advance(1, tokens=30, row="far")
    assert watch.progress.snapshot().eta_s == pytest.approx(90, rel=0.2)
    for _ in range(4):
        watch.now += 1
        watch.progress.traffic("far", Traffic(0, 10, 10, 7, ""))
    found = watch.progress.snapshot()
    assert (found.tokens_per_second, found.eta_s, found.rows["far"].eta_s) == (None, None, None)


def test_a_row_whose_turn_is_over_or_to_come_has_no_speed_and_a_silent_one_loses_it(watch):
    for name in ("first", "second"):
        watch.progress.expect(100, row=name, lane=0)
    watch.progress.works_on("first")
    for _ in range(10):
        watch.now += 1
        watch.progress.advance(1, tokens=5, row="first")
    watch.progress.works_on("second")  # some of the first one's requests have failed for good
    found = watch.progress.snapshot()
    assert [row.tokens_per_second for row in found.rows.values()] == [None, None]
    assert found.tokens_per_second is None
    for _ in range(5):
        watch.now += 1
        watch.progress.advance(1, tokens=5, row="second")
    assert watch.progress.snapshot().tokens_per_second == 5
    for _ in range(25):
        watch.now += 1
        watch.progress.works_on("second")
    assert watch.stored[-1].tokens_per_second is None, "it is told although nothing comes"
    assert watch.stored[-1].eta_s is None


def test_a_time_left_is_whole_in_the_cells_that_lists_have_for_it():
    seconds = (0.4, 59.6, 599.4, 599.6, 763, 1431, 3599.4, 3599.7, 35_999, 36_000, 400_000)
    assert [time_left(time) for time in seconds] == (
        ["0s", "1m 00s", "9m 59s", "10m", "12m", "23m", "59m", "1h 00m", "9h 59m", "10h", "111h"]
    )
    assert all(len(time_left(time)) <= 6 and len(time_left(time, rough=True)) <= 7 for time in seconds)
    assert time_left(None, rough=True) == "–"


def test_what_is_done_before_the_first_stage_is_shown(capsys):
    at = Snapshot(doing="starting: loading torch and transformers", doing_s=3)
    assert summary(at) == "starting: loading torch and transformers 3s"
    Plain().show(at)
    assert capsys.readouterr().err == "starting: loading torch and transformers 3s\n"
    Plain().show(Snapshot())
    assert capsys.readouterr().err == ""
    lines = render(at, 80).renderables
    assert str(lines[0]) == "starting: loading torch and transformers 3s"
