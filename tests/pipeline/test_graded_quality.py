"""Whole runs whose quality is graded: by a reward model, and by several scorers together."""

import json
import shutil

import numpy as np
import pytest
from sqlalchemy import select
from support import RUN, Workspace

from storage import datasets, schema

GRADED = "quality: {scorer: reward_model, model: 'zoo:reward'}\n"


def test_a_reward_model_as_quality_makes_alpha_count(workspace):
    # Of two teachers the z-scores are 1 and -1 whatever the scores: only with three their size can count.
    more = "".join(f"  - {{name: {name}, model: 'zoo:{name}'}}\n" for name in ("scholar", "solver", "lister"))
    text = RUN.replace("prompts:", more + "prompts:") + "reward: {alpha: 0.1}\n"
    workspace.write(text + GRADED)
    report = workspace.finish()
    assert report["strategies"][0]["accuracy_after"] is not None  # right answers are counted all the same
    with workspace.open() as store:
        (dataset,) = datasets.newest_first(store)
        rows = datasets.rows(store, dataset.id, limit=1000)
    assert len({row.quality for row in rows}) > 10
    # The same answers with 0/1 quality: no pair turns round between these two, only with the other scorer.
    workspace.write(text, "binary.yaml")
    workspace.finish("score", "binary.yaml")
    assert changed(workspace, "binary.yaml") == 0
    assert changed(workspace, "run.yaml") > 0


def changed(workspace, name: str) -> int:
    """Training pairs that turn round when α goes from 0.1 to the paper's 0.4."""
    done = workspace.call("relabel", workspace.folder / name, "--alpha", "0.4", "--json")
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)["pairs_changed"]


def test_adding_a_scorer_asks_and_scores_nothing_again(finished, tmp_path):
    workspace = Workspace(tmp_path / "copy")
    shutil.copytree(finished[0].folder, workspace.folder)
    before = workspace.counts()
    both = (
        "quality: {scorers: [{scorer: exact_answer, weight: 0.7}, "
        "{scorer: reward_model, model: 'zoo:reward', weight: 0.3}]}\n"
    )
    workspace.write(RUN + both, "both.yaml")
    workspace.finish("build_dataset", "both.yaml")
    with workspace.open() as store, store.read() as connection:
        kinds = dict(connection.execute(select(schema.ScorerRow.id, schema.ScorerRow.kind)).all())
        score = schema.ScoreRow
        raw = {
            (response, kinds[scorer]): value
            for response, scorer, value in connection.execute(
                select(score.response_id, score.scorer_id, score.value)
            )
        }
        calibration = connection.execute(
            select(schema.ResponseRow.id)
            .join(schema.MemberRow, schema.MemberRow.prompt_id == schema.ResponseRow.prompt_id)
            .where(schema.MemberRow.split == "calibration", schema.ResponseRow.status == "ok")
        ).scalars()
        ids = list(calibration)
    weighed = {"exact_answer": 0.7, "reward_model": 0.3}
    values = {kind: np.array([raw[one, kind] for one in ids]) for kind in weighed}
    assert {value for (_, kind), value in raw.items() if kind == "exact_answer"} == {0.0, 1.0}
    new = sum(kind == "reward_model" for _, kind in raw)
    after = workspace.counts()
    # Every new score is the new scorer's, or of an answer that the first run had not asked for.
    assert after["scores"] - before["scores"] == new + 2 * (after["responses"] - before["responses"])
    with workspace.open() as store:
        newest, _ = datasets.newest_first(store)
        rows = datasets.rows(store, newest.id, limit=1000)
    for row in rows:
        expected = sum(
            weight * (raw[row.response.id, kind] - values[kind].mean()) / values[kind].std()
            for kind, weight in weighed.items()
        )
        assert row.quality == pytest.approx(expected)


def test_adding_a_teacher_asks_and_scores_only_the_new_one(finished, tmp_path):
    workspace = Workspace(tmp_path / "copy")
    shutil.copytree(finished[0].folder, workspace.folder)
    before = workspace.counts()
    workspace.write(RUN.replace("prompts:", "  - {name: lister, model: 'zoo:lister'}\nprompts:"))
    workspace.finish("score")
    after = workspace.counts()
    assert after["responses"] - before["responses"] == 28  # calibration and validation prompts
    assert 0 < after["scores"] - before["scores"] <= 2 * 28
