import math
from types import SimpleNamespace

import pytest
import torch
from safetensors.torch import load_file

from engine.base.errors import ConfigError, TrainingError
from engine.distill.data import Rows
from engine.distill.loop import fingerprint, train
from engine.distill.lora import Tuning, make_trainable
from engine.distill.optimizer import OptimizerConfig, rate_at
from engine.distill.settings import Hooks, Settings
from engine.models.checkpoint import read_newest


def settings(**changes):
    base = {
        "batch_rows": 8,
        "optimizer": OptimizerConfig(learning_rate=1e-2),
        "checkpoint_every": 3,
    }
    return Settings(**{**base, **changes})


def test_a_student_learns_and_stops_after_its_answer(make, tokenizer, tmp_path):
    user = [{"role": "user", "content": "w1"}]
    rows = [(user, "w7 w8")] * 64
    reports = []
    result = train(
        make.student(),
        tokenizer,
        Rows(rows, held_out=rows[:4]),
        tmp_path,
        settings(tuning=Tuning(method="full"), epochs=6),
        Hooks(on_progress=reports.append),
    )
    assert (result.step, result.total, result.stopped) == (48, 48, False)
    assert reports[0]["loss"] == pytest.approx(math.log(64), abs=0.3)
    assert result.eval_loss < 0.05
    assert [report["step"] for report in reports] == list(range(1, 49))
    assert reports[-1]["epoch"] == 6
    prompt = tokenizer("<s> user w1 </s> <s> assistant", add_special_tokens=False, return_tensors="pt")
    made = result.model.generate(**prompt, max_new_tokens=20, do_sample=False)
    assert tokenizer.decode(made[0, 6:]).split() == ["w7", "w8", "</s>"]


def test_only_the_adapter_is_saved_and_the_base_is_untouched(make, tokenizer, tmp_path):
    student = make.student()
    before = {name: value.clone() for name, value in student.state_dict().items()}
    result = train(student, tokenizer, Rows(make.rows(16)), tmp_path, settings(epochs=1))
    saved = load_file(result.path / "adapter_model.safetensors")
    assert len(saved) == 2 * 7 * 2  # A and B of 7 linear layers in 2 blocks
    base = result.model.unload().state_dict()
    assert all(torch.equal(base[name], value) for name, value in before.items())


@pytest.mark.parametrize("method", ["lora", "full"])
def test_micro_batches_do_not_change_the_result(make, tokenizer, tmp_path, method):
    losses = []
    for pass_tokens in (20, 10_000):
        student = make.student().double()
        result = train(
            student,
            tokenizer,
            Rows(make.rows(24)),
            tmp_path / str(pass_tokens),
            settings(tuning=Tuning(method=method), pass_tokens=pass_tokens, checkpoint_every=0),
        )
        losses.append(result.loss)
    assert losses[0] == pytest.approx(losses[1], abs=2e-6)


def test_bfloat16_students_learn_through_float32_masters(make, tokenizer, tmp_path):
    rows = [([{"role": "user", "content": "w1"}], "w7 w8")] * 32
    student = make.student().to(torch.bfloat16)
    result = train(
        student, tokenizer, Rows(rows), tmp_path, settings(tuning=Tuning(method="full"), epochs=10)
    )
    assert result.loss < 0.3
    weights = read_newest(tmp_path / "checkpoints", pytest.fail).groups["weights"]
    assert {value.dtype for value in weights.values()} == {torch.float32}


def test_not_a_number_names_the_step_and_keeps_the_last_finite_checkpoint(make, tokenizer, tmp_path):
    student = make.student()

    def poison(report):
        if report["step"] == 4:
            with torch.no_grad():
                student.model.layers[0].mlp.up_proj.base_layer.weight.fill_(math.nan)

    with pytest.raises(TrainingError, match=r"loss of step 5 is not a finite number") as caught:
        train(student, tokenizer, Rows(make.rows(64)), tmp_path, settings(), Hooks(on_progress=poison))
    assert "step-00000003" in caught.value.message
    assert "learning_rate" in caught.value.remedy
    kept = read_newest(tmp_path / "checkpoints", pytest.fail)
    assert kept.step == 3
    assert all(torch.isfinite(value).all() for value in kept.groups["weights"].values())


def test_an_exploding_rate_is_an_error_before_a_checkpoint_of_it(make, tokenizer, tmp_path):
    config = OptimizerConfig(learning_rate=1e38, warmup=0.0)
    with pytest.raises(TrainingError, match="not a finite number"):
        train(
            make.student(),
            tokenizer,
            Rows(make.rows(64)),
            tmp_path,
            settings(optimizer=config, checkpoint_every=1),
        )


def test_stop_ends_at_a_checkpoint_and_the_next_call_goes_on(make, tokenizer, tmp_path):
    rows, whole = make.rows(40), settings()
    undisturbed = train(make.student(), tokenizer, Rows(rows), tmp_path / "whole", whole)
    steps = []
    hooks = Hooks(on_progress=lambda report: steps.append(report["step"]), should_stop=lambda: 4 in steps)
    first = train(make.student(), tokenizer, Rows(rows), tmp_path / "stopped", whole, hooks)
    assert (first.step, first.stopped) == (4, True)
    assert not first.path.exists()
    second = train(make.student(), tokenizer, Rows(rows), tmp_path / "stopped", whole)
    assert (second.step, second.resumed_from, second.stopped) == (10, 4, False)
    bytes_of = [(run.path / "adapter_model.safetensors").read_bytes() for run in (undisturbed, second)]
    assert bytes_of[0] == bytes_of[1]
    assert second.loss == undisturbed.loss


