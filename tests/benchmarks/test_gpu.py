"""benchmarks/gpu.py where there is no GPU: a tiny model through all of it."""

import json
import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_every_way_runs_at_a_tiny_size_and_scores_are_those_of_full_logits(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "benchmarks/gpu.py", "--out", str(tmp_path / "report.json")],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""},
    )
    assert done.returncode == 0, done.stderr
    report = json.loads((tmp_path / "report.json").read_text())
    assert report == json.loads(done.stdout)
    tiny = report["tiny"]
    ran = {(part, name) for part in tiny if part != "product_tflop_s" for name, way in tiny[part].items()}
    assert {
        ("scoring", "ours"),
        ("routing", "ours"),
        ("lora", "ours"),
        ("lora", "ours, qlora"),
        ("lora", "trl"),
        ("generation", "ours"),
    } <= ran
    assert all(
        tiny[part]["ours"]["tokens_per_s"] > 0 for part in ("scoring", "routing", "lora", "generation")
    )
    assert tiny["scoring"]["largest difference to full logits, nats a token"] < 1e-4
