"""A slow backbone: what is read and trained is shown, stopped and kept pass by pass.

What a kill -9 leaves is what lies on disk at that moment: the folder is copied while a pass is made.
"""

import dataclasses
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from engine.base.errors import Cancelled
from engine.models import checkpoint
from engine.router import kept_states
from engine.router import model as router_model
from engine.router import tune as tune_module
from engine.router.backbone import load_backbone
from engine.router.history import History, Hooks
from engine.router.kept_states import KeptStates
from engine.router.manifest import Teacher
from engine.router.model import Router
from engine.router.settings import FitSettings
from engine.router.train import fit

Make = Callable[..., Any]
Train = Callable[..., tuple[Router, History]]
FROZEN = FitSettings(head_epochs=5, folds=2, device="cpu")
LORA = dataclasses.replace(FROZEN, tune="lora", epochs=2, learning_rate=3e-3, batch_prompts=4, lora_rank=2)


@contextmanager
def each_pass(monkeypatch: pytest.MonkeyPatch, work: Callable[[int, int], None]) -> Iterator[None]:
    """Within it, `work(number of the pass, its prompts)` is called before every reading pass of any router."""
    made, real = 0, router_model.pool

    def pool(backbone: Any, batch: Any) -> torch.Tensor:
        nonlocal made
        if not torch.is_grad_enabled():
            made += 1
            work(made, len(batch))
        return real(backbone, batch)

    with monkeypatch.context() as patch:
        patch.setattr(router_model, "pool", pool)
        patch.setattr(router_model, "CPU_TOKENS", 100)
        yield


def assert_same_head(one: Router, other: Router) -> None:
    """Bit for bit."""
    for name, tensor in other.head_state().items():
        assert torch.equal(tensor, one.head_state()[name]), name


@pytest.fixture
def train(llama: str, teachers: list[Teacher]) -> Train:
    """Fits a router to data, by settings and perhaps hooks."""

    def fitted(data: Any, settings: FitSettings, hooks: Hooks | None = None) -> tuple[Router, History]:
        return fit(llama, teachers, data.prompts, data.rewards, settings, hooks)

    return fitted


@pytest.fixture
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """All that may be written is written, as with passes of many seconds."""
    monkeypatch.setattr(kept_states, "EVERY_S", 0.0)
    monkeypatch.setattr(checkpoint, "EVERY_S", 0.0)
    monkeypatch.setattr(checkpoint, "SHARE", 1e9)


def test_every_pass_counts_and_a_stop_ends_within_a_layer(
    llama: str, teachers: list[Teacher], make_data: Make
) -> None:
    router = Router(load_backbone(llama, device="cpu"), teachers)
    layers: list[float] = []
    stopped = [0.0]

    def slow(*_: object) -> None:
        time.sleep(0.05)
        layers.append(time.monotonic())

    for layer in router.backbone.layers:  # type: ignore[union-attr]
        layer.register_forward_hook(slow)
    seen: list[tuple[int, int]] = []

    def should_stop() -> bool:
        if len(layers) >= 7:  # in the middle of the fourth pass
            stopped[0] = stopped[0] or time.monotonic()
        return stopped[0] > 0

    with pytest.raises(Cancelled):
        router.strengths(
            make_data(30).prompts, should_stop, 60, on_read=lambda done, total: seen.append((done, total))
        )
    assert time.monotonic() - stopped[0] < 0.05
    assert len(layers) == 7
    counts = [done for done, _ in seen]
    assert len(counts) == 4
    assert counts[0] == 0
    assert counts == sorted(set(counts))
    assert counts[-1] < seen[-1][1] == 30


