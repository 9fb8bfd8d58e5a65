"""Screen 6 on small real stores: curves, phases, evaluations, and what its keys do."""

from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
from app.small_run import MadeRun, lines, make, notes, showing, submit, words
from app.support import stands, until

from engine.pipeline import job_commands
from persyn_tui.app.widgets.confirm import Confirm
from persyn_tui.app.widgets.plot import Plot
from persyn_tui.app.widgets.virtual_table import VirtualTable
from storage import datasets, jobs, results
from storage.records import Checkpoint, DatasetRow
from storage.store import Store


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with Store.open(tmp_path / "s.db") as opened:
        yield opened


@pytest.fixture
def made(store: Store, tmp_path: Path) -> MadeRun:
    return make(store, tmp_path)


def train(made: MadeRun, strategy: str, steps: list[int], total: int = 100, **extra: float) -> None:
    """Steps of a training, as a running engine stores them; the loss is 8 / step."""
    row = {"done": steps[-1], "total": total, "tokens": 9, "tokens_per_second": 3910.0, "eta_s": 61.0}
    lease = made.stage("distill", steps[-1], total, **{strategy: row})
    values = {"learning_rate": 1.4e-4, "gradient_norm": 0.5, **extra}
    rows = [("distill", f"{strategy}/loss", step, 8 / step) for step in steps]
    rows += [("distill", f"{strategy}/{name}", steps[-1], value) for name, value in values.items()]
    jobs.record_metrics(made.store, lease, rows)


def drawn(app) -> str:
    plot = app.screen.query_one(Plot)
    return "\n".join(plot.render_line(y).text for y in range(plot.size.height))


def dotted(app) -> int:
    """Cells of the plot with a dot in them."""
    return sum(0x2800 < ord(mark) <= 0x28FF for mark in drawn(app))


async def test_an_empty_store_says_the_next_step(tmp_path: Path) -> None:
    async with showing(str(tmp_path / "s.db"), "distil") as (app, pilot):
        assert app.screen.state == "empty"
        assert "n there makes one" in words(app, "#empty")
        for key in ("s", "x", "c", "m", "left", "right", "tab", "y"):
            await pilot.press(key)
        await until(pilot, lambda: stands(app))
        assert notes(app) == ""  # what can do nothing is not offered


async def test_before_training_strategies_wait(store: Store, tmp_path: Path) -> None:
    submit(store, tmp_path)
    async with showing(store.location, "distil") as (app, pilot):
        # The columns are those of a narrower place until the layout is done.
        await until(
            pilot,
            lambda: (
                [line.split()[0] for line in lines(app, "#strategies")[1:]] == ["before", "strong", "persyn"]
            ),
        )
        assert "waiting" in lines(app, "#strategies")[-1]
        assert "persyn   waits for its dataset" in words(app, "#now")
        assert "no step of persyn yet" in words(app, "#drawn")


async def test_a_training_shows_its_numbers_curve_and_checkpoints(made: MadeRun) -> None:
    adapter = made.adapter("strong")
    results.add_checkpoint(made.store, None, Checkpoint(adapter.id, 5, "x", "0", {"loss": 1.5}))
    train(made, "strong", list(range(1, 11)), memory_bytes=3 * 2**30, eval_loss=0.875)
    async with showing(made.store.location, "distil") as (app, pilot):
        await until(pilot, lambda: "step 10 / 100" in words(app, "#now"))
        now = words(app, "#now")
        assert now.startswith("strong")
        for part in ("loss 0.800", "eval 0.875", "lr 1.4e-04", "3,910 tok/s", "mem 3.0 GiB", "ETA 1m 01s"):
            assert part in now
        assert "● 10 / 100" in lines(app, "#strategies")[2]
        assert words(app, "#checkpoints") == "checkpoints  ✓ 5"
        assert "nats per token: EMA over 10 steps, and eval loss as measured" in words(app, "#drawn")
        await until(pilot, lambda: "step 100" in drawn(app))
        before = dotted(app)
        results.add_checkpoint(made.store, None, Checkpoint(adapter.id, 20, "x", "0", {}))
        train(made, "strong", list(range(11, 41)))
        await until(pilot, lambda: "step 40 / 100" in words(app, "#now"))
        await until(pilot, lambda: dotted(app) > 2 * before)
        assert words(app, "#checkpoints") == "checkpoints  ✓ 5  ✓ 20"


