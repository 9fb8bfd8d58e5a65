"""A calibration that asks k of M teachers for each prompt: who is asked, what is generated, what is learned."""

import json
from collections import Counter

import numpy as np
import pytest
from sqlalchemy import select
from support import RUN

from engine.base.errors import ConfigError
from engine.config import run_file
from engine.methods import balanced_design
from storage import schema

TEACHERS = "".join(f"  - {{name: {name}, model: 'zoo:{name}'}}\n" for name in ("lister", "adder"))
PARTIAL = RUN.replace("prompts:", TEACHERS + "prompts:") + "calibration: {teachers_per_prompt: 2}\n"


@pytest.mark.parametrize(
    ("prompts", "teachers", "k"), [(100, 6, 3), (250, 19, 4), (20, 4, 2), (31, 7, 3), (50, 5, 4), (9, 3, 3)]
)
def test_teachers_and_pairs_are_asked_equally_often(prompts: int, teachers: int, k: int) -> None:
    rows = balanced_design.balanced(prompts, teachers, k, seed=1)
    assert all(len(set(row)) == k for row in rows.tolist())
    asked = np.bincount(rows.ravel(), minlength=teachers)
    assert asked.max() - asked.min() <= 1
    met = np.zeros((teachers, teachers), dtype=int)
    for row in rows:
        met[np.ix_(row, row)] += 1
    pairs = met[np.triu_indices(teachers, k=1)]
    assert pairs.max() - pairs.min() <= 3


def test_the_design_follows_the_seed_and_grows_at_its_end() -> None:
    rows = balanced_design.balanced(40, 6, 3, seed=1)
    assert (rows == balanced_design.balanced(60, 6, 3, seed=1)[:40]).all()
    assert (rows != balanced_design.balanced(40, 6, 3, seed=2)).any()
    with pytest.raises(ValueError, match="4 of 3 teachers"):
        balanced_design.balanced(1, 3, 4, seed=0)


def test_only_the_designed_answers_are_generated_and_train_the_router(workspace):
    workspace.write(PARTIAL)
    planned = workspace.call("run", workspace.folder / "run.yaml", "--dry-run", "--json")
    report = workspace.finish("build_dataset")
    counts = report["prompts"]
    calibration, held_out, m = counts["calibration"] - counts["held_out"], counts["held_out"], 4
    with workspace.open() as store, store.read() as connection:
        member, answer = schema.MemberRow, schema.ResponseRow
        asked = connection.execute(
            select(member.split, answer.prompt_id, answer.teacher_id).join(
                answer, answer.prompt_id == member.prompt_id
            )
        ).all()
        router = connection.execute(select(schema.RouterRow.manifest)).scalar_one()
    by_prompt = Counter(prompt for split, prompt, _ in asked if split == "calibration")
    assert set(by_prompt.values()) == {2}
    assert len(by_prompt) == calibration
    by_teacher = Counter(teacher for split, _, teacher in asked if split == "calibration")
    assert max(by_teacher.values()) - min(by_teacher.values()) <= 1
    assert sum(split == "validation" for split, _, _ in asked) == held_out * m
    assert len(asked) == calibration * 2 + held_out * m + counts["synthesis"]
    assert json.loads(planned.stdout)["routed"]["generations"] == len(asked)
    assert report["strategies"][0]["generations"] == len(asked)
    assert 0 < router["notes"]["pairs"] <= calibration  # one pair a prompt, where both answers are labelled
    before = workspace.counts()
    workspace.finish("build_dataset")
    assert workspace.counts() == before


def test_what_other_strategies_ask_later_changes_no_label(workspace):
    workspace.write(PARTIAL.replace("small", "both") + "strategies: [persyn, random]\n")
    workspace.finish("build_dataset")
    before = workspace.counts()
    workspace.write(PARTIAL)
    workspace.finish("build_dataset")
    after = workspace.counts()
    assert after["responses"] == before["responses"]
    assert after["assignments"] == before["assignments"]  # the same labels, the same router, the same plan


def test_wrong_settings_are_refused() -> None:
    with pytest.raises(ConfigError, match="teachers_per_prompt is 5 and there are 4 teachers"):
        run_file.parse(PARTIAL.replace("prompt: 2", "prompt: 5"))
    with pytest.raises(ConfigError, match=r"calibration\.prompts is 7 and split\.calibration 20"):
        run_file.parse(PARTIAL.replace("prompt: 2", "prompt: 2, prompts: 7"))
    run = run_file.parse(
        PARTIAL.replace("calibration: 20, ", "").replace("prompt: 2", "prompt: 2, prompts: 30")
    )
    assert run.split.calibration == 30
    assert run_file.Run.model_validate(run.model_dump()) == run
