"""Kinds of backends are file names; listing them loads nothing, and neither do identities."""

import subprocess
import sys
from dataclasses import replace
from typing import Any

import pytest

from engine.base.errors import ConfigError
from engine.registry import models as registry
from engine.teachers import teacher_kinds
from storage.records import Model, Sampling

MODEL = Model("m", "teacher", "transformers", "org/name")


def test_listing_and_identities_import_nothing_heavy() -> None:
    code = (
        "import sys; from engine.base.plugins import TEACHERS; from engine.teachers import teacher_kinds;"
        "from storage.records import Model;"
        "assert TEACHERS.names()[:4] == ('imported', 'openai', 'transformers', 'vllm');"
        "assert 'engine.teachers.kinds.transformers' not in sys.modules;"
        "teacher_kinds.identity(Model('m', 'teacher', 'transformers', 'org/name'));"
        "teacher_kinds.identity(Model('m', 'teacher', 'vllm', 'org/name'));"
        "assert not {'torch', 'transformers'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_unknown_kinds_name_the_nearest() -> None:
    with pytest.raises(ConfigError, match="unknown backend 'transfromers'") as caught:
        teacher_kinds.load("transfromers")
    assert caught.value.remedy == "did you mean 'transformers'?"


def test_hub_ids_keep_their_identity_before_and_after_a_download() -> None:
    assert teacher_kinds.identity(MODEL)["model"] == teacher_kinds.identity(MODEL)["model"]


ENDPOINT = Model(
    "m",
    "teacher",
    "openai",
    "served",
    sampling=Sampling(seed=1),
    options={"base_url": "http://127.0.0.1:1/v1"},
)


def asked(**settings: Any) -> Model:
    """The endpoint's model with other settings of how it is asked."""
    return replace(ENDPOINT, options={**ENDPOINT.options, "endpoint": settings})


def test_a_generation_is_everything_that_shapes_its_answers_and_nothing_else() -> None:
    sampling = {"temperature": 0.1, "top_p": 0.5, "top_k": 3, "max_tokens": 7, "seed": 2, "stop": ("END",)}
    assert set(sampling) == set(Sampling.__dataclass_fields__)
    models = [
        ENDPOINT,
        replace(ENDPOINT, model="another"),
        replace(ENDPOINT, revision="v2"),
        replace(ENDPOINT, system="Be brief."),
        asked(mode="completion"),
        asked(mode="completion", template="Q: {prompt}"),
        asked(extra_body={"min_p": 0.1}),
        *(
            replace(ENDPOINT, sampling=replace(ENDPOINT.sampling, **{key: value}))
            for key, value in sampling.items()
        ),
    ]
    assert len(set(map(registry.generation_sha, models))) == len(models)
    elsewhere = {"base_url": ["http://127.0.0.1:2/v1", "http://127.0.0.1:3/v1"], "api_key_env": "KEY"}
    same = replace(ENDPOINT, name="n", price_output=1.0, family="f", parameters=1e9, options=elsewhere)
    assert registry.generation_sha(same) == registry.generation_sha(ENDPOINT)
