"""Published parallel responses train a router and a student without a single generation by a teacher."""

import hashlib
import json

from sqlalchemy import select

from storage import datasets, registry, schema
from tools.zoo import styles, tasks

RUN = """
name: imported
student: {name: pupil, model: "zoo:student", family: llama}
teachers:
  - {name: bare, backend: imported, model: Org/Bare-7B}
  - {name: wordy, backend: imported, model: Org/Wordy-70B}
  - {name: unsure, backend: imported, model: Org/Unsure-1B}
prompts:
  - {source: imported, path: PATH, fields: {prompt: instruction, reward: score}, verifier: text}
split: {calibration: 24, validation: 8, evaluation: 8}
quality: {scorer: imported}
router: {backbone: "zoo:router", tune: frozen, head_epochs: 20}
generation: {max_tokens: 40, temperature: 0, fallbacks: 1}
distill: {epochs: 1, batch_size: 8, checkpoint_steps: 1, rank: 4}
evaluation: {bootstrap: 200}
"""
MODELS = {"Org/Bare-7B": "bare", "Org/Wordy-70B": "verbose", "Org/Unsure-1B": "unsure"}


def rows() -> list[dict]:
    """Every model's answer to every prompt, but one, with a reward; the prompts' order is not the models'."""
    found = [
        {
            "instruction": example.question,
            "model": model,
            "response": styles.write(style, example),
            "score": {"bare": 1.5, "verbose": 1.0 + len(example.answer) / 10, "unsure": -2.0}[style],
            "answer": example.answer,
        }
        for model, style in MODELS.items()
        for example in tasks.training("spell_backward", 60)
    ]
    found[3]["response"] = None
    return found


def test_a_run_from_imported_responses_alone(workspace):
    file = workspace.folder / "parallel.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in rows()))
    workspace.write(RUN.replace("PATH", file.name))
    # No teacher's model is anywhere on this machine: had one been loaded, the run would have failed.
    report = workspace.finish()
    assert report["prompts"]["calibration"] == 32
    assert report["router"]["hit_at_1"] is not None
    with workspace.open() as store:
        teachers = {model.name: model for model in registry.models(store, "teacher")}
        (dataset,) = datasets.newest_first(store)
        stored = datasets.rows(store, dataset.id, limit=1000)
        with store.read() as connection:
            answers = connection.execute(select(schema.ResponseRow.status, schema.ResponseRow.cost)).all()
            scored = connection.execute(
                select(schema.ScorerRow.identity).where(schema.ScorerRow.kind == "imported")
            ).scalar_one()
    assert {teacher.backend for teacher in teachers.values()} == {"imported"}
    assert {cost for _, cost in answers} == {0.0}
    assert "".join(status for status, _ in answers).count("error") <= 1  # the one that is not in the files
    expected = {row["score"] for row in rows()}
    assert {row.quality for row in stored} <= expected
    assert len(stored) >= report["prompts"]["calibration"]
    # Provenance: what it was read from.
    assert scored["files"][0][0] == {file.name: hashlib.sha256(file.read_bytes()).hexdigest()}
    before = workspace.counts()
    workspace.finish()
    assert workspace.counts() == before
