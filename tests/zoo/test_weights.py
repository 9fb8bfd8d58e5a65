"""The packaged weights are those that the specs describe."""

import json

import pytest

from engine.models.model_info import check
from engine.zoo import resolve
from tools.zoo.corpus import build_tokenizer
from tools.zoo.specs import SPECS


@pytest.mark.parametrize("name", list(SPECS))
def test_a_model_was_made_from_its_spec(name: str) -> None:
    spec, folder = SPECS[name], resolve.WEIGHTS / name
    made = json.loads((folder / "training.json").read_text(encoding="utf-8"))
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    assert (made["seed"], made["steps"]) == (spec.seed, spec.steps)
    assert config["model_type"] == spec.architecture
    assert config.get("hidden_size", config.get("n_embd")) == spec.width
    assert config.get("intermediate_size", config.get("n_inner")) == spec.inner


@pytest.mark.parametrize("name", ["student", "brief"])
def test_a_tokenizer_is_built_again_as_it_is(name: str) -> None:
    stored = json.loads((resolve.WEIGHTS / name / "tokenizer.json").read_text(encoding="utf-8"))
    assert build_tokenizer(SPECS[name].tokenizer).get_vocab() == stored["model"]["vocab"]


def test_the_demo_names_the_sizes_that_the_files_have() -> None:
    import yaml

    run = yaml.safe_load((resolve.WEIGHTS.parent / "demo.yaml").read_text(encoding="utf-8"))
    for model in (run["student"], *run["teachers"]):
        found = check(model["model"])
        assert (float(model["parameters"]), model["family"]) == (found.parameters, found.family)
