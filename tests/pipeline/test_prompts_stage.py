"""How prompts are shared out over the splits."""

import json
from collections import Counter

import numpy as np
import pytest
from support import RUN, Workspace

from engine.base.errors import ConfigError
from engine.config.stages import SplitConfig
from engine.pipeline.stages.prompts import Thresholds
from engine.sources.question import core_question
from storage import prompts


def hashes(count: int, seed: int = 0) -> np.ndarray:
    return np.unique(np.random.default_rng(seed).integers(0, 2**63, size=count, dtype=np.uint64))


def shares(thresholds: Thresholds, values: np.ndarray) -> dict[str | None, int]:
    places = [thresholds.split_of(int(value)) for value in values]
    return {place: places.count(place) for place in set(places)}


def test_every_split_gets_exactly_what_was_asked():
    values = hashes(1000)
    split = SplitConfig(calibration=100, validation=50, evaluation=200)
    assert shares(Thresholds(values, split), values) == {
        "calibration": 100,
        "validation": 50,
        "evaluation": 200,
        "synthesis": 650,
    }


def test_a_limited_synthesis_leaves_the_rest_out():
    values = hashes(100)
    split = SplitConfig(calibration=10, validation=0, evaluation=0, synthesis=20)
    assert shares(Thresholds(values, split), values) == {"calibration": 10, "synthesis": 20, None: 70}


def test_more_prompts_move_few_of_the_others():
    split = SplitConfig(calibration=100, validation=50, evaluation=50)
    values = hashes(1000)
    more = np.unique(np.concatenate([values, hashes(50, seed=1)]))
    before, after = Thresholds(values, split), Thresholds(more, split)
    moved = sum(before.split_of(int(v)) != after.split_of(int(v)) for v in values)
    assert moved < 40


def test_too_few_prompts_name_the_split_and_the_remedy():
    with pytest.raises(
        ConfigError, match=r"split\.validation: 50 prompts are asked for and 20 are left of 120"
    ) as caught:
        Thresholds(hashes(120), SplitConfig(calibration=10, validation=50, evaluation=100))
    assert "lower the split" in caught.value.remedy


def test_a_question_in_two_dresses_is_one_prompt_and_stands_in_one_split(tmp_path):
    dresses = ("What is {} plus {}?", "what is {}  plus {} ?", "WHAT IS {} PLUS {}")
    file = tmp_path / "questions.jsonl"
    rows = [{"prompt": dress.format(n, n), "answer": str(2 * n)} for dress in dresses for n in range(60)]
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    start, end = RUN.index("  - {source"), RUN.index("split:")
    workspace = Workspace(tmp_path)
    workspace.write(RUN[:start] + f"  - {{source: jsonl, path: {file.name}, verifier: text}}\n" + RUN[end:])
    workspace.finish("prompts")
    with workspace.open() as store:
        found = list(prompts.iterate(store, 1))
    assert Counter(prompt.split for prompt in found) == {
        "calibration": 20,
        "validation": 8,
        "evaluation": 10,
        "synthesis": 22,
    }
    assert len({core_question(prompt) for prompt in found}) == len(found) == 60
