"""A small run in a store, made through the storage API: what a job's live screens are tested on."""

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from app.stored_run import store_run
from app.support import FINISH, running, until
from textual.pilot import Pilot
from textual.widgets import Static

from engine.config import run_file
from engine.job.adapters_of_run import TRAINING
from engine.job.context import RunContext
from engine.pipeline.run_view import reader
from persyn_tui.app.app import PersynApp
from persyn_tui.app.widgets.virtual_table import VirtualTable
from storage import datasets, jobs, responses, results, routing
from storage.job_records import Lease
from storage.records import Adapter, Assignment, NewPlan, NewResponse, Prompt, Response, Result, Status
from storage.store import Store

HOSTILE = "\x1b]0;owned\x07\x1b[31mred \u202egnp.exe [bold]markup[/bold]"
RUN = """
name: small
student: {name: pupil, model: "zoo:student"}
teachers:
  - {name: brief, model: "zoo:brief", parameters: 2, price: {output: 1000000}}
  - {name: spell, model: "zoo:speller", parameters: 1}
prompts: [{source: jsonl, path: p.jsonl, verifier: text}]
split: {calibration: 2, validation: 1, evaluation: 4}
router: {backbone: "zoo:student"}
generation: {max_attempts: 2}
strategies: [strong, persyn]
"""
SPLITS = ["calibration"] * 2 + ["validation"] + ["synthesis"] * 3 + ["evaluation"] * 4
"""N = 6 of 10 prompts, C = 3: C·M + (N − C) = 9 responses, and 12 of all teachers."""


@dataclass
class MadeRun:
    """A store with a run of 10 prompts, two teachers and two strategies; `brief` costs $1 a token."""

    store: Store
    context: RunContext
    job: int
    prompts: list[int]
    lease: Lease | None = None

    def stage(self, name: str, done: int = 0, total: int = 0, **rows: dict[str, Any]) -> Lease:
        """Puts the job into a stage, as a running engine would."""
        self.lease = self.lease or jobs.claim(self.store, self.job, "test", lease_seconds=600)
        progress = {"stage": name, "unit": "prompts", "done": done, "total": total, "rows": rows}
        jobs.set_stage(self.store, self.lease, name, progress)
        return self.lease

    def answer(self, place: int, teacher: int, text: str = "yes", status: Status = "ok") -> None:
        """Stores a response of 2 tokens to the prompt at this place."""
        who = self.context.generations[teacher]
        error = text if status == "error" else ""
        completion = Response(self.prompts[place], text, status, FINISH[status], 3, 2, 0.1, error=error)
        cost = 2.0 if teacher == 0 else 0.0
        row = NewResponse(
            self.prompts[place], who.teacher_id, who.generation_sha, completion, cost, job_id=self.job
        )
        responses.add(self.store, None, [row])

    def route(self, strategy: str, teachers: list[int]) -> int:
        """Gives the first six prompts to these teachers; the plan's id."""
        sha, prompt_set = self.context.identity.plan_sha(strategy), self.context.prompt_set
        plan = routing.open_plan(self.store, None, NewPlan(sha, strategy, prompt_set, None, {}))
        ids = [generation.teacher_id for generation in self.context.generations]
        rows = [Assignment(self.prompts[place], ids[teacher]) for place, teacher in enumerate(teachers)]
        routing.assign(self.store, None, plan.id, rows)
        return plan.id

    def adapter(self, strategy: str) -> Adapter:
        """The strategy's adapter, in training; its plan and its dataset are complete."""
        plan = self.route(strategy, [0] * 6)
        dataset = datasets.open_dataset(
            self.store, None, self.context.identity.dataset_sha(strategy), plan, strategy, {}
        )
        datasets.finish(self.store, None, dataset.id, {})
        sha = self.context.adapter_sha(strategy)
        return results.open_adapter(self.store, None, sha, dataset.id, self.context.student_id)

    def trained(self, strategy: str, steps: int, rows: int = 0) -> Adapter:
        """The strategy's adapter, complete."""
        adapter = self.adapter(strategy)
        metrics = {"steps": steps, "loss": 0.25, "tokens_per_second": 1234.0, "rows": {"kept": rows}}
        metrics[TRAINING] = self.context.identity.adapter_sha(strategy)
        results.finish_adapter(self.store, None, adapter.id, "x", metrics)
        return adapter

    def evaluated(self, strategy: str | None, right: list[int]) -> None:
        """Stores an evaluation of the four evaluation prompts."""
        adapter = (
            None if strategy is None else results.adapter(self.store, self.context.adapter_sha(strategy))
        )
        sha, prompt_set = self.context.evaluation_sha(strategy), self.context.prompt_set
        found = results.open_evaluation(
            self.store, None, sha, self.context.student_id, adapter and adapter.id, prompt_set
        )
        rows = [Result(self.prompts[6 + i], float(value), "t", "ok", 3) for i, value in enumerate(right)]
        results.add_results(self.store, None, found.id, rows)
        share = sum(right) / len(right)
        summary = {"accuracy": share, "ci_low": share / 2, "ci_high": (1 + share) / 2, "n": len(right)}
        results.finish_evaluation(self.store, None, found.id, summary)


def submit(store: Store, folder: Path) -> int:
    """The job of `RUN`, before anything of it is stored."""
    rows = ({"prompt": f"number {i}", "answer": str(i)} for i in range(10))
    (folder / "p.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    file = folder / "run.yaml"
    file.write_text(RUN)
    run = run_file.load(file)
    job, _ = jobs.submit(store, run.model_dump(mode="json"), "spec", run.name)
    return job.id


def make(store: Store, folder: Path) -> MadeRun:
    """`RUN` with its models and prompts stored."""
    job = submit(store, folder)
    run = run_file.load(folder / "run.yaml")
    members = [
        Prompt(({"role": "user", "content": f"number {i}"},), split=split)  # type: ignore[arg-type]
        for i, split in enumerate(SPLITS)
    ]
    numbers = store_run(store, run, members)
    return MadeRun(store, reader(store, run), job, numbers)


def lines(app: PersynApp, which: str) -> list[str]:
    """The rows of a sheet as they are painted, header first."""
    sheet = app.screen.query_one(which, VirtualTable)
    return [sheet.render_line(y).text for y in range(len(sheet.rows) + 1)]


def words(app: PersynApp, which: str) -> str:
    """What a line says."""
    return str(app.screen.query_one(which, Static).render())


def notes(app: PersynApp) -> str:
    """All that was notified."""
    return " ".join(note.message for note in app.messages)


@asynccontextmanager
async def showing(
    location: str, mode: str, size: tuple[int, int] = (100, 28)
) -> AsyncIterator[tuple[PersynApp, Pilot[None]]]:
    """The app on one screen, once that has read and its lists are laid out."""
    async with running(location, mode=mode, size=size) as (app, pilot):

        def laid_out() -> bool:
            lists = app.screen.query(VirtualTable)
            return app.screen.state == "empty" or all(sheet.size.width for sheet in lists)

        await until(pilot, laid_out)
        yield app, pilot
