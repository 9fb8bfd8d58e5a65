"""`persyn doctor`: every model of a run file is tried for real, and each failure has its remedy."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from teachers import gguf_files
from teachers.endpoint import Endpoint, answer, error

from engine.zoo import resolve

Persyn = Callable[..., Any]

RUN = """
student: {name: s, model: "zoo:student"}
teachers:
  - {name: brief, model: "zoo:brief"}
  - {name: gone, model: "./nowhere"}
  - {name: far, backend: openai, model: m, base_url: "http://127.0.0.1:1/v1"}
prompts: [{source: jsonl, path: p.jsonl}]
router: {backbone: "zoo:student"}
generation: {max_tokens: 5000}
"""


def test_every_check_is_made_and_failures_end_with_2(persyn: Persyn, tmp_path: Path) -> None:
    (tmp_path / "p.jsonl").write_text('{"prompt": "What is 2 + 3?", "answer": "5"}\n')
    (tmp_path / "run.yaml").write_text(RUN)
    ran = persyn("doctor", "run.yaml", "--json")
    assert ran.code == 2, ran.err
    found = {finding["about"]: finding for finding in ran.json["findings"]}
    assert not ran.json["ok"]
    failed = {about for about, finding in found.items() if finding["state"] == "failed"}
    assert failed == {"teacher gone: files", "teacher far: endpoint http://127.0.0.1:1/v1"}
    assert all(found[about]["remedy"] for about in failed)
    for about in ("python", "sqlite", "store", "space", "prompts jsonl", "router backbone"):
        assert found[about]["state"] == "ok"
    for part in ("files", "tokenizer", "template", "boundary", "memory", "one token"):
        assert found[f"teacher brief: {part}"]["state"] == "ok"
    context = found["teacher brief: context"]
    assert context["state"] == "warning"
    assert "5,000 for the response" in context["message"]
    mask = found["student s: training mask"]["mask"]
    trained = "".join(token for token, has_loss in mask if has_loss)
    untrained = "".join(token for token, has_loss in mask if not has_loss)
    assert trained.startswith("5")
    assert len(trained) > 1  # the end of turn is learned too
    assert "What is 2 + 3?" in untrained


def test_a_healthy_run_file_ends_with_0_and_shows_the_mask(persyn: Persyn, tmp_path: Path) -> None:
    (tmp_path / "p.jsonl").write_text('{"prompt": "What is 2 + 3?", "answer": "5"}\n')
    healthy = "\n".join(line for line in RUN.splitlines() if "gone" not in line and "far" not in line)
    (tmp_path / "run.yaml").write_text(healthy.replace("5000", "20"))
    ran = persyn("doctor", "run.yaml")
    assert ran.code == 0, ran.out + ran.err
    assert "checks passed" in ran.out
    assert "⟦5" in ran.out


def test_an_endpoint_is_reached_its_models_listed_and_a_token_made(persyn: Persyn, tmp_path: Path) -> None:
    (tmp_path / "p.jsonl").write_text('{"prompt": "What is 2 + 3?", "answer": "5"}\n')
    with Endpoint(models=("served", "other")) as well, Endpoint(models=("m",)) as busy:
        busy.script = lambda body, number: error(429, "quota", retry_after="300")
        lines = [line for line in RUN.splitlines() if "gone" not in line and "brief" not in line]
        text = "\n".join(lines).replace("http://127.0.0.1:1/v1", well.url)
        for name, model, server in (("fine", "served", well), ("waits", "m", busy)):
            entry = f'  - {{name: {name}, backend: openai, model: {model}, base_url: "{server.url}"}}'
            text = text.replace("prompts:", f"{entry}\nprompts:", 1)
        (tmp_path / "run.yaml").write_text(text)
        ran = persyn("doctor", "run.yaml", "--json")
    assert ran.code == 2, ran.err
    found = {finding["about"]: finding for finding in ran.json["findings"]}
    fine = found[f"teacher fine: endpoint {well.url}"]
    assert (fine["state"], fine["message"]) == ("ok", "reachable; models: other, served")
    assert found["teacher fine: one token"]["state"] == "ok"
    assert "`m` is not among them" in found[f"teacher far: endpoint {well.url}"]["message"]
    assert found["teacher waits: one token"]["state"] == "failed"
    assert "quota" in found["teacher waits: one token"]["message"]


QUALITY = """
quality:
  scorers:
    - {scorer: reward_model, model: "zoo:reward"}
    - {scorer: judge, model: m, base_url: "URL"}
