"""Every stage with a model that takes its time: the numbers move, and a stop is heard.

A slow model of a few layers stands for a large one of many. With `-s` the measured table is printed, a row a stage:
seconds to the first number, the longest silence, seconds until the stop was heard.
"""

import shutil
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from threading import Event, Thread
from threading import enumerate as enumerate_threads
from typing import Any

import pytest
import torch
from sqlalchemy import select
from support import Workspace

from engine.distill import merge
from engine.job.progress import Progress
from engine.job.stage_names import STAGES
from engine.models import loading
from engine.router import backbone
from engine.router import model as router_model
from engine.sources import source_kinds
from storage import jobs
from storage.schema import ResponseRow

PASS_S = 1.0
"""What a forward pass takes longer than usual."""
MOVES_S, HEARD_S = 2.0, 5.0
SLACK_S = 3.0
"""What a busy machine adds to each bound."""
CHANGES = 2
"""How often the numbers are seen to move before the job is stopped."""


@dataclass
class Seen:
    """What an operator sees of a job."""

    began: float = 0.0
    """When the stage was first shown."""
    at: list[float] = field(default_factory=list)
    """When a number changed."""
    asked: float = 0.0
    """When the job was asked to stop."""

    def check(self, what: str) -> None:
        """Holds what was seen against the bounds; to be called when the job has just ended."""
        ended = time.monotonic()
        gaps = [later - earlier for earlier, later in zip(self.at, self.at[1:], strict=False)]
        first, silence, heard = self.at[0] - self.began, max(gaps), ended - self.asked
        print(f"| {what} | {first:.1f} | {silence:.1f} | {heard:.1f} |")
        assert silence < MOVES_S + SLACK_S, gaps
        assert heard < HEARD_S + SLACK_S


