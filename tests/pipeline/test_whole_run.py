"""One run file, from prompts to a measured student, through the command line."""

import contextlib
import io
import json
from pathlib import Path

import numpy as np
from sqlalchemy import select

from engine.config import run_file
from engine.job import stage_names
from engine.pipeline import pipeline
from engine.pipeline.run_view import reader
from engine.scoring import score_table
from persyn_tui.commands import run as run_commands
from storage import datasets, jobs, prompts, results, routing, schema
from storage.store import Store


def test_persyn_generates_exactly_c_times_m_plus_the_rest(finished):
    workspace, report = finished
    c, rest, m = report["prompts"]["calibration"], report["prompts"]["synthesis"], report["teachers"]
    assert (c, m) == (28, 2)
    with workspace.open() as store, store.read() as connection:
        rows = connection.execute(select(schema.ResponseRow.prompt_id, schema.ResponseRow.teacher_id)).all()
    assert len(rows) == len(set(rows)) == c * m + rest
    assert report["strategies"][0]["generations"] == c * m + rest


def test_the_report_has_what_it_promises(finished):
    _, report = finished
    assert set(report["prompts"]) >= {"calibration", "synthesis", "evaluation"}
    assert {"hit_at_1", "hit_at_3", "regret", "chance_hit_at_1", "chance_hit_at_3", "random_regret"} <= set(
        report["router"]
    )
    (persyn,) = report["strategies"]
    assert persyn["name"] == "persyn"
    assert 0 <= persyn["ci_low"] <= persyn["accuracy_after"] <= persyn["ci_high"] <= 1
    assert persyn["accuracy_before"] is not None


def test_prompts_that_are_all_wrong_train_no_router(finished):
    workspace, _ = finished
    with workspace.open() as store:
        context = reader(store, run_file.load(workspace.folder / "run.yaml"))
        labels = score_table.gather(context, ("calibration",)).labels(context.run.reward)
        router = routing.router(store, context.identity.router_sha)
    assert labels.all_wrong.any()
    assert labels.excluded[labels.all_wrong].all()
    assert np.isfinite(labels.rewards[labels.all_wrong]).any()  # they would have pairs
    trained = ~np.isnan(labels.training_rewards).any(axis=1)
    assert router.manifest["notes"]["prompts"] == trained.sum()


def test_every_row_says_where_it_comes_from(finished):
    workspace, _ = finished
    with workspace.open() as store:
        (dataset,) = datasets.newest_first(store)
        rows = datasets.rows(store, dataset.id, limit=1000)
        (job,) = jobs.recent(store)
    manifest = dataset.manifest
    assert manifest["rewarded"] == sum(row.reward is not None for row in rows) > 0
    assert (manifest["job"], manifest["rows"]) == (job.id, len(rows))
    assert (manifest["quality"], manifest["built_at"] > 0) == ("exact_answer", True)
    assert {row.teacher for row in rows} <= {"brief", "speller"}
    assert all(row.response.status == "ok" and row.response.generation_sha for row in rows)
    assert all(row.quality in (0.0, 1.0) and row.learnability < 0 for row in rows)


def test_a_margin_is_that_of_the_router_s_own_choice(finished):
    workspace, _ = finished
    with workspace.open() as store:
        context = reader(store, run_file.load(workspace.folder / "run.yaml"))
        plan = routing.plan(store, context.identity.plan_sha("persyn"))
        columns = {who.teacher_id: place for place, who in enumerate(context.generations)}
        rows = routing.assignments(store, plan.id)
    better_known = 0
    for row in rows:
        chosen, others = row.strengths[columns[row.teacher_id]], sorted(row.strengths)
        if chosen < others[-1]:  # on a prompt that all teachers answered, the best answer counts
            better_known += 1
            assert row.margin is None
        else:
            assert np.isclose(row.margin, others[-1] - others[-2])
    assert 0 < better_known < len(rows) / 2


