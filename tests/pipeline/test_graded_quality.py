"""Whole runs whose quality is graded: by a reward model, and by several scorers together."""

import json
import shutil

from sqlalchemy import select
from support import RUN, Workspace

from storage import datasets, schema

GRADED = "quality: {scorer: reward_model, model: 'zoo:reward'}\n"


def test_a_reward_model_as_quality_makes_alpha_count(workspace):
    # Of two teachers the z-scores are 1 and -1 whatever the scores: only with three their size can count.
    more = "".join(f"  - {{name: {name}, model: 'zoo:{name}'}}\n" for name in ("scholar", "solver", "lister"))
    text = RUN.replace("prompts:", more + "prompts:") + "reward: {alpha: 0.1}\n"
    workspace.write(text + GRADED)
    report = workspace.run()
    assert report["strategies"][0]["accuracy_after"] is not None  # right answers are counted all the same
    with workspace.open() as store:
        (dataset,) = datasets.list(store)
        rows = datasets.rows(store, dataset.id, limit=1000)
    assert len({row.quality for row in rows}) > 10
    # The same answers with 0/1 quality: no pair turns round between these two, only with the other scorer.
    path = workspace.write(text, "binary.yaml")
    assert workspace.call("run", path, "--until", "score").returncode == 0
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
    path = workspace.write(RUN + both, "both.yaml")
    done = workspace.call("run", path, "--until", "build_dataset", "--json")
    assert done.returncode == 0, done.stderr
    with workspace.open() as store, store.read() as connection:
        scorers = dict(connection.execute(select(schema.ScorerRow.kind, schema.ScorerRow.id)).all())
        scored = connection.execute(select(schema.ScoreRow.scorer_id, schema.ScoreRow.value)).all()
    rewards = [value for scorer, value in scored if scorer == scorers["reward_model"]]
    answers = [value for scorer, value in scored if scorer == scorers["exact_answer"]]
    assert set(answers) == {0.0, 1.0}  # raw, as each scorer gave them
    assert len(rewards) >= before["scores"] // 2
    # What the first run had scored, it has scored still; new rows are the new scorer's and new answers'.
    assert workspace.counts()["scores"] - before["scores"] <= len(rewards) + 2 * (
        workspace.counts()["responses"] - before["responses"]
    )
