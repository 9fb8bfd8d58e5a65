"""A small run with a router in a store, made through the storage API, and what screen 3 shows of it."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from app.stored_run import store_run
from textual.widgets import Static

from engine.config import run_file
from engine.job import scorer_ids
from engine.job.context import RunContext
from engine.pipeline.run_view import reader
from persyn_tui.app.widgets.virtual_table import VirtualTable
from storage import jobs, responses, routing, scores
from storage.records import Assignment, NewPlan, NewResponse, NewRouter, Prompt, Response, Score
from storage.store import Store

HOSTILE = "\x1b]0;owned\x07\x1b[31mred \u202egnp.exe [bold]markup[/bold]"
RUN = """
name: small
student: {name: s, model: "zoo:student"}
teachers: [{name: brief, model: "zoo:brief"}, {name: spell, model: "zoo:speller"}]
prompts: [{source: jsonl, path: p.jsonl}]
split: {calibration: 4, validation: 2}
router: {backbone: "zoo:student"}
strategies: [strong, persyn]
"""
QUALITY = [(1, 0), (0, 1), (1, 1), (0, 0), (1, 0), (0, 1)]
LEARNABILITY = [(-1.0, -0.2), (-0.2, -1.0), (-0.5, -0.9), (-0.1, -0.2), (-1.0, -0.2), (-0.9, -0.3)]
# Quality first: best are brief, spell, brief (by learnability), none (all wrong), brief, spell.
# Learnability alone turns the first two and the fifth round.
STRENGTHS = [(1.0, 0.0), (0.0, 0.5), (0.3, 0.2), (0.0, 2.0), (0.5, 0.0), (0.0, 0.5), (0.1, 0.0), (0.0, 0.9)]
TEXTS = [f"question number {i}" for i in range(7)] + [HOSTILE]


@dataclass
class Made:
    """A store with a run of 8 prompts: 4 calibration, 2 validation, 2 synthesis; the last one is hostile."""

    path: Path
    file: Path
    job: int
    prompts: list[int]

    @property
    def location(self) -> str:
        return str(self.path)

    def context(self, store: Store) -> RunContext:
        return reader(store, run_file.load(self.file))

    def answer(self) -> None:
        """Stores the answers and both scores of the first 6 prompts."""
        with Store.open(self.path) as store:
            context = self.context(store)
            known = self.prompts[:6]
            rows = [
                NewResponse(n, g.teacher_id, g.generation_sha, Response(n, HOSTILE, "ok", "stop", 1, 3, 0.1))
                for n in known
                for g in context.generations
            ]
            responses.add(store, None, rows)
            found = responses.of_prompts(store, known, context.generations)
            for kind, values in (("exact_answer", QUALITY), ("learnability", LEARNABILITY)):
                verdicts = [
                    (found[n][g.teacher_id].id, Score(float(values[place][column])))
                    for place, n in enumerate(known)
                    for column, g in enumerate(context.generations)
                ]
                scores.add(store, None, scorer_ids.scorer_id(context, kind), verdicts)

    def route(self, places: Sequence[int] = range(8)) -> int:
        """Stores the router's record and assigns these prompts by `STRENGTHS`; the plan's id."""
        with Store.open(self.path) as store:
            context = self.context(store)
            measured = {
                "n": 2,
                "on": "prompts it never saw",
                **{"hit_at_1": 1.0, "hit_at_3": 1.0, "regret": 0.125},
                **{"chance_hit_at_1": 0.5, "chance_hit_at_3": 1.0, "random_regret": 0.75},
            }
            router = routing.put_router(
                store,
                None,
                NewRouter(context.identity.router_sha, context.student_id, "routers/r", {}, measured),
            )
            names = {"teachers": ["brief", "spell"]}
            plan = routing.open_plan(
                store,
                None,
                NewPlan(context.identity.plan_sha("persyn"), "persyn", context.prompt_set, router.id, names),
            )
            rows = []
            for place in places:
                strengths = STRENGTHS[place]
                # The third prompt's reward is known and speaks for the other teacher.
                chosen = 1 if place == 2 else int(strengths[1] > strengths[0])
                teacher = context.generations[chosen].teacher_id
                margin = abs(strengths[0] - strengths[1])
                rows.append(Assignment(self.prompts[place], teacher, 0, strengths, margin))
            routing.assign(store, None, plan.id, rows)
            return plan.id

    def stage(self, stage: str, progress: dict[str, object], curve: Sequence[float] = ()) -> None:
        """Puts the job into a stage, as a running engine would."""
        with Store.open(self.path) as store:
            lease = jobs.claim(store, self.job, "test")
            jobs.set_stage(store, lease, stage, progress)
            points = [(stage, "hit_at_1", step, value) for step, value in enumerate(curve)]
            jobs.record_metrics(store, lease, points)

    def finish(self) -> None:
        """Ends the job."""
        with Store.open(self.path) as store:
            lease = jobs.claim(store, self.job, "test")
            jobs.set_stage(store, lease, "evaluate", {})
            jobs.release(store, lease, "done")


def make(tmp_path: Path) -> Made:
    (tmp_path / "p.jsonl").write_text("".join(json.dumps({"prompt": text}) + "\n" for text in TEXTS))
    file = tmp_path / "run.yaml"
    file.write_text(RUN)
    run = run_file.load(file)
    path = tmp_path / "store.db"
    with Store.open(path) as store:
        splits = ["calibration"] * 4 + ["validation"] * 2 + ["synthesis"] * 2
        members = [
            Prompt(({"role": "user", "content": text},), split=split)  # type: ignore[arg-type]
            for text, split in zip(TEXTS, splits, strict=True)
        ]
        numbers = store_run(store, run, members)
        job, _ = jobs.submit(store, run.model_dump(mode="json"), "spec", run.name)
    return Made(path, file, job.id, numbers)


def lines(screen: object, which: str) -> list[str]:
    """The rows of a sheet as they are painted, header first."""
    sheet = screen.query_one(which, VirtualTable)  # type: ignore[attr-defined]
    return [
        "".join(segment.text for segment in sheet.render_line(y)).rstrip() for y in range(len(sheet.rows) + 1)
    ]


def words(screen: object, which: str) -> str:
    """What a line says."""
    return str(screen.query_one(which, Static).render())  # type: ignore[attr-defined]