def test_running_again_finds_everything_there(copied, finished):
    workspace, report = copied, finished[1]
    before = workspace.counts()
    again = workspace.finish()
    assert workspace.counts() == before
    (first,), (second,) = report["strategies"], again["strategies"]
    places = {"adapter", "merged"}  # of the copy's store
    assert {k: first[k] for k in first.keys() - places} == {k: second[k] for k in second.keys() - places}


def test_another_alpha_asks_no_teacher_again(copied):
    workspace = copied
    before = workspace.counts()
    workspace.write((workspace.folder / "run.yaml").read_text() + "reward: {alpha: 1}\n", "other.yaml")
    workspace.finish("route", "other.yaml")
    after = workspace.counts()
    assert after["responses"] == before["responses"]
    assert after["scores"] == before["scores"]
    assert after["assignments"] > before["assignments"]


def test_until_stops_after_the_stage_and_a_wrong_stage_is_refused(workspace):
    path = workspace.write()
    assert workspace.call("run", path, "--until", "prompts").returncode == 0
    assert workspace.counts()["responses"] == 0
    refused = workspace.call("run", path, "--until", "generat")
    assert refused.returncode == 2
    assert "did you mean `generate`?" in refused.stderr


def test_a_detached_job_can_be_watched_and_is_not_started_twice(workspace):
    path = workspace.write()
    first = json.loads(workspace.call("run", path, "--detach", "--until", "calibrate", "--json").stdout)
    second = json.loads(workspace.call("run", path, "--detach", "--until", "calibrate", "--json").stdout)
    watched = workspace.call("watch", first["job"], "--json")
    assert watched.returncode == 0, watched.stderr
    assert json.loads(watched.stdout)["state"] == "done"
    # The second call either met the running job, or came after its end and started a new, empty-handed one.
    if second["job"] != first["job"]:
        assert workspace.call("watch", second["job"]).returncode == 0
    assert workspace.counts()["responses"] == 28 * 2
    with workspace.open() as store:
        assert all(job.state == "done" for job in jobs.recent(store))


def test_front_ends_know_the_stages_in_order():
    assert tuple(pipeline.STAGES) == stage_names.STAGES


def test_the_students_readme_loads_it_and_it_answers_as_it_was_measured(finished):
    workspace, report = finished
    (row,) = report["strategies"]
    card = (Path(row["adapter"]) / "README.md").read_text()
    assert "rank 4" in card
    assert f"rows: {row['rows']:,}" in card
    assert report["store"] == str(workspace.database)
    with workspace.open() as store:
        evaluation = next(found for found in results.evaluations(store) if found.adapter_id)
        (first, *_) = results.results(store, evaluation.id)
        asked = prompts.get(store, [first.prompt_id])[first.prompt_id].messages[-1]["content"]
    for folder in (row["adapter"], row["merged"]):
        # What its README says, word by word, gives the answer that the store has.
        program = (Path(folder) / "README.md").read_text().split("```python\n")[1].split("```")[0]
        program = program.replace('"…"', json.dumps(asked)).replace(
            "max_new_tokens=200", "max_new_tokens=40, do_sample=False"
        )
        out = io.StringIO()
        with contextlib.redirect_stdout(out):
            exec(program, {"FOLDER": folder})
        assert first.text in out.getvalue()


def test_a_finished_demo_is_kept_when_the_next_one_starts(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))
    first = Path(run_commands._demo_store("zoo"))
    with Store.open(first) as store:
        job, _ = jobs.submit(store, {}, "sha", "demo")
        jobs.end_unowned(store, job.id, "cancelled")
        store.folder.mkdir(exist_ok=True)
    assert run_commands._demo_store("zoo") == str(first)
    assert first.exists()  # an interrupted or cancelled one goes on
    with Store.open(first) as store:
        job, _ = jobs.submit(store, {}, "sha", "demo")
        lease = jobs.claim(store, job.id, "me")
        jobs.release(store, lease, "done")
    assert run_commands._demo_store("zoo") == str(first)
    assert not first.exists()
    (kept,) = first.parent.glob("zoo-*.db")
    assert kept.with_suffix(".files").is_dir()
    with Store.open(kept, create=False) as store:
        assert [job.state for job in jobs.recent(store)] == ["done", "cancelled"]
