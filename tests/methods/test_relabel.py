"""What other reward settings would change, counted in the same pairs as a router's training says it had."""

import numpy as np
import pytest

from engine.config.stages import RewardConfig
from engine.router import train
from engine.router.settings import FitSettings
from engine.scoring import what_if
from engine.scoring.score_table import ScoreTable


@pytest.mark.parametrize(
    ("targets", "ties", "pairs"), [("hard", "drop", 2), ("hard", "half", 4), ("soft", "drop", 4)]
)
def test_pairs_are_those_of_the_training(targets: str, ties: str, pairs: int) -> None:
    """Two equal answers make a pair where its target is one half; an answer that is missing makes none."""
    quality = np.array([[1.0, 1.0, 0.0], [1.0, 1.0, np.nan]])
    nats = np.array([[-1.0, -1.0, -2.0], [-1.0, -1.0, np.nan]])
    known = ~np.isnan(quality)
    seen = ScoreTable(
        prompt_ids=np.array([1, 2]),
        quality=quality,
        learnability=nats,
        usable=known,
        asked=known,
        correct=None,
    )
    config = RewardConfig(alpha=0.4)
    found = what_if.compare(seen, seen, config, config, targets, ties)  # type: ignore[arg-type]
    settings = FitSettings(temperature=1.0 if targets == "soft" else None, ties=ties)  # type: ignore[arg-type]
    assert found.pairs == train._pairs(seen.labels(config).training_rewards, settings).sum() == pairs
    assert found.pairs_changed == 0