"""


@pytest.mark.parametrize(
    ("reply", "state", "message"),
    [("Fine. Rating: [[8]]", "ok", "8 for '5'"), ("I like it.", "failed", "it says 'I like it.'")],
)
def test_reward_models_and_judges_are_made_to_judge_a_real_answer(
    persyn: Persyn, tmp_path: Path, reply: str, state: str, message: str
) -> None:
    (tmp_path / "p.jsonl").write_text('{"prompt": "What is 2 + 3?", "answer": "5"}\n')
    lines = [line for line in RUN.splitlines() if "gone" not in line and "far" not in line]
    with Endpoint(lambda body, number: answer(reply)) as server:
        text = "\n".join(lines).replace("5000", "20") + QUALITY.replace("URL", server.url)
        (tmp_path / "run.yaml").write_text(text)
        ran = persyn("doctor", "run.yaml", "--json")
        prompts = [request["messages"][-1]["content"] for request in server.requests]
    found = {finding["about"]: finding for finding in ran.json["findings"]}
    assert ran.code == (0 if state == "ok" else 2), ran.out
    assert found["quality reward_model: files"]["state"] == "ok"
    assert found["quality reward_model: one score"]["state"] == "ok"
    assert found[f"quality judge: endpoint {server.url}"]["state"] == "ok"
    verdict = found["quality judge: one verdict"]
    assert (verdict["state"], bool(verdict["remedy"])) == (state, state == "failed")
    assert message in verdict["message"]
    assert "What is 2 + 3?" in prompts[-1]


def test_a_judge_that_is_not_there_or_wrong_is_named_with_its_remedy(persyn: Persyn, tmp_path: Path) -> None:
    (tmp_path / "p.jsonl").write_text('{"prompt": "What is 2 + 3?", "answer": "5"}\n')
    lines = [line for line in RUN.splitlines() if "gone" not in line and "far" not in line]
    for url, about in (
        ("http://127.0.0.1:1/v1", "quality judge: endpoint http://127.0.0.1:1/v1"),
        ("ftp://x", "quality judge: settings"),
    ):
        text = "\n".join(lines).replace("5000", "20") + QUALITY.replace("URL", url)
        (tmp_path / "run.yaml").write_text(text.replace("zoo:reward", "./nowhere"))
        ran = persyn("doctor", "run.yaml", "--json")
        failed = {
            finding["about"]: finding for finding in ran.json["findings"] if finding["state"] == "failed"
        }
        assert set(failed) == {"quality reward_model: files", about}
        assert all(finding["remedy"] for finding in failed.values())
        assert ran.code == 2


def test_gguf_files_and_adapters_are_tried_like_any_model(persyn: Persyn, tmp_path: Path) -> None:
    gguf_files.convert(gguf_files.folder(tmp_path / "llama"), tmp_path / "small.gguf")
    gguf_files.adapted(resolve.resolve("zoo:brief"), tmp_path / "adapter")
    (tmp_path / "p.jsonl").write_text('{"prompt": "What is 2 + 3?", "answer": "5"}\n')
    text = RUN.replace("5000", "20").replace('model: "./nowhere"', "model: ./small.gguf")
    text = text.replace('{name: brief, model: "zoo:brief"}', "{name: tuned, adapter: ./adapter}")
    lines = [line for line in text.splitlines() if "far" not in line]
    (tmp_path / "run.yaml").write_text("\n".join(lines))
    ran = persyn("doctor", "run.yaml", "--json")
    assert ran.code == 0, ran.out + ran.err
    found = {finding["about"]: finding for finding in ran.json["findings"]}
    assert "small.gguf" in found["teacher gone: files"]["message"]
    assert "with adapter" in found["teacher tuned: files"]["message"]
    for about in ("teacher gone", "teacher tuned"):
        assert found[f"{about}: one token"]["state"] == "ok"
    (tmp_path / "adapter" / "adapter_config.json").unlink()
    ran = persyn("doctor", "run.yaml", "--json")
    (failed,) = [finding for finding in ran.json["findings"] if finding["state"] == "failed"]
    assert "adapter_config.json" in failed["message"]
    assert failed["remedy"]


def test_a_student_of_qlora_is_loaded_in_4_bits(persyn: Persyn, tmp_path: Path) -> None:
    (tmp_path / "p.jsonl").write_text('{"prompt": "What is 2 + 3?", "answer": "5"}\n')
    healthy = "\n".join(line for line in RUN.splitlines() if "gone" not in line and "far" not in line)
    (tmp_path / "run.yaml").write_text(healthy.replace("5000", "20") + "\ndistill: {method: qlora}\n")
    ran = persyn("doctor", "run.yaml", "--json")
    assert ran.code == 0, ran.out + ran.err
    found = {finding["about"]: finding for finding in ran.json["findings"]}
    assert "computed in float32" in found["student s: 4 bits"]["message"]
    assert "bitsandbytes 0." in found["libraries"]["message"]


def test_rewards_of_published_responses_are_not_asked_for_one_that_is_made_up(
    persyn: Persyn, tmp_path: Path
) -> None:
    rows = [{"prompt": "What is 2 + 3?", "model": name, "response": name, "reward": 1.0} for name in "ab"]
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (tmp_path / "run.yaml").write_text(
        'student: {name: s, model: "zoo:student"}\n'
        "teachers: [{name: a, backend: imported, model: a}, {name: b, backend: imported, model: b}]\n"
        "prompts: [{source: imported, path: rows.jsonl}]\nquality: {scorer: imported}\n"
        'router: {backbone: "zoo:student"}\n'
    )
    ran = persyn("doctor", "run.yaml", "--json")
    found = {finding["about"]: finding for finding in ran.json["findings"]}
    assert found["quality imported: one score"]["state"] == "ok", ran.out