async def test_a_resumed_job_goes_on_with_the_curve_from_its_checkpoint(made: MadeRun) -> None:
    made.adapter("strong")
    train(made, "strong", list(range(1, 31)))
    jobs.release(made.store, made.lease, "cancelled")
    again, _ = jobs.submit(made.store, jobs.get(made.store, made.job).spec, "spec", "small")
    made.job, made.lease = again.id, None
    train(made, "strong", list(range(21, 41)))
    async with showing(made.store.location, "distil") as (app, pilot):
        await until(pilot, lambda: "step 40 / 100" in words(app, "#now"))
        assert list(app.screen.data.curves["loss"].steps) == list(range(1, 41))


async def test_a_long_history_is_read_bit_by_bit(made: MadeRun, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("persyn_tui.app.screens.distil.query.PAGE", 7)
    monkeypatch.setattr("persyn_tui.app.screens.distil.query.PAGES", 2)
    made.adapter("strong")
    train(made, "strong", list(range(1, 101)))
    async with showing(made.store.location, "distil") as (app, pilot):
        await until(pilot, lambda: app.screen.data.points == 102 and not app.screen.data.more)
        assert len(app.screen.data.curves["loss"]) == 100


async def test_strategies_are_compared_with_intervals_and_what_they_rest_on(made: MadeRun) -> None:
    made.answer(0, 0)
    made.answer(1, 1)
    for strategy, right in (("strong", [1, 0, 0, 0]), ("persyn", [1, 1, 1, 0])):
        made.trained(strategy, 50)
        made.evaluated(strategy, right)
    made.evaluated(None, [0, 0, 0, 0])
    jobs.release(made.store, made.stage("evaluate"), "done")
    async with showing(made.store.location, "distil", size=(140, 28)) as (app, pilot):
        await until(pilot, lambda: "0.0–50.0" in lines(app, "#strategies")[1])
        before, strong, persyn = (line.split() for line in lines(app, "#strategies")[1:])
        assert before[-3:-1] == ["%", "0.0–50.0"]
        assert strong[:3] == ["strong", "✓", "50"]
        # 75 % − 25 % on the same prompts; strong rests on one response, persyn on those of calibration too.
        assert strong[-3:-1] == ["+50.0", "pp"]
        assert strong[strong.index("25.0") - 1] == "1"
        assert persyn[persyn.index("75.0") - 1] == "2"
        assert "●" in "".join(persyn)
        assert "step 50 / 50   loss 0.250" in words(app, "#now")
        assert "1,234 tok/s" in words(app, "#now")


async def test_what_was_measured_stays_when_rows_are_excluded_and_comes_back_whole(made: MadeRun) -> None:
    made.answer(0, 0)
    made.answer(1, 0)
    for strategy in ("strong", "persyn"):
        made.trained(strategy, 50, rows=2)
        made.evaluated(strategy, [1, 1, 1, 0])
    dataset = datasets.find(made.store, made.context.identity.dataset_sha("persyn"))
    rows = [DatasetRow(made.prompts[place], place + 1, 1.0, -0.1, 0.5) for place in (0, 1)]
    datasets.add(made.store, None, dataset.id, rows)
    jobs.release(made.store, made.stage("evaluate"), "done")
    async with showing(made.store.location, "distil", size=(140, 28)) as (app, pilot):
        await until(pilot, lambda: "✓ 50" in lines(app, "#strategies")[3])
        datasets.exclude(made.store, dataset.id, made.prompts[:1])
        await until(pilot, lambda: "▲ data changed" in lines(app, "#strategies")[3])
        assert "75.0 %" in lines(app, "#strategies")[3]
        assert "of 2 rows; the dataset has changed since (run again to retrain" in words(app, "#now")
        strong = lines(app, "#strategies")[2].split()
        assert strong[1] == "✓", "only what has changed is marked"
        assert "pp" in strong
        datasets.exclude(made.store, dataset.id, made.prompts[:1], False)
        await until(pilot, lambda: "✓ 50" in lines(app, "#strategies")[3])
        assert "changed" not in words(app, "#now")


async def test_the_newest_training_of_a_dataset_is_shown_while_its_rows_are_others_again(
    made: MadeRun,
) -> None:
    made.answer(0, 0)
    made.answer(1, 0)
    made.trained("persyn", 50, rows=2)
    made.evaluated("persyn", [1, 0, 0, 0])
    dataset = datasets.find(made.store, made.context.identity.dataset_sha("persyn"))
    rows = [DatasetRow(made.prompts[place], place + 1, 1.0, -0.1, 0.5) for place in (0, 1)]
    datasets.add(made.store, None, dataset.id, rows)
    datasets.exclude(made.store, dataset.id, made.prompts[:1])
    made.context.exclusions.forget()
    made.trained("persyn", 60, rows=1)
    made.evaluated("persyn", [1, 1, 0, 0])
    datasets.exclude(made.store, dataset.id, made.prompts[:2])
    jobs.release(made.store, made.stage("evaluate"), "done")
    async with showing(made.store.location, "distil", size=(140, 28)) as (app, pilot):
        await until(pilot, lambda: "▲ data changed" in lines(app, "#strategies")[3])
        assert "50.0 %" in lines(app, "#strategies")[3]
        assert "persyn was trained by another job" in words(app, "#drawn")
        assert "of 1 rows" in words(app, "#now")


async def test_a_done_job_runs_again_where_rows_were_excluded_and_else_says_why_not(made: MadeRun) -> None:
    made.answer(0, 0)
    for strategy in ("strong", "persyn"):
        made.trained(strategy, 50, rows=1)
    dataset = datasets.find(made.store, made.context.identity.dataset_sha("persyn"))
    datasets.add(made.store, None, dataset.id, [DatasetRow(made.prompts[0], 1, 1.0, -0.1, 0.5)])
    jobs.release(made.store, made.stage("evaluate"), "done")
    async with showing(made.store.location, "jobs") as (app, pilot):
        await pilot.press("r")
        await until(pilot, lambda: "no dataset of it has changed since" in notes(app))
        datasets.exclude(made.store, dataset.id, made.prompts[:1])
        await pilot.press("r")
        await until(pilot, lambda: len(jobs.recent(made.store)) == 2)
        await until(pilot, lambda: "starts in the background" in notes(app))
        newest = jobs.recent(made.store)[0]
        engines = [
            one for one in psutil.Process().children() if ["work", str(newest.id)] == one.cmdline()[-2:]
        ]
        for engine in engines:
            engine.kill()
        assert len(engines) == 1


async def test_an_evaluation_in_progress_is_told(made: MadeRun) -> None:
    made.trained("strong", 50)
    made.stage("evaluate", 1, 4, strong={"done": 1, "total": 4, "tokens": 9})
    async with showing(made.store.location, "distil", size=(140, 28)) as (app, pilot):
        await until(pilot, lambda: "● eval 1 / 4" in lines(app, "#strategies")[2])


async def test_keys_choose_strategy_and_curve(made: MadeRun) -> None:
    for strategy, steps in (("strong", [1, 2]), ("persyn", [1, 2, 3])):
        made.adapter(strategy)
        train(made, strategy, steps)
    async with showing(made.store.location, "distil") as (app, pilot):
        await until(pilot, lambda: words(app, "#now").startswith("persyn"))
        sheet = app.screen.query_one("#strategies", VirtualTable)
        assert sheet.key == "persyn"
        await pilot.press("left")
        await until(pilot, lambda: words(app, "#now").startswith("strong"))
        await pilot.press("m")
        await until(pilot, lambda: "learning rate of strong" in words(app, "#drawn"))
        await pilot.press("shift+tab")
        await until(pilot, lambda: words(app, "#now") == "the student before training")
        assert words(app, "#drawn").startswith("before training: no curve")
        await pilot.press("tab", "right")
        await until(pilot, lambda: "learning rate of persyn" in words(app, "#drawn"))
        await pilot.press("k")
        await until(pilot, lambda: words(app, "#now").startswith("strong"))
        # A new point elsewhere does not take the operator's choice away.
        train(made, "persyn", [4])
        await until(pilot, lambda: app.screen.data.points == 12)
        assert words(app, "#now").startswith("strong")


async def test_z_fills_the_screen_with_the_curve(made: MadeRun) -> None:
    made.adapter("persyn")
    train(made, "persyn", [1, 2, 3])
    async with showing(made.store.location, "distil") as (app, pilot):
        await until(pilot, lambda: app.screen.query_one(Plot).display)
        small = app.screen.query_one(Plot).size.height
        await pilot.press("z")
        await until(pilot, lambda: app.screen.query_one(Plot).size.height > small + 5)
        await pilot.press("z")
        await until(pilot, lambda: app.screen.query_one(Plot).size.height == small)


async def test_checkpoint_now_leaves_the_command_in_training_alone(made: MadeRun) -> None:
    made.adapter("strong")
    lease = made.stage("score", 1, 2)
    async with showing(made.store.location, "distil") as (app, pilot):
        await pilot.press("c")
        await until(pilot, lambda: "is not training now" in notes(app))
        assert jobs.take_commands(made.store, lease) == []
        train(made, "strong", [1])
        await pilot.press("c")
        await until(pilot, lambda: [c.kind for c in jobs.take_commands(made.store, lease)] == ["checkpoint"])
        await until(pilot, lambda: "writes a checkpoint after its next step" in notes(app))


async def test_stop_says_that_a_checkpoint_holds_it(made: MadeRun) -> None:
    made.adapter("strong")
    train(made, "strong", [1, 2])
    async with showing(made.store.location, "distil") as (app, pilot):
        await pilot.press("x")
        await until(pilot, lambda: isinstance(app.screen, Confirm))
        await pilot.press("y")
        await until(pilot, lambda: [c.kind for c in jobs.take_commands(made.store, made.lease)] == ["cancel"])
        jobs.release(made.store, made.lease, "cancelled")
        await until(pilot, lambda: "■ 2 / 100" in lines(app, "#strategies")[2])


@pytest.mark.parametrize(("size", "plot"), [((60, 14), False), ((80, 24), True), ((140, 40), True)])
async def test_the_plot_goes_first_and_strip_and_footer_stay(
    made: MadeRun, size: tuple[int, int], plot: bool
) -> None:
    made.adapter("persyn")
    train(made, "persyn", [1, 2, 3])
    async with showing(made.store.location, "distil", size=size) as (app, pilot):
        await until(pilot, lambda: app.screen.query_one(Plot).display == plot)
        await until(pilot, lambda: ("plot" in app.screen.without()) != plot)
        await until(pilot, lambda: lines(app, "#strategies")[-1].startswith("persyn"))
        for name in ("#machine", "Keys", "#title", "#checkpoints"):
            assert app.screen.query_one(name).region.bottom <= size[1]
            assert app.screen.query_one(name).size.height >= 1
        if plot:
            await until(pilot, lambda: dotted(app) > 0)


def test_a_checkpoint_of_a_job_that_does_not_train_names_the_one_that_does(made: MadeRun) -> None:
    made.stage("distill", 1, 2)
    idle, _ = jobs.submit(made.store, {}, "0" * 64, "idle")
    assert job_commands.checkpoint(made.store, idle.id) == (
        f"job {idle.id} is not training now; job {made.job} is: choose that one"
    )