def slow(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every model that is loaded from now on takes `PASS_S` more for a forward pass, spread over its layers."""
    quick = loading.load_weights

    def load(*args: Any, **kwargs: Any) -> Any:
        model = quick(*args, **kwargs)
        layers = next(part for part in model.modules() if isinstance(part, torch.nn.ModuleList))
        for layer in layers:
            layer.register_forward_hook(lambda *_: time.sleep(PASS_S / len(layers)))
        return model

    monkeypatch.setattr(loading, "load_weights", load)
    monkeypatch.setattr(backbone, "load_weights", load)
    monkeypatch.setattr(router_model, "CPU_TOKENS", 200)  # so that routing a few prompts takes several passes


@pytest.fixture(scope="module")
def before(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """Stage → a folder in which all before it is done; each stage is run once for all tests."""
    made: dict[str, Path] = {}

    def folder(stage: str) -> Path:
        if stage not in made:
            place, last = tmp_path_factory.mktemp(stage), STAGES[STAGES.index(stage) - 1]
            if last != "prompts":
                shutil.copytree(folder(last), place, dirs_exist_ok=True)
            workspace = Workspace(place)
            workspace.write()
            workspace.finish(until=last)
            made[stage] = place
        return made[stage]

    return folder


@pytest.fixture
def at(workspace: Workspace, before: Callable[[str], Path]) -> Callable[[str], None]:
    """Brings the workspace to the beginning of a stage."""
    return lambda stage: shutil.copytree(before(stage), workspace.folder, dirs_exist_ok=True) and None


@pytest.fixture
def watched(workspace) -> Iterator[Callable[..., Seen]]:
    """Watches a stage, or what it says that it is doing, and cancels the job from another connection once its numbers
    have moved a few times."""
    ended, threads = Event(), []

    def start(stage: str, doing: str = "") -> Seen:
        seen = Seen()
        thread = Thread(target=watch, args=(stage, doing, seen))
        thread.start()
        threads.append(thread)
        return seen

    def watch(stage: str, doing: str, seen: Seen) -> None:
        with workspace.open() as store:
            shown: Any = None
            while not ended.wait(0.05):
                if not (found := jobs.recent(store, limit=1)):
                    continue
                job = found[0]
                here = job.progress.get("stage") == stage and doing in job.progress.get("doing", "")
                rows = job.progress.get("rows", {}) if here else {}
                if here:
                    seen.began = seen.began or time.monotonic()
                now = (
                    [(name, row["done"], row["tokens"]) for name, row in rows.items()],
                    job.progress.get("values"),
                    job.progress.get("doing_s"),
                )
                if not (rows or (here and job.progress.get("doing"))) or now == shown:
                    continue
                shown = now
                seen.at.append(time.monotonic())
                if len(seen.at) > CHANGES and not seen.asked:
                    seen.asked = time.monotonic()
                    jobs.command(store, job.id, "cancel")

    yield start
    ended.set()
    for thread in threads:
        thread.join()


@pytest.mark.parametrize("stage", [stage for stage in STAGES if stage != "prompts"])
def test_a_slow_model_moves_the_numbers_and_hears_a_stop(
    workspace, at, watched, monkeypatch, stage: str
) -> None:
    at(stage)
    slow(monkeypatch)
    seen = watched(stage)
    code, job, _ = workspace.work(until=stage)
    assert (code, job.state) == (130, "cancelled"), seen
    seen.check(stage)


def test_the_time_left_of_scoring_goes_by_the_length_of_what_is_read(workspace, at, monkeypatch) -> None:
    expected, read = list[float](), list[float]()
    expect, advance = Progress.expect, Progress.advance

    def expects(self: Progress, total: int, **told: Any) -> None:
        if told.get("row") == "learnability":
            expected.append(told["work"])
        expect(self, total, **told)

    def advances(self: Progress, made: int = 1, **told: Any) -> None:
        if told.get("row") == "learnability":
            read.append(told["work"])
        advance(self, made, **told)

    monkeypatch.setattr(Progress, "expect", expects)
    monkeypatch.setattr(Progress, "advance", advances)
    at("score")
    workspace.finish(until="score")
    assert len(set(expected)) == 1
    assert sum(read) == expected[0] == text_of_all(workspace)


def text_of_all(workspace) -> int:
    with workspace.open() as store:
        return sum(
            len(text) for text in store.scalars(select(ResponseRow.text).where(ResponseRow.status == "ok"))
        )


@pytest.mark.parametrize("each", [0.2, 60.0], ids=["many", "one"])
def test_a_slow_source_moves_the_numbers_and_hears_a_stop(
    workspace, watched, monkeypatch, each: float
) -> None:
    quick = source_kinds.read

    def read(source: Any) -> Iterator[Any]:
        for found in quick(source):
            wait(each)
            yield found

    monkeypatch.setattr(source_kinds, "read", read)
    monkeypatch.setattr(source_kinds, "check", lambda source: None)  # it reads for two seconds before the run
    workspace.write()
    seen = watched("prompts")
    code, job, _ = workspace.work(until="prompts")
    assert (code, job.state) == (130, "cancelled"), seen
    seen.check(f"prompts, {each:g} s each")


def wait(seconds: float) -> None:
    """Takes its time in small steps, as weights are copied."""
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        time.sleep(0.01)


@pytest.mark.parametrize("stage", ["calibrate", "score", "train_router", "route", "distill", "evaluate"])
def test_a_model_that_is_loaded_for_minutes_shows_it_and_hears_a_stop(
    workspace, at, watched, monkeypatch, stage: str
) -> None:
    at(stage)
    for module in (loading, backbone):
        monkeypatch.setattr(module, "load_weights", lambda *args, **kwargs: wait(60))
    seen = watched(stage)
    code, job, _ = workspace.work(until=stage)
    assert (code, job.state) == (130, "cancelled"), seen
    seen.check(f"{stage}, loading")
    assert not [thread for thread in enumerate_threads() if thread.name == "lane"]


def test_a_merge_that_takes_minutes_shows_it_hears_a_stop_and_leaves_nothing(
    workspace, at, watched, monkeypatch
) -> None:
    at("distill")
    with monkeypatch.context() as patch:
        # In the check of what is written already, before it may be used.
        patch.setattr(merge, "_check", lambda *args, **kwargs: wait(60))
        seen = watched("distill", "merging")
        code, job, _ = workspace.work(until="distill")
    assert (code, job.state) == (130, "cancelled"), seen
    seen.check("distill, merging")
    (student,) = (workspace.folder / "store.files" / "students").iterdir()
    assert not [path for path in student.iterdir() if path.name.startswith("merged")]
    workspace.finish(until="distill")
    assert (student / "merged" / "manifest.json").is_file()
