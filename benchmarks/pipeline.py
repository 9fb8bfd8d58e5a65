"""Seconds, tokens/s and peak memory of every stage, on the zoo or on real models; and 200,000 prompts streamed.

    python benchmarks/pipeline.py                      the zoo's run file, all of its strategies
    python benchmarks/pipeline.py --models smollm2     SmolLM2 and Gemma 3 (fetch them first)
    python benchmarks/pipeline.py --prompts 200000     only prompts and routing, to see that nothing holds a table

Peak memory is the process's highest resident size within the stage (VmHWM, reset before each).
"""

import argparse
import json
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from engine.config import run_file
from engine.config.stages import SplitConfig
from engine.job.context import RunContext
from engine.pipeline import launch, pipeline, runner
from engine.pipeline.display import Plain
from engine.sources.tables import FileSource
from engine.zoo import resolve
from storage.store import Store

LIMIT_GB = {"zoo": 1.5, "smollm2": 6.0}


@dataclass
class Measure:
    """What one stage took."""

    seconds: float
    tokens: int
    peak_gb: float


def main() -> None:
    """Prints the table; exits with 1 when the memory limit is broken."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--models", choices=sorted(LIMIT_GB), default="zoo")
    parser.add_argument(
        "--prompts", type=int, help="stream so many prompts through prompts and route instead"
    )
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        file = {"zoo": "demo.yaml", "smollm2": "smollm2.yaml"}[options.models]
        run = run_file.load(Path(resolve.__file__).parent / file)
        until = None
        if options.prompts:
            run, until = streamed(run, Path(folder), options.prompts), "route"
        measures = measured(run, Path(folder), until)
    print(f"{'stage':<16}{'seconds':>10}{'tokens':>12}{'tokens/s':>12}{'peak GB':>10}")
    for name, found in measures.items():
        speed = f"{found.tokens / found.seconds:,.0f}" if found.tokens else "–"
        print(f"{name:<16}{found.seconds:>10.1f}{found.tokens:>12,}{speed:>12}{found.peak_gb:>10.2f}")
    peak, limit = max(found.peak_gb for found in measures.values()), LIMIT_GB[options.models]
    total = sum(found.seconds for found in measures.values())
    print(f"{'all':<16}{total:>10.1f}{'':>12}{'':>12}{peak:>10.2f}   limit {limit} GB")
    if peak > limit:
        raise SystemExit(1)


def measured(run: run_file.Run, folder: Path, until: str | None) -> dict[str, Measure]:
    """What every stage took, in one process."""
    measures: dict[str, Measure] = {}
    for name, stage in list(pipeline.STAGES.items()):
        pipeline.STAGES[name] = timed(name, stage, measures)
    with Store.open(folder / "bench.db") as store:
        job, _ = launch.submit(store, run, until=until)
        outcome = runner.work(store, job.id, Plain())
    if outcome.code:
        raise SystemExit(outcome.code)
    return measures


def timed(
    name: str, stage: Callable[[RunContext], None], measures: dict[str, Measure]
) -> Callable[[RunContext], None]:
    """The stage, with its time, tokens and peak memory kept."""

    def wrapped(context: RunContext) -> None:
        began = time.perf_counter()
        with peak() as highest:
            stage(context)
        measures[name] = Measure(time.perf_counter() - began, context.progress.tokens, highest())

    return wrapped


@contextmanager
def peak() -> Iterator[Callable[[], float]]:
    """Gives the highest resident size since the block began, in GB."""
    Path("/proc/self/clear_refs").write_text("5", encoding="ascii")

    def highest() -> float:
        status = Path("/proc/self/status").read_text(encoding="ascii")
        line = next(line for line in status.splitlines() if line.startswith("VmHWM"))
        return int(line.split()[1]) / 1e6

    yield highest


def streamed(run: run_file.Run, folder: Path, count: int) -> run_file.Run:
    """The run with so many prompts of plain text from a file, given out at random: no model is loaded."""
    path = folder / "prompts.jsonl"
    with path.open("w", encoding="utf-8") as file:
        for index in range(count):
            file.write(
                json.dumps({"prompt": f"Prompt {index}: " + "what comes after this number? " * 20}) + "\n"
            )
    return run.model_copy(
        update={
            "prompts": (FileSource(source="jsonl", path=str(path)),),
            "split": SplitConfig(calibration=0, validation=0, evaluation=0),
            "strategies": ("random",),
            "too_long": "mark",
        }
    )


if __name__ == "__main__":
    main()
