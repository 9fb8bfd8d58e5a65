import json

import pytest
import torch

from engine.models.checkpoint import Checkpoint, paths, read_newest, verify, write_checkpoint


def checkpoint(step):
    tensors = {"a": torch.full((3, 2), float(step)), "b": torch.arange(step, dtype=torch.bfloat16)}
    return Checkpoint(step, "print", {"weights": tensors, "optimizer": {}}, {"loss": 0.1 + 0.2})


def test_what_was_written_is_read_back_and_only_the_newest_are_kept(tmp_path):
    for step in (5, 10, 100):
        write_checkpoint(tmp_path, checkpoint(step), keep=2)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["step-00000010", "step-00000100"]
    found = read_newest(tmp_path, pytest.fail)
    assert (found.step, found.fingerprint, found.state) == (100, "print", {"loss": 0.1 + 0.2})
    assert torch.equal(found.groups["weights"]["a"], torch.full((3, 2), 100.0))
    assert found.groups["weights"]["b"].dtype == torch.bfloat16


def truncate(folder):
    path = folder / "weights.safetensors"
    path.write_bytes(path.read_bytes()[:-7])


def flip(folder):
    path = folder / "weights.safetensors"
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)


def empty_manifest(folder):
    (folder / "manifest.json").write_text("")


def no_manifest(folder):
    (folder / "manifest.json").unlink()


def lost_file(folder):
    (folder / "weights.safetensors").unlink()


def other_manifest(folder):
    (folder / "manifest.json").write_text(json.dumps({"files": {}}))


@pytest.mark.parametrize("damage", [truncate, flip, empty_manifest, no_manifest, lost_file, other_manifest])
def test_a_damaged_newest_falls_back_one_and_says_so(tmp_path, damage):
    for step in (5, 10):
        write_checkpoint(tmp_path, checkpoint(step), keep=2)
    damage(tmp_path / "step-00000010")
    notices = []
    assert read_newest(tmp_path, notices.append).step == 5
    assert len(notices) == 1
    assert "step-00000010" in notices[0]
    # The damaged one is gone, so it cannot push a whole one out.
    write_checkpoint(tmp_path, checkpoint(7), keep=2)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["step-00000005", "step-00000007"]


def test_none_when_nothing_is_whole(tmp_path):
    assert read_newest(tmp_path / "missing", pytest.fail) is None
    assert paths(tmp_path / "missing") == []
    write_checkpoint(tmp_path, checkpoint(5), keep=1)
    truncate(tmp_path / "step-00000005")
    notices = []
    assert read_newest(tmp_path, notices.append) is None
    assert "damaged" in notices[0]


def test_verify_names_the_damaged_file(tmp_path):
    path = write_checkpoint(tmp_path, checkpoint(5), keep=1)
    assert verify(path)["step"] == 5
    flip(path)
    with pytest.raises(ValueError, match=r"weights\.safetensors is damaged"):
        verify(path)
