"""A student that lies in parts on two processes, beside one that lies whole in one."""

import gc
import os
from dataclasses import replace

import pytest
import torch
from distill.training_forks import in_processes
from safetensors.torch import load_file

from engine.base.errors import NotAvailable
from engine.distill import loop
from engine.distill.data import Rows, tokenise_rows
from engine.distill.layouts import Copies
from engine.distill.lora import Tuning, trainable
from engine.distill.optimizer import OptimizerConfig
from engine.distill.ranks import PeerLost, Ranks
from engine.distill.settings import Hooks, Settings, Task
from engine.distill.sharding import Shards

STEPS = 14
QUESTIONS = [1, 3, 4, 6, 9, 10]
"""A pass through the two layers asks four times whether to stop; a step has two passes or more, and asks at its end."""
CPU = torch.device("cpu")


class Trainings:
    """Trainings of all weights of one student, in as many processes as there are."""

    def __init__(self, make, folder, student, recomputed=False):
        self.make, self.student = make, student
        # The last step of an epoch has one row, and so one pass, which is the first process's.
        rows = Rows(make.rows(49), held_out=make.rows(13))
        self.settings = Settings(
            tuning=Tuning(method="full"),
            optimizer=OptimizerConfig(learning_rate=1e-3, max_norm=0.5, weight_decay=0.1),
            batch_rows=8,
            checkpoint_every=4,
            eval_every=5,
            pass_tokens=50,
            seed=3,
            gradient_checkpointing=recomputed,
        )
        self.data = tokenise_rows(make.tokenizer(), rows, folder / "rows", 2048, "drop", print)

    def go(self, ranks, folder, **hooks):
        """(result, what each step and measurement gave)."""
        seen = []
        hooks = {
            "on_progress": lambda report: seen.append((report["loss"], report["gradient_norm"])),
            "on_eval": lambda step, loss: seen.append((loss, step)),
            **hooks,
        }

        def lay_out(student):
            self.layout = Copies(trainable(student)) if ranks.count == 1 else Shards(student, ranks, CPU)
            return self.layout

        task = Task(self.data, folder, self.settings)
        result = loop.train_tokenised(self.student(), self.make.tokenizer(), task, Hooks(**hooks), lay_out)
        return replace(result, model=None), seen


def weights(result):
    (path,) = result.path.glob("*.safetensors")
    return load_file(path)


def assert_same(found, expected, rel):
    """Whether two trainings have the same losses and gradients; a measurement says its step in their place."""
    assert len(found) == len(expected)
    for mine, other in zip(found, expected, strict=True):
        assert mine == pytest.approx(other, rel=rel)


@pytest.fixture
def trainings(make, tmp_path):
    def build(dtype=torch.float32, tied=True, recomputed=False):
        return Trainings(make, tmp_path, lambda: make.student(tied=tied).to(dtype), recomputed)

    return build


@pytest.mark.parametrize(
    ("dtype", "tied", "recomputed", "rel", "apart"),
    [(torch.float32, True, False, 1e-5, 1e-6), (torch.bfloat16, False, True, 2e-3, 5e-4)],
)
def test_losses_gradients_and_weights_are_those_of_one_process(
    trainings, tmp_path, dtype, tied, recomputed, rel, apart
):
    training = trainings(dtype, tied, recomputed)
    alone, expected = training.go(Ranks(), tmp_path / "one")
    together = in_processes(2, lambda ranks: training.go(ranks, tmp_path / "two"))
    assert len(expected) == STEPS + 3
    for result, seen in together:
        assert result.eval_loss == pytest.approx(alone.eval_loss, rel=rel)
        assert_same(seen, expected, rel)
    found, whole = weights(together[0][0]), weights(alone)
    assert found.keys() == whole.keys()
    for name, value in found.items():
        assert value.dtype == dtype
        assert torch.allclose(value, whole[name], rtol=torch.finfo(dtype).eps, atol=apart), name
    one, two = (tmp_path / name / "model" / "config.json" for name in ("one", "two"))
    assert two.read_text() == one.read_text()


