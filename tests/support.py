"""A small run on zoo models, through real processes; shared by tests of several areas."""

import json
import math
import os
import re
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import forked
import pytest
from sqlalchemy import func, select
from teachers.endpoint import Reply, answer

from storage import jobs, schema
from storage.jobs import Job
from storage.store import Store

RUN = """
name: small
student: {name: pupil, model: "zoo:student", family: llama}
teachers:
  - {name: brief, model: "zoo:brief", family: llama, parameters: 2e5}
  - {name: speller, model: "zoo:speller", family: gpt_neox, parameters: 2e5}
prompts:
  - {source: reasoning_gym, task: spell_backward, size: 40, seed: 9001, options: {min_word_len: 3, max_word_len: 8}}
  - {source: reasoning_gym, task: gcd, size: 40, seed: 9102, options: {min_value: 1, max_value: 40}}
split: {calibration: 20, validation: 8, evaluation: 10}
router: {backbone: "zoo:student", tune: frozen, head_epochs: 20}
generation: {max_tokens: 40, temperature: 0, fallbacks: 0}
distill: {epochs: 2, batch_size: 8, checkpoint_steps: 1, rank: 4}
evaluation: {bootstrap: 200}
"""

COUNTED = (
    schema.PromptRow,
    schema.ResponseRow,
    schema.ScoreRow,
    schema.AssignmentRow,
    schema.DatasetRowRow,
    schema.ResultRow,
)


def good(body: dict[str, Any], number: int) -> Reply:
    """The right answer to a prompt of `RUN`."""
    text = body["messages"][-1]["content"]
    if "GCD" in text:
        return answer(str(math.gcd(*map(int, re.findall(r"\d+", text)))))
    return answer(text.split()[-1][::-1])


@dataclass
class Workspace:
    """A folder with a run file and a store, and the command line to use them."""

    folder: Path
    environment: dict[str, str] = field(default_factory=dict)
    fresh: bool = False
    """Whether a process starts as a person starts it, and imports all that it needs; else it is forked."""

    @property
    def database(self) -> Path:
        return self.folder / "store.db"

    def write(self, text: str = RUN, name: str = "run.yaml") -> Path:
        path = self.folder / name
        path.write_text(text, encoding="utf-8")
        return path

    def start(self, *arguments: object) -> forked.Process:
        environment = {
            **os.environ,
            "PERSYN_STORE": str(self.database),
            "XDG_DATA_HOME": str(self.folder / "data"),
            "OMP_NUM_THREADS": "1",
            **self.environment,
        }
        if not self.fresh:
            return forked.start([*map(str, arguments)], environment, Path.cwd(), engine=True)
        return subprocess.Popen(
            [sys.executable, "-m", "persyn_tui.cli", *map(str, arguments)],
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )

    def call(self, *arguments: object, timeout: float = 300) -> subprocess.CompletedProcess[str]:
        process = self.start(*arguments)
        try:
            out, err = process.communicate(timeout=timeout)
        finally:
            process.kill()
        return subprocess.CompletedProcess(arguments, process.returncode, out, err)

    def run(self, *arguments: object) -> dict[str, Any]:
        """The JSON result of a run that must succeed."""
        done = self.call("run", self.folder / "run.yaml", "--json", *arguments)
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout.splitlines()[-1])

    def work(self, until: str | None = None, name: str = "run.yaml") -> tuple[int, Job, dict[str, Any]]:
        """(exit code, job, report) of the same engine in this process; only a kill needs one of its own.

        A process takes seconds to import torch and what builds on it. The report is empty unless the run succeeds.
        """
        import torch

        from engine.base.sanitize import json_line
        from engine.pipeline import launch, runner
        from engine.pipeline.display import Silent
        from engine.registry import run_files
        from engine.report import summary

        threads = torch.get_num_threads()
        torch.set_num_threads(1)
        try:
            with pytest.MonkeyPatch.context() as patch, self.open() as store:
                for variable, value in self.environment.items():
                    patch.setenv(variable, value)
                job, _ = launch.submit(store, run_files.load(self.folder / name, store.location), until=until)
                outcome = runner.work(store, job.id, Silent())
                done = outcome.code == 0 and outcome.context
                found = (
                    json.loads(json_line(summary.as_json(summary.build(outcome.context, 0.0))))
                    if done
                    else {}
                )
                ended = jobs.get(store, job.id)
        finally:
            torch.set_num_threads(threads)
        assert ended is not None
        return outcome.code, ended, found

    def finish(self, until: str | None = None, name: str = "run.yaml") -> dict[str, Any]:
        """The report of a run in this process that must succeed."""
        code, job, found = self.work(until, name)
        assert code == 0, job.error
        return found

    def open(self) -> Store:
        return Store.open(self.database)

    def counts(self) -> dict[str, int]:
        """Rows of every table that must not depend on how often a run was interrupted."""
        with self.open() as store, store.read() as connection:
            return {
                table.__tablename__: connection.execute(select(func.count()).select_from(table)).scalar_one()
                for table in COUNTED
            }

    def adapters(self) -> list[bytes]:
        """The trained adapters' weights."""
        files = sorted((self.folder / "store.files" / "students").glob("*/adapter/adapter_model.safetensors"))
        return [file.read_bytes() for file in files]


def wait_until(process: forked.Process, condition: Callable[[], bool], seconds: float = 120) -> None:
    """Polls until the condition holds; fails when the process ends first."""
    end = time.monotonic() + seconds
    while not condition():
        assert process.poll() is None, f"ended before it could be disturbed: {process.communicate()[1]}"
        assert time.monotonic() < end, "the condition never came"
        time.sleep(0.01)
