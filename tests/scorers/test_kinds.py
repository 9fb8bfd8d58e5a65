"""Kinds of scorers are file names; listing them loads nothing."""

import subprocess
import sys

import pytest

from engine.base.errors import ConfigError
from engine.base.plugins import SCORERS
from engine.scorers import scorer_kinds


def test_kinds_are_the_files() -> None:
    assert SCORERS.names()[:5] == ("exact_answer", "imported", "judge", "learnability", "reward_model")


def test_listing_imports_nothing_heavy_and_using_one_imports_one() -> None:
    code = (
        "import sys; from engine.base.plugins import SCORERS; from engine.scorers import scorer_kinds;"
        "SCORERS.names();"
        "assert not {'torch', 'transformers', 'math_verify', 'reasoning_gym'} & set(sys.modules);"
        "scorer_kinds.load('exact_answer');"
        "assert 'engine.scorers.kinds.learnability' not in sys.modules;"
        "assert not {'torch', 'transformers', 'math_verify', 'reasoning_gym'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_unknown_kinds() -> None:
    with pytest.raises(ConfigError, match="unknown scorer 'exact_anwser'") as caught:
        scorer_kinds.load("exact_anwser")
    assert "exact_answer" in caught.value.remedy


@pytest.mark.parametrize("kind", ["exact_answer", "judge", "learnability", "reward_model"])
def test_every_kind_offers_identity_and_create(kind: str) -> None:
    module = scorer_kinds.load(kind)
    assert callable(module.create)
    needed = {
        "learnability": {"student": {"model": "x"}},
        "reward_model": {"model": "zoo:reward"},
        "judge": {"model": "m", "base_url": "http://127.0.0.1:1/v1"},
    }
    identity = scorer_kinds.identity(kind, needed.get(kind, {}))
    assert identity["kind"] == kind