def test_a_training_goes_on_in_more_processes_and_in_fewer(trainings, tmp_path):
    training = trainings()
    alone, expected = training.go(Ranks(), tmp_path / "whole")

    def go(ranks, until):
        """Up to a step, as a stop at the first question after it would have it."""
        at = []

        def note(report):
            at.append(report["step"])
            seen.append((report["loss"], report["gradient_norm"]))

        seen = []
        hooks = {"on_progress": note, "on_eval": lambda step, loss: seen.append((loss, step))}
        result, _ = training.go(
            ranks, tmp_path / "cut", should_stop=lambda: bool(at) and at[-1] >= until, **hooks
        )
        return result, seen

    first, before = go(Ranks(), 3)
    (second, between), _ = in_processes(2, lambda ranks: go(ranks, 8))
    last, after = go(Ranks(), STEPS + 1)
    assert [(one.resumed_from, one.step) for one in (first, second, last)] == [(0, 3), (3, 8), (8, STEPS)]
    assert_same(before + between + after, expected, 1e-5)
    for name, value in weights(last).items():
        assert torch.allclose(value, weights(alone)[name], rtol=1e-4, atol=1e-6), name


def test_a_stop_that_one_process_hears_stops_all_in_the_same_layer(trainings, tmp_path):
    training = trainings()
    alone, _ = training.go(Ranks(), tmp_path / "one")

    def work(ranks):
        def go(folder, question, from_step=0):
            """(result, questions) of a stop when the second process asks this often after a step; never for 0."""
            asked, at = [], [0]

            def should_stop():
                asked.extend([1] * (at[0] >= from_step))
                return ranks.rank == 1 and len(asked) == question

            result, _ = training.go(
                ranks,
                tmp_path / folder,
                should_stop=should_stop,
                on_begin=lambda step, total, work: at.__setitem__(0, step),
                on_progress=lambda report: at.__setitem__(0, report["step"]),
            )
            return result, len(asked)

        # In the passes of the first steps, forth and back, and between these steps; each time from the beginning.
        begun = [go(f"begun {question}", question) for question in QUESTIONS]
        between = go("two", 1, from_step=5)
        # In the measurement that follows step 5.
        measured = [go("two", question) for question in range(1, 4)]
        stops = [(result.step, asked) for result, asked in [*begun, between, *measured]]
        return go("two", 0)[0], stops

    (result, stops), (_, heard) = in_processes(2, work)
    assert stops == heard
    begun, later = stops[: len(QUESTIONS)], stops[len(QUESTIONS) :]
    assert [asked for _, asked in begun] == QUESTIONS
    assert {step for step, _ in begun} == {0, 1}
    assert later == [(5, 1), (5, 1), (5, 2), (5, 3)]
    assert result.step == STEPS
    for name, value in weights(result).items():
        assert torch.allclose(value, weights(alone)[name], rtol=1e-4, atol=1e-6), name


def test_a_process_whose_other_one_is_gone_says_so(trainings, tmp_path):
    training = trainings()

    def work(ranks):
        # In the middle of a step: the other one is about to gather a layer's weights.
        return training.go(
            ranks, tmp_path / "two", on_work=lambda tokens, work: ranks.rank == 1 and os._exit(1)
        )

    lost, gone = in_processes(2, work)
    assert isinstance(lost, PeerLost)
    assert gone is None


def test_a_student_with_weights_of_several_formats_is_refused(make):
    student = make.student().to(torch.bfloat16)
    student.model.norm.float()
    with pytest.raises(NotAvailable, match="several number formats") as caught:
        Shards(student, Ranks(0, 2), CPU)
    assert "method: lora" in caught.value.remedy


def test_each_process_holds_its_part_of_everything_that_training_needs(make, tmp_path):
    training = Trainings(make, tmp_path, lambda: make.student(width=128))

    def held():
        """Bytes of all tensors; of what Python does not see these are the gradients."""
        tensors = [value for value in gc.get_objects() if isinstance(value, torch.Tensor)]
        tensors += [value.grad for value in tensors if value.is_leaf and value.grad is not None]
        tensors = [getattr(value, "_local_tensor", value) for value in tensors]
        storages = {value.untyped_storage().data_ptr(): value.untyped_storage().nbytes() for value in tensors}
        return sum(storages.values())

    def work(ranks):
        before, at, seen = held(), [0], []

        def after_pass(tokens, work):
            if at[0] == 2 and not seen:
                seen.append(held() - before)

        training.go(
            ranks,
            tmp_path / str(ranks.count),
            on_progress=lambda report: at.__setitem__(0, report["step"]),
            on_work=after_pass,
            should_stop=lambda: bool(seen),
        )
        return seen[0]

    (whole,) = in_processes(1, work)
    parts = in_processes(2, work)
    weights = 4 * sum(value.numel() for value in make.student(width=128).parameters())
    assert whole == pytest.approx(4 * weights, rel=0.1)  # with gradients and two moments
    assert parts == [pytest.approx(whole / 2, rel=0.1)] * 2
