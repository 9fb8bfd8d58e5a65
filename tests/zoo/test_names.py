"""`zoo:NAME` references, without torch."""

import subprocess
import sys
from pathlib import Path

import pytest

from engine.base.errors import ModelError
from engine.zoo import resolve


def test_a_zoo_reference_is_a_folder_and_others_stay() -> None:
    assert (Path(resolve.resolve("zoo:student")) / "model.safetensors").is_file()
    for ref in ("/some/folder", "org/model", "C:/models/x"):
        assert resolve.resolve(ref) == ref


def test_every_packaged_model_has_a_card() -> None:
    packaged = [name for name in resolve.names() if name not in resolve.FETCHABLE]
    assert {"scholar", "brief", "speller", "solver", "lister", "adder", "student", "router", "reward"} == {
        *packaged
    }
    for name in packaged:
        assert resolve.card(name)["about"]
        assert resolve.card(name)["parameters"] > 0


def test_an_unknown_name_is_told_with_the_nearest_and_all() -> None:
    with pytest.raises(ModelError) as raised:
        resolve.resolve("zoo:studnet")
    assert "studnet" in raised.value.message
    assert "zoo:student" in raised.value.remedy
    assert "gemma3-270m" in raised.value.remedy


def test_a_model_that_was_not_fetched_says_how(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))
    with pytest.raises(ModelError) as raised:
        resolve.resolve("zoo:smollm2-135m")
    assert raised.value.remedy == "persyn zoo fetch smollm2"


def test_listing_imports_neither_torch_nor_transformers() -> None:
    code = (
        "import sys; from engine.zoo import resolve; resolve.resolve('zoo:student'); resolve.card('student'); "
        "print([m for m in ('torch', 'transformers', 'reasoning_gym') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_weights_stay_small() -> None:
    total = sum(file.stat().st_size for file in resolve.WEIGHTS.rglob("*.safetensors"))
    assert 1_000_000 < total <= 10_000_000