def test_a_stop_within_a_pass_takes_its_step_anew_and_changes_nothing(make, tokenizer, tmp_path):
    rows, whole = make.rows(40), settings(checkpoint_every=0, tuning=Tuning(dropout=0.1))
    undisturbed = train(make.student(), tokenizer, Rows(rows), tmp_path / "whole", whole)
    asked = []

    def stop():
        asked.append(True)
        return len(asked) > 15

    first = train(make.student(), tokenizer, Rows(rows), tmp_path / "stopped", whole, Hooks(should_stop=stop))
    assert first.stopped
    assert 0 < first.step < 10
    second = train(make.student(), tokenizer, Rows(rows), tmp_path / "stopped", whole)
    assert second.resumed_from == first.step
    bytes_of = [(run.path / "adapter_model.safetensors").read_bytes() for run in (undisturbed, second)]
    assert bytes_of[0] == bytes_of[1]


def test_a_held_out_loss_that_a_stop_ends_is_measured_when_the_training_goes_on(make, tokenizer, tmp_path):
    rows, whole, losses = make.rows(40), settings(eval_every=4), []
    steps, asked = [], []

    def stop():
        asked.append(len(steps))
        return asked.count(4) > 1  # not when the step is done, but in the pass that measures

    hooks = Hooks(on_progress=steps.append, on_eval=lambda step, _: losses.append(step), should_stop=stop)
    first = train(make.student(), tokenizer, Rows(rows, held_out=rows[:4]), tmp_path, whole, hooks)
    assert (first.step, first.stopped, losses) == (4, True, [])
    again = Hooks(on_eval=lambda step, _: losses.append(step))
    second = train(make.student(), tokenizer, Rows(rows, held_out=rows[:4]), tmp_path, whole, again)
    assert (second.resumed_from, losses) == (4, [4, 8, 10])


def test_a_checkpoint_that_is_asked_for_is_written_once_and_changes_nothing(make, tokenizer, tmp_path):
    rows, whole = make.rows(40), settings(checkpoint_every=0)
    undisturbed = train(make.student(), tokenizer, Rows(rows), tmp_path / "whole", whole)
    asked, seen = [], []

    def save():
        asked.append(True)
        return len(asked) == 4

    saved = train(
        make.student(),
        tokenizer,
        Rows(rows),
        tmp_path / "saved",
        whole,
        Hooks(
            should_save=save,
            on_checkpoints=lambda folders: seen.append([folder.name for folder in folders]),
        ),
    )
    assert seen == [[], ["step-00000004"]]
    bytes_of = [(run.path / "adapter_model.safetensors").read_bytes() for run in (undisturbed, saved)]
    assert bytes_of[0] == bytes_of[1]


def test_a_folder_of_other_rows_or_settings_is_refused(make, tokenizer, tmp_path):
    train(make.student(), tokenizer, Rows(make.rows(24)), tmp_path, settings())
    for rows, changed in ((make.rows(25), settings()), (make.rows(24), settings(seed=9))):
        with pytest.raises(ConfigError, match="other rows, settings"):
            train(make.student(), tokenizer, Rows(rows), tmp_path, changed)


def test_dropped_rows_are_told(make, tokenizer, tmp_path):
    notices = []
    result = train(
        make.student(),
        tokenizer,
        Rows(make.rows(24)),
        tmp_path,
        settings(max_length=16),
        Hooks(on_notice=notices.append),
    )
    assert result.counts.dropped > 0
    assert notices == list(result.notices)
    assert notices[0].startswith(f"{result.counts.dropped} of 24 rows")


@pytest.mark.parametrize("schedule", ["linear", "cosine", "constant"])
def test_rates_by_hand(schedule):
    config = OptimizerConfig(learning_rate=1.0, schedule=schedule, warmup=0.2)
    rates = [rate_at(step, 10, config) for step in range(10)]
    # Two warm-up steps at 1/3 and 2/3, then 8 steps from 1 towards 0.
    assert rates[:3] == pytest.approx([1 / 3, 2 / 3, 1.0])
    wanted = {"linear": 4 / 8, "cosine": 0.5, "constant": 1.0}[schedule]
    assert rates[6] == pytest.approx(wanted)
    assert rates[9] == pytest.approx(
        {"linear": 1 / 8, "cosine": 0.0380602, "constant": 1.0}[schedule], abs=1e-6
    )


def test_a_student_that_carries_an_adapter_is_refused(make):
    adapted = make_trainable(make.student(), Tuning(), 0)
    with pytest.raises(ConfigError, match="already carries"):
        make_trainable(adapted.get_base_model(), Tuning(), 0)


def test_a_checkpoint_of_the_first_version_is_still_found():
    """The value that version 1 wrote into its checkpoints for these settings."""
    chosen = Settings(
        tuning=Tuning(rank=4),
        batch_rows=4,
        optimizer=OptimizerConfig(learning_rate=1e-3, schedule="cosine"),
        epochs=3,
        seed=7,
    )
    data = SimpleNamespace(sha256="a" * 64)
    expected = "2182fb82b34aad5f2d51cc407feebb44836cfdda24008244f0dde38e6ca55b3c"
    assert fingerprint(data, chosen, {"w": torch.zeros(2, 3)}) == expected
