"""Every stage with a model that takes its time: the numbers move, and a stop is heard.

A slow model of a few layers stands for a large one of many.
"""

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from threading import Event, Thread
from typing import Any

import pytest
import torch

from engine.job.stage_names import STAGES
from engine.models import loading
from engine.router import backbone
from engine.router import model as router_model
from storage import jobs

PASS_S = 1.0
"""What a forward pass takes longer than usual."""
MOVES_S, HEARD_S = 2.0, 5.0
SLACK_S = 1.0
"""What a busy machine adds to each bound."""
CHANGES = 2
"""How often the numbers are seen to move before the job is stopped."""


@dataclass
class Seen:
    """What an operator sees of a job."""

    at: list[float] = field(default_factory=list)
    """When a number changed."""
    asked: float = 0.0
    """When the job was asked to stop."""


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


@pytest.fixture
def watched(workspace) -> Iterator[Callable[[str], Seen]]:
    """Watches a stage, and cancels the job from another connection once its numbers have moved a few times."""
    ended, threads = Event(), []

    def start(stage: str) -> Seen:
        seen = Seen()
        thread = Thread(target=watch, args=(stage, seen))
        thread.start()
        threads.append(thread)
        return seen

    def watch(stage: str, seen: Seen) -> None:
        with workspace.open() as store:
            shown: Any = None
            while not ended.wait(0.05):
                job = jobs.recent(store, limit=1)[0]
                rows = job.progress.get("rows", {}) if job.progress.get("stage") == stage else {}
                now = (
                    [(name, row["done"], row["tokens"]) for name, row in rows.items()],
                    job.progress.get("values"),
                    job.progress.get("doing_s"),
                )
                if not rows or now == shown:
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


@pytest.mark.parametrize(
    "stage", ["calibrate", "score", "train_router", "route", "generate", "distill", "evaluate"]
)
def test_a_slow_model_moves_the_numbers_and_hears_a_stop(workspace, watched, monkeypatch, stage: str) -> None:
    workspace.write()
    if before := STAGES[: STAGES.index(stage)]:
        workspace.finish(until=before[-1])
    slow(monkeypatch)
    seen = watched(stage)
    code, job, _ = workspace.work(until=stage)
    ended = time.monotonic()
    assert (code, job.state) == (130, "cancelled"), seen
    gaps = [later - earlier for earlier, later in zip(seen.at, seen.at[1:], strict=False)]
    assert max(gaps) < MOVES_S + SLACK_S, gaps
    assert ended - seen.asked < HEARD_S + SLACK_S


@pytest.mark.parametrize("stage", ["score", "distill", "evaluate"])
def test_a_model_that_is_loaded_for_minutes_shows_it_and_hears_a_stop(
    workspace, watched, monkeypatch, stage: str
) -> None:
    workspace.write()
    workspace.finish(until=STAGES[STAGES.index(stage) - 1])

    def load(*args: Any, **kwargs: Any) -> Any:
        until = time.monotonic() + 60
        while time.monotonic() < until:  # in small steps, as weights are copied
            time.sleep(0.01)

    monkeypatch.setattr(loading, "load_weights", load)
    seen = watched(stage)
    code, job, _ = workspace.work(until=stage)
    ended = time.monotonic()
    assert (code, job.state) == (130, "cancelled"), seen
    assert ended - seen.asked < HEARD_S + SLACK_S
