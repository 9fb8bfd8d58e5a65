"""What a model may be registered with follows from the schema and from what its kind declares."""

from pathlib import Path

import plugin_package

from engine.base.plugins import TEACHERS
from engine.registry import model_settings


def test_a_kind_has_the_general_settings_and_its_own() -> None:
    near, far = model_settings.of_kind("teacher", "transformers"), model_settings.of_kind("teacher", "openai")
    assert list(near)[:3] == ["name", "backend", "model"]
    assert {"revision", "device", "adapter", "thinking"} <= near.keys()
    assert {"base_url", "api_key_env", "endpoint.mode"}.isdisjoint(near)
    assert {"base_url", "api_key_env", "endpoint.mode"} <= far.keys()
    assert {"revision", "device", "dtype", "adapter", "server.args"}.isdisjoint(far)
    assert far["model"].hint == "the name it is served by"
    assert near["sampling.temperature"].nothing == "0.7"
    assert near["dtype"].nothing.startswith("auto, 16 bits on a GPU")
    assert near["dtype"].choices == ("auto", "float32", "bfloat16", "float16")
    assert model_settings.of_kind("teacher", "vllm")["dtype"].nothing.startswith("as the weights are stored")


def test_a_student_is_greedy_and_has_no_price_and_no_backend() -> None:
    found = model_settings.of_kind("student", "transformers")
    assert {"price.input", "backend", "adapter", "tokens_per_second"}.isdisjoint(found)
    assert found["sampling.temperature"].nothing == "0"


def test_a_role_has_the_settings_of_all_kinds_those_of_other_packages_too(tmp_path: Path) -> None:
    with plugin_package.installed(tmp_path, TEACHERS, "echo", plugin_package.ECHO):
        found = model_settings.of_role("teacher")
        assert {"base_url", "device", "server.args", "price.output", "loudness"} <= found.keys()
        assert "echo" in found["backend"].choices
        own = model_settings.of_kind("teacher", "echo")
        assert (own["loudness"].hint, own["loudness"].nothing) == ("how loud", "3")
        assert own["model"].hint == "any word"
        assert "loudness" not in model_settings.of_kind("teacher", "openai")
    assert "loudness" not in model_settings.of_role("teacher")
