"""`distill: {method: qlora}` through a whole run, merged and not, and where it cannot be had."""

import dataclasses
import shutil

import pytest
from support import RUN, Workspace

from engine.config import run_file
from engine.job.identity import RunIdentity
from engine.models.adapters import check
from engine.pipeline import preflight
from engine.registry import models
from storage import results

QLORA = RUN.replace("distill: {", "distill: {method: qlora, ")


def newest(workspace):
    """(the newest adapter, its answers to the evaluation prompts)."""
    with workspace.open() as store:
        adapter = results.adapters(store)[-1]
        (evaluation,) = (row for row in results.evaluations(store) if row.adapter_id == adapter.id)
        return adapter, [dataclasses.replace(row) for row in results.results(store, evaluation.id)]


@pytest.mark.parametrize("method", ["qlora", "lora"])
def test_a_trained_student_answers_alike_whether_it_is_merged_or_not(copied, tmp_path, method):
    learned = RUN.replace(
        "distill: {epochs: 2", f"distill: {{method: {method}, learning_rate: 0.01, epochs: 1"
    )
    plain = Workspace(tmp_path / "plain")
    shutil.copytree(copied.folder, plain.folder, ignore=shutil.ignore_patterns("plain"))
    copied.write(learned)
    copied.finish()
    plain.write(learned.replace("distill: {", "distill: {merge: false, "))
    plain.finish()
    (merged, answers), (apart, same) = newest(copied), newest(plain)
    assert merged.metrics["merged"]
    assert not apart.metrics["merged"]
    assert merged.metrics["loss"] == apart.metrics["loss"]
    assert answers == same
    with copied.open() as store:
        folder = store.folder / merged.path
        before = [row.text for row in results.results(store, results.evaluations(store)[0].id)]
    assert check(str(folder)).quantization == ("nf4" if method == "qlora" else "")
    assert [row.text for row in answers] != before


def test_method_and_quantisation_are_part_of_the_adapters_identity(tmp_path, monkeypatch):
    def sha(text):
        (tmp_path / "run.yaml").write_text(text)
        run = run_file.load(tmp_path / "run.yaml")
        teachers = [models.teacher(teacher, run.generation) for teacher in run.teachers]
        return RunIdentity(run, teachers, models.student(run)).adapter_sha("persyn")

    lora, qlora = sha(RUN), sha(QLORA)
    assert lora != qlora
    monkeypatch.setattr("engine.models.nf4.NF4", {"bnb_4bit_quant_type": "fp4"})
    assert sha(QLORA) != qlora
    assert sha(RUN) == lora


def test_without_bitsandbytes_nothing_is_begun(tmp_path, monkeypatch):
    (tmp_path / "run.yaml").write_text(QLORA)
    run = run_file.load(tmp_path / "run.yaml")
    assert preflight.problems(run) == []
    monkeypatch.setattr("engine.models.nf4.find_spec", lambda name: None)
    (problem,) = preflight.problems(run)
    assert problem.message.startswith("distill: 4-bit weights (`qlora`) need bitsandbytes")
    assert "persyn[qlora]" in problem.remedy
    (tmp_path / "run.yaml").write_text(RUN)
    assert preflight.problems(run_file.load(tmp_path / "run.yaml")) == []