def test_a_reading_that_was_killed_goes_on_with_the_pass_that_was_lost(
    train: Train,
    make_data: Make,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    at_once: None,
) -> None:
    data, sizes = make_data(30), list[int]()
    data.prompts[5] = data.prompts[20]

    def work(number: int, size: int) -> None:
        sizes.append(size)
        if number == 5:
            shutil.copytree(tmp_path / "whole", tmp_path / "killed")

    with each_pass(monkeypatch, work):
        settings = dataclasses.replace(FROZEN, keep_in=tmp_path / "whole")
        undisturbed, _ = train(data, settings)
    assert sum(sizes) == 29  # equal prompts are read once
    again, shown = list[int](), list[tuple[int, int]]()
    with each_pass(monkeypatch, lambda _, size: again.append(size)):
        resumed, _ = train(
            data,
            dataclasses.replace(FROZEN, keep_in=tmp_path / "killed"),
            Hooks(reading=lambda *now: shown.append(now)),
        )
    assert again == sizes[4:]
    assert shown[0][0] >= sum(sizes[:4])
    assert shown[-1] == (30, 30)
    assert_same_head(resumed, undisturbed)


@pytest.mark.parametrize("pass_of_kill", [7, 9])
def test_a_tuning_that_was_killed_ends_with_the_bits_of_an_undisturbed_one(
    pass_of_kill: int,
    train: Train,
    make_data: Make,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    at_once: None,
) -> None:
    """The passes of the kill are in the evaluation after the first epoch's first half."""
    data, unseen = make_data(24), make_data(9, seed=9).prompts
    passes = list[int]()

    def work(number: int, size: int) -> None:
        passes.append(size)
        if number == pass_of_kill:
            shutil.copytree(tmp_path / "whole", tmp_path / "killed")

    with each_pass(monkeypatch, work):
        whole = dataclasses.replace(LORA, keep_in=tmp_path / "whole")
        undisturbed, history = train(data, whole)
    begun, again, moved = list[int](), list[int](), list[int]()
    with each_pass(monkeypatch, lambda _, size: again.append(size)):
        resumed, history_again = train(
            data,
            dataclasses.replace(LORA, keep_in=tmp_path / "killed"),
            Hooks(
                begin=lambda step, total, work: begun.append(step),
                progress=lambda step, total, values: moved.append(step),
            ),
        )
    assert begun[0] > 0
    assert set(moved) == set(range(min(moved), moved[-1] + 1))  # every step is shown
    assert len(again) == len(passes) - pass_of_kill + 1
    assert history_again.evaluations == history.evaluations
    assert history_again.best == history.best
    np.testing.assert_array_equal(resumed.strengths(unseen), undisturbed.strengths(unseen))


def test_heads_that_were_killed_end_with_the_bits_of_undisturbed_ones(
    train: Train, make_data: Make, tmp_path: Path, at_once: None
) -> None:
    data, moved = make_data(30), list[int]()
    settings = dataclasses.replace(FROZEN, head_epochs=8, patience=3, keep_in=tmp_path / "whole")

    def kill(step: int, total: int, values: object) -> None:
        moved.append(step)
        if len(moved) == 20:  # in the second fold
            shutil.copytree(tmp_path / "whole", tmp_path / "killed")

    undisturbed, history = train(data, settings, Hooks(progress=kill))
    begun, again = list[int](), list[int]()
    resumed, history_again = train(
        data,
        dataclasses.replace(settings, keep_in=tmp_path / "killed"),
        Hooks(
            begin=lambda step, total, work: begun.append(step),
            progress=lambda step, total, values: again.append(step),
        ),
    )
    assert begun == [moved[18]]
    assert again == moved[19:]
    assert history_again.evaluations == history.evaluations
    assert_same_head(resumed, undisturbed)


def test_a_stop_in_a_step_of_tuning_loses_that_step_alone(
    train: Train, make_data: Make, tmp_path: Path
) -> None:
    data = make_data(24)
    settings = dataclasses.replace(LORA, keep_in=tmp_path)
    stop, moved = [False], list[int]()

    def progress(step: int, total: int, values: object) -> None:
        moved.append(step)
        stop[0] = step == 4

    hooks = Hooks(progress=progress, should_stop=lambda: stop[0])
    with pytest.raises(Cancelled):
        train(data, settings, hooks)
    assert moved[-1] == 4
    begun: list[int] = []
    resumed, _ = train(
        data,
        settings,
        Hooks(begin=lambda step, total, work: begun.append(step)),
    )
    assert begun[-1] == 4
    undisturbed, _ = train(
        data,
        dataclasses.replace(settings, keep_in=tmp_path / "other"),
    )
    np.testing.assert_array_equal(resumed.strengths(data.prompts), undisturbed.strengths(data.prompts))


