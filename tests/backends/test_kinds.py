"""Kinds of backends are file names; listing them loads nothing, and neither do identities."""

import subprocess
import sys

import pytest

from engine import backends
from engine.errors import ConfigError
from storage.records import Model

MODEL = Model("m", "teacher", "transformers", "org/name")


def test_listing_and_identities_import_nothing_heavy() -> None:
    code = (
        "import sys; from engine import backends; from storage.records import Model;"
        "assert backends.kinds() == ['imported', 'openai', 'transformers', 'vllm'];"
        "assert 'engine.backends.transformers' not in sys.modules;"
        "backends.identity(Model('m', 'teacher', 'transformers', 'org/name'));"
        "backends.identity(Model('m', 'teacher', 'vllm', 'org/name'));"
        "assert not {'torch', 'transformers'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_unknown_kinds_name_the_nearest() -> None:
    with pytest.raises(ConfigError, match="unknown backend 'transfromers'") as caught:
        backends.load("transfromers")
    assert caught.value.remedy == "did you mean 'transformers'?"


def test_hub_ids_keep_their_identity_before_and_after_a_download() -> None:
    assert backends.identity(MODEL)["model"] == backends.identity(MODEL)["model"]
