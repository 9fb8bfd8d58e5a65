import json
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from engine.distill.data import Rows
from engine.distill.loop import train
from engine.distill.lora import Tuning
from engine.distill.settings import Settings
from engine.models.loading import load_causal_lm

CHILD = Path(__file__).with_name("train_child.py")


@pytest.fixture
def killed(student_folder, make, tmp_path):
    """Run a training process that kills itself; return its folder."""

    def run(method, **when):
        spec = {"student": str(student_folder), "folder": str(tmp_path / "killed"), "method": method}
        path = tmp_path / "spec.json"
        path.write_text(json.dumps({**spec, "rows": make.rows(30), **when}))
        done = subprocess.run([sys.executable, str(CHILD), str(path)], capture_output=True, timeout=300)
        assert done.returncode == -signal.SIGKILL, done.stderr
        return tmp_path / "killed"

    return run


@pytest.fixture
def go(student_folder, make):
    """Train here, with what the child is told."""

    def run(folder, method):
        settings = Settings(
            tuning=Tuning(method=method, rank=4, dropout=0.1),
            batch_rows=4,
            checkpoint_every=5,
            seed=3,
        )
        student, tokenizer = load_causal_lm(str(student_folder), four_bit=method == "qlora")
        return train(student, tokenizer, Rows(make.rows(30)), folder, settings)

    return run


def weights(result):
    (path,) = result.path.glob("*.safetensors")
    return path.read_bytes()


@pytest.mark.parametrize("method", ["lora", "qlora", "full"])
def test_killed_between_checkpoints_and_resumed_ends_with_the_same_bits(killed, go, tmp_path, method):
    # 8 steps an epoch, 16 in all; checkpoints after 5, 10, 15; killed after 12, in the second epoch.
    whole = go(tmp_path / "whole", method)
    assert (whole.step, whole.resumed_from) == (16, 0)
    folder = killed(method, kill_after_step=12)
    assert not list(folder.glob("adapter*"))
    resumed = go(folder, method)
    assert (resumed.step, resumed.resumed_from, resumed.notices) == (16, 10, ())
    assert resumed.loss == whole.loss
    assert weights(resumed) == weights(whole)


def test_killed_while_writing_a_checkpoint_falls_back_and_says_so(killed, go, tmp_path):
    whole = go(tmp_path / "whole", "lora")
    folder = killed("lora", kill_before_rename_of="step-00000010")
    assert (folder / "checkpoints" / "step-00000010.partial").is_dir()
    resumed = go(folder, "lora")
    assert resumed.resumed_from == 5
    assert "step-00000010.partial" in resumed.notices[0]
    assert weights(resumed) == weights(whole)


def test_a_truncated_checkpoint_falls_back_one_and_says_so(go, tmp_path):
    whole = go(tmp_path, "lora")
    before = weights(whole)
    newest = tmp_path / "checkpoints" / "step-00000015" / "weights.safetensors"
    newest.write_bytes(newest.read_bytes()[:-9])
    again = go(tmp_path, "lora")
    assert again.resumed_from == 10
    assert "step-00000015" in again.notices[0]
    assert weights(again) == before