def test_how_a_step_is_cut_into_passes_changes_the_router_by_rounding_alone(
    train: Train, make_data: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    data, passes = make_data(24), list[int]()

    def tuned() -> Router:
        passes.clear()
        hooks = Hooks(work=lambda tokens, work: passes.append(tokens) if tokens else None)
        return train(data, LORA, hooks)[0]

    whole, steps = tuned().strengths(data.prompts), len(passes)
    monkeypatch.setattr(tune_module, "TUNE_CPU_TOKENS", 1)  # a prompt a pass
    cut = tuned().strengths(data.prompts)
    assert len(passes) > 2 * steps
    np.testing.assert_allclose(cut, whole, atol=1e-4)
    assert np.std(whole) > 0.01


def test_an_adapter_of_a_backbone_in_16_bits_is_trained_in_32(train: Train, make_data: Make) -> None:
    data = make_data(24)
    router, history = train(data, dataclasses.replace(LORA, dtype="bfloat16"))
    assert {weights.dtype for weights in router.trained().values()} == {torch.float32}
    assert router.backbone.dtype == torch.bfloat16
    assert history.best[0].held_out_loss < history.evaluations[0].held_out_loss


def test_a_checkpoint_of_another_training_is_not_gone_on_with(
    train: Train, make_data: Make, tmp_path: Path, at_once: None
) -> None:
    data = make_data(24)
    settings = dataclasses.replace(LORA, keep_in=tmp_path)
    train(data, settings)
    begun: list[int] = []
    other = dataclasses.replace(settings, learning_rate=1e-3)
    hooks = Hooks(begin=lambda step, total, work: begun.append(step))
    train(data, other, hooks)
    assert begun[-1] == 0


class TestKeptStates:
    def test_they_are_found_again_by_the_same_reader_alone(self, tmp_path: Path) -> None:
        states = torch.randn(3, 5)
        kept = KeptStates(tmp_path / "new", "a" * 64, 5)
        kept.add([(1, 2), (3,), (2, 1)], states)
        kept.flush()
        again = KeptStates(tmp_path / "new", "a" * 64, 5)
        assert torch.equal(torch.stack([again[ids] for ids in ([1, 2], [3], [2, 1])]), states)
        assert (1,) not in again
        (file,) = (tmp_path / "new").iterdir()
        file.rename(file.with_name(file.name.replace("a", "b")))
        assert (3,) not in KeptStates(tmp_path / "new", "b" * 64, 5)

    def test_torn_and_damaged_records_count_for_nothing_and_more_follows_them(self, tmp_path: Path) -> None:
        states = torch.randn(4, 5)
        kept = KeptStates(tmp_path, "a" * 64, 5)
        kept.add([(1,), (2,), (3,)], states[:3])
        kept.flush()
        (file,) = tmp_path.iterdir()
        content = bytearray(file.read_bytes())
        content[40] ^= 1
        file.write_bytes(content[:-7])
        kept = KeptStates(tmp_path, "a" * 64, 5)
        assert [(place,) in kept for place in (1, 2, 3)] == [False, True, False]
        kept.add([(1,), (4,)], states[[0, 3]])
        kept.flush()
        kept = KeptStates(tmp_path, "a" * 64, 5)
        assert [(place,) in kept for place in (1, 2, 3, 4)] == [True, True, False, True]
        assert torch.equal(kept[(4,)], states[3])

    def test_they_are_on_disk_every_two_seconds(self, tmp_path: Path) -> None:
        now = [0.0]
        kept = KeptStates(tmp_path, "a" * 64, 2, clock=lambda: now[0])

        def on_disk(place: int) -> bool:
            return (place,) in KeptStates(tmp_path, "a" * 64, 2)

        kept.add([(1,)], torch.ones(1, 2))
        assert not on_disk(1)
        now[0] = 2.0
        kept.add([(2,)], torch.ones(1, 2))
        assert on_disk(1)
        assert on_disk(2)
