"""A router of several processes reads as one does."""

from contextlib import closing
from pathlib import Path

import numpy as np
import pytest

from engine.router.backbone import load_backbone
from engine.router.manifest import Labelling, Teacher
from engine.router.model import Router
from engine.router.router_replicas import RouterReplicas

PROMPTS = [
    ({"role": "user", "content": f"add {number} " + "and more " * (number % 9)},) for number in range(40)
]


@pytest.fixture
def saved(llama: str, teachers: list[Teacher], tmp_path: Path) -> Path:
    """A router whose strengths depend on the prompt."""
    router = Router(load_backbone(llama, device="cpu"), teachers)
    router.head.weight.data.normal_()
    router.save(tmp_path / "router", Labelling())
    return tmp_path / "router"


def test_two_processes_give_the_strengths_of_one(saved: Path, teachers: list[Teacher]) -> None:
    expected = Router.load(saved, device="cpu").strengths(PROMPTS)
    found, seen = np.zeros_like(expected), list[int]()
    with closing(RouterReplicas(("cpu", "cpu"), saved, teachers)) as replicas:
        for places, strengths in replicas.strengths_by_pass([*PROMPTS[:39], PROMPTS[0]]):
            found[places] = strengths
            seen += places
    assert sorted(seen) == list(range(40))
    assert found[:39] == pytest.approx(expected[:39], abs=1e-4)
    assert (found[39] == found[0]).all()  # read once
