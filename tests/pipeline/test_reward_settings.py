"""What rewards were made with: recorded, told apart, and never mixed in a comparison."""

from dataclasses import replace
from pathlib import Path

import pytest
from app import full_store

from engine.job import reward_config
from engine.pipeline.run_view import reader, run_of
from engine.report import summary
from engine.scoring import score_table
from storage import datasets, jobs
from storage.store import Store

BASE = reward_config.RewardProvenance(0.4, "zscore", "worst", ("a", "b"), "pupil", "exact_answer")


def test_what_tells_settings_apart_is_said_and_no_more() -> None:
    assert reward_config.distinct([BASE, replace(BASE, alpha=0.8)]) == ["α 0.4 zscore", "α 0.8 zscore"]
    assert reward_config.distinct([BASE, replace(BASE, teachers=("a", "b", "c"))]) == [
        "α 0.4 zscore, 2 teachers",
        "α 0.4 zscore, 3 teachers",
    ]
    assert reward_config.distinct([BASE, replace(BASE, teachers=("a", "c")), replace(BASE, student="")]) == [
        "α 0.4 zscore, student pupil, teachers a, b",
        "α 0.4 zscore, student pupil, teachers a, c",
        "α 0.4 zscore, student not recorded, teachers a, b",
    ]
    several = [
        BASE,
        replace(BASE, quality="judge"),
        replace(BASE, alpha=0.8),
        reward_config.RewardProvenance(),
    ]
    assert reward_config.distinct(several) == [
        "α 0.4 zscore, quality exact_answer",
        "α 0.4 zscore, quality judge",
        "α 0.8 zscore, quality exact_answer",
        "settings not recorded",
    ]


def test_a_manifest_of_before_may_say_less() -> None:
    older = reward_config.recorded(
        {"reward": {"alpha": 0.4, "normalization": "zscore"}, "teachers": ["b", "a"]}
    )
    assert older is not None
    assert older.includes(BASE)
    assert not BASE.includes(older)
    assert not older.includes(replace(BASE, alpha=0.8))
    assert reward_config.recorded({}) == reward_config.RewardProvenance()
    assert reward_config.recorded({"rewarded": 0, "reward": {"alpha": 0.4}}) is None, "no row has a reward"


def test_strategies_are_compared_by_rewards_of_the_runs_own_settings(tmp_path: Path) -> None:
    """A dataset that does not depend on rewards is that of an earlier run, and so are the rewards in it."""
    with Store.open(tmp_path / "persyn.db") as store:
        full_store.build(store, tmp_path)
        context = reader(store, run_of(next(job for job in jobs.recent(store) if job.name == "arithmetic")))
        dataset = next(one for one in datasets.newest_first(store) if one.name.endswith("/strong"))
        assert summary._mean_reward(context, dataset, -7.0) == -7.0, "made with the run's settings"
        earlier = {"strategy": "strong", "reward": {"alpha": 0.9, "normalization": "rank"}}
        known = score_table.rewards(context)
        rows = datasets.rows(store, dataset.id)
        own = [
            known[key] for row in rows if (key := (row.response.prompt_id, row.response.teacher_id)) in known
        ]
        assert len(own) == len(rows)
        found = summary._mean_reward(context, replace(dataset, manifest=earlier), -7.0)
        assert found == pytest.approx(sum(own) / len(own))
        one = rows[0].response.prompt_id
        assert score_table.rewards(context, one) == {key: r for key, r in known.items() if key[0] == one}
