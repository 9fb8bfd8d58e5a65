"""One small store with something on every screen, the same each time it is built: what the snapshots show.

All of it is what an engine stores: kinds and words of events, stages with their units and rows, statuses with their
finish reasons. Two strategies are an earlier run's, which is done; this one has added the third.
"""

import json
from dataclasses import replace
from pathlib import Path

from app.stored_run import store_run
from app.support import FINISH
from sqlalchemy import text

from engine.base.nvml import Gpu
from engine.config import run_file
from engine.config.run_file import Run
from engine.job import scorer_ids
from engine.job.context import RunContext
from engine.pipeline.run_view import reader
from engine.pipeline.stages import evaluate
from persyn_tui.app.base.machine import Reading
from storage import datasets, jobs, responses, results, routing, scores
from storage.job_records import Lease
from storage.records import (
    Assignment,
    Checkpoint,
    DatasetRow,
    NewPlan,
    NewResponse,
    NewRouter,
    Prompt,
    Response,
    Result,
    Score,
    Status,
)
from storage.store import Store

RUN = """
name: arithmetic
student: {name: pupil, model: "zoo:student", family: llama, parameters: 167616, context: 512}
teachers:
  - {name: scholar, model: "zoo:scholar", family: granite, parameters: 72e9, context: 32768,
     price: {input: 0.9, output: 1.2}}
  - {name: llama-3.1-8b-instruct, model: "zoo:brief", family: llama, parameters: 8e9, context: 131072}
  - {name: speller, model: "zoo:speller", family: gpt_neox, parameters: 2e5}
  - {name: solver, backend: openai, model: solver-7b, base_url: "https://models.example/v1", family: qwen2,
     parameters: 7e9, context: 32768, price: {output: 60}}
prompts: [{source: jsonl, path: p.jsonl, verifier: text}]
split: {calibration: 6, validation: 3, evaluation: 6}
router: {backbone: "zoo:student"}
strategies: [strong, mix, persyn]
"""
EARLIER = RUN.replace("[strong, mix, persyn]", "[strong, mix]")
UNJUDGED = RUN.replace("name: arithmetic", "name: first try").replace(", verifier: text", "")
TASKS = (
    "Calculate 17 + 25.",
    "Spell the word 'lantern' backwards, letter by letter, and say nothing else but the word itself.",
    "Solve 3x + 4 = 19 for x.",
    "日本語で「こんにちは」と書いてください。",
    "What is the greatest common divisor of 48 and 36?\nShow each step.",
)
SPLITS = ["calibration"] * 6 + ["validation"] * 3 + ["synthesis"] * 9 + ["evaluation"] * 6
KNOWN = 9
"""Prompts that every teacher has answered."""
ROUTED = 18
CHOSEN = (0, 1, 3, 0, 0, 1, 0, 3, 0, 0, 0, 1, 3, 0, 1, 0, 0, 3)
"""The teacher of each routed prompt by the plan of persyn."""
ANSWERS = (
    "17 + 25 = 42. The answer is 42.",
    "nretnal",
    "First subtract 4 from both sides: 3x = 15.\nThen divide both sides by 3: x = 5.",
    "こんにちは",
    "The greatest common divisor of 48 and 36 is 12, because 48 = 12 · 4 and 36 = 12 · 3 with 4 and 3 coprime.",
)
BEGAN = 1_767_261_600.0
"""2026-01-01 10:00:00 UTC."""
_GIB = 2**30
_GPU = Gpu(
    0, "GPU-0", "NVIDIA H100 80GB HBM3", int(48.4 * _GIB), int(31.2 * _GIB), int(79.6 * _GIB), 96, 612.0
)
READINGS = [
    Reading((replace(_GPU, utilization=load),), float(load) / 4, 22.4, 128.0)
    for load in (20, 45, 80, 96, 90, 97, 99, 96)
]

FAILURE = (
    "train_router: not one calibration response could be judged, so no teacher is better than another\n"
    "  → `persyn data list --json` says why; exact_answer needs an `answer` and the right `verifier` in `prompts`"
)
_LOCAL = {
    "done": 4,
    "total": 6,
    "tokens": 900,
    "counts": {"ok": 4},
    "tokens_per_second": 1020.0,
    "eta_s": 131,
}
_REMOTE = {
    **{"done": 1, "total": 3, "tokens": 90, "counts": {"ok": 1}, "tokens_per_second": 54.5, "eta_s": 71},
    **{"in_flight": 2, "allowed": 8, "most": 64, "retries": 1},
}
STAGES: dict[str, tuple[str, dict[str, object]]] = {
    "generation": (
        "generate",
        {"unit": "prompts", "done": 5, "total": 9, "rate": 0.1, "tokens_per_second": 1074.5, "eta_s": 202.0}
        | {"rows": {"scholar": _LOCAL, "solver": _REMOTE}, "retries": {"generate": {"solver": 1}}},
    ),
    "router": (
        "route",
        {"unit": "prompts", "done": 54, "total": 54, "rate": 412.0, "eta_s": 0.0}
        | {"rows": {strategy: {"done": 18, "total": 18} for strategy in ("strong", "mix", "persyn")}},
    ),
    "jobs": (
        "distill",
        {"unit": "steps", "done": 60, "total": 90, "rate": 0.5, "tokens_per_second": 3910.0, "eta_s": 61.0}
        | {
            "rows": {
                "persyn": {
                    "done": 60,
                    "total": 90,
                    "tokens": 9000,
                    "tokens_per_second": 3910.0,
                    "eta_s": 61.0,
                }
            },
            "values": {"persyn/loss": 0.41},
        },
    ),
}
"""Where the job stands on the screens that follow it: mode → (stage, progress); `jobs` for all others."""


def put_stage(store: Store, lease: Lease, mode: str) -> None:
    """Puts the job where this screen has most to show."""
    stage, progress = STAGES.get(mode, STAGES["jobs"])
    jobs.set_stage(store, lease, stage, {"stage": stage, **progress})


def build(store: Store, folder: Path) -> Lease:
    """Fills the store; the lease of the job that runs."""
    lines = [{"prompt": _task(place), "answer": str(place)} for place in range(len(SPLITS))]
    (folder / "p.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    _ended(store, folder, UNJUDGED, "train_router", FAILURE)
    _ended(store, folder, EARLIER, "evaluate")
    run = _run(folder, RUN)
    job, _ = jobs.submit(store, run.model_dump(mode="json"), "spec", run.name)
    lease = jobs.claim(store, job.id, "test", lease_seconds=1e9)
    members = [
        Prompt(
            ({"role": "user", "content": _task(place)},),
            answer=str(place),
            verifier={"kind": "text"},
            source=f"p.jsonl:{place + 1}",
            split=split,  # type: ignore[arg-type]
        )
        for place, split in enumerate(SPLITS)
    ]
    numbers = store_run(store, run, members)
    context = reader(store, run)
    _answer(store, context, numbers)
    _route(store, context, numbers)
    _train(store, context, lease, numbers)
    for kind, message in (
        ("info", "calibrate: scholar gave 9 responses"),
        ("info", "score: 33 responses by exact_answer"),
        (
            "warning",
            "train_router: measured on 3 held-out prompts, which says little; raise split.validation",
        ),
        ("info", "route: persyn: scholar 56%, llama-3.1-8b-instruct 22%, solver 22%"),
        ("info", "distill: mix: 8 rows, 90 steps, loss 0.340, 3,890 tok/s"),
    ):
        jobs.event(store, lease, kind, message)
    _stop_the_clock(store)
    return lease


def _task(place: int) -> str:
    return f"{TASKS[place % len(TASKS)]} ({place})"


def _run(folder: Path, content: str) -> Run:
    file = folder / "run.yaml"
    file.write_text(content)
    return run_file.load(file)


def _ended(store: Store, folder: Path, content: str, stage: str, error: str = "") -> None:
    """A job that ended at this stage: with an error, or with all that it was for."""
    run = _run(folder, content)
    job, _ = jobs.submit(store, run.model_dump(mode="json"), f"spec {stage}", run.name)
    lease = jobs.claim(store, job.id, "test")
    rows = {} if error else {name: {"done": 6, "total": 6} for name in ("before", *run.strategies)}
    done = sum(row["done"] for row in rows.values())
    progress = {"stage": stage, "unit": "answers" if rows else "prompts", "done": done, "total": done}
    jobs.set_stage(store, lease, stage, {**progress, "rows": rows})
    said = error or "evaluate: mix: 66.7% (30.0% to 90.3%, n=6), stops by itself 100.0%"
    jobs.event(store, lease, "error" if error else "info", said)
    jobs.release(store, lease, "failed" if error else "done", error)


def _answer(store: Store, context: RunContext, numbers: list[int]) -> None:
    pairs = [(place, teacher) for place in range(KNOWN) for teacher in range(4)]
    pairs += [(place, CHOSEN[place]) for place in range(KNOWN, 14)]
    rows = []
    for place, teacher in pairs:
        who = context.generations[teacher]
        status: Status = {(2, 0): "truncated", (5, 2): "empty", (7, 3): "error"}.get((place, teacher), "ok")  # type: ignore[assignment]
        said = {"empty": "", "error": ""}.get(status, ANSWERS[(place + teacher) % len(ANSWERS)])
        error = "HTTP 400: the model has no such context" if status == "error" else ""
        tokens = 0 if status == "error" else 4 + 13 * ((place + 2 * teacher) % 5)
        done = Response(
            numbers[place], said, status, FINISH[status], 21, tokens, 0.5 + teacher / 4, error=error
        )
        cost = {0: 1.2e-6, 3: 6e-5}.get(teacher, 0.0) * tokens
        rows.append(NewResponse(numbers[place], who.teacher_id, who.generation_sha, done, cost))
    responses.add(store, None, rows)
    found = responses.of_prompts(store, numbers[:14], context.generations)
    quality, learnability = [], []
    for place, teacher in pairs:
        answer = found[numbers[place]].get(context.generations[teacher].teacher_id)
        if answer is None or answer.status != "ok":
            continue
        right = (place + teacher) % 3 != 0
        quality.append((answer.id, Score(float(right))))
        mean = -0.2 - 0.11 * ((place * 3 + teacher * 5) % 7)
        learnability.append((answer.id, Score(mean, mean * 20, 20)))
    scores.add(store, None, scorer_ids.scorer_id(context, "exact_answer"), quality)
    scores.add(store, None, scorer_ids.scorer_id(context, "learnability"), learnability)
    judge = scores.put_scorer(store, "judge", {"model": "judge-1"})
    scores.add(store, None, judge, [(number, Score(value.value and 0.9)) for number, value in quality[:8]])


def _route(store: Store, context: RunContext, numbers: list[int]) -> None:
    measured = {"n": 3, "on": "prompts it never saw", "hit_at_1": 0.71, "hit_at_3": 0.93, "regret": 0.18} | {
        "chance_hit_at_1": 0.25,
        "chance_hit_at_3": 0.75,
        "random_regret": 0.61,
    }
    router = routing.put_router(
        store, None, NewRouter(context.identity.router_sha, context.student_id, "routers/r", {}, measured)
    )
    names = {"teachers": [teacher.name for teacher in context.teachers]}
    ids = [generation.teacher_id for generation in context.generations]
    for strategy in context.run.strategies:
        by_router = strategy == "persyn"
        plan = routing.open_plan(
            store,
            None,
            NewPlan(
                context.identity.plan_sha(strategy),
                strategy,
                context.prompt_set,
                router.id if by_router else None,
                names,
            ),
        )
        rows = []
        for place in range(ROUTED):
            chosen = CHOSEN[place] if by_router else 0 if strategy == "strong" else place % 4
            strengths = [round(0.3 * ((place * 7 + other * 5) % 9) - 1.2, 2) for other in range(4)]
            strengths[chosen] = max(strengths) + (0.05 if place % 6 == 1 else 0.4)
            margin = strengths[chosen] - sorted(strengths)[-2]
            known = (tuple(strengths), margin) if by_router else (None, None)
            rows.append(Assignment(numbers[place], ids[chosen], 0, *known))
        routing.assign(store, None, plan.id, rows)
        routing.finish_plan(store, None, plan.id)


def _train(store: Store, context: RunContext, lease: Lease, numbers: list[int]) -> None:
    found = responses.of_prompts(store, numbers[:14], context.generations)
    rights = {None: [1, 0, 0, 0, 1, 0], "strong": [1, 0, 1, 0, 1, 0], "mix": [1, 0, 1, 1, 1, 0]}
    for strategy in context.run.strategies:
        plan = routing.plan(store, context.identity.plan_sha(strategy))
        assert plan is not None
        dataset = datasets.open_dataset(
            store, None, context.identity.dataset_sha(strategy), plan.id, f"arithmetic/{strategy}", {}
        )
        chosen = {row.prompt_id: row.teacher_id for row in routing.assignments(store, plan.id)}
        rows = [
            DatasetRow(number, answer.id, 1.0, -0.31, round(0.6 - place / 10, 2))
            for place, number in enumerate(numbers[:KNOWN])
            if (answer := found[number][chosen[number]]).status == "ok"
        ]
        datasets.add(store, None, dataset.id, rows)
        manifest = {"strategy": strategy, "reward": context.run.reward.model_dump()}
        datasets.finish(store, None, dataset.id, manifest)
        sha = context.adapter_sha(strategy)
        adapter = results.open_adapter(store, None, sha, dataset.id, context.student_id)
        steps = 60 if strategy == "persyn" else 90
        for step in range(20, steps + 1, 20):
            results.add_checkpoint(
                store, None, Checkpoint(adapter.id, step, f"x{step}", "0", {"loss": 1 / step})
            )
        points = [("distill", f"{strategy}/loss", step, 0.3 + 4 / (step + 2)) for step in range(1, steps + 1)]
        points += [
            ("distill", f"{strategy}/eval_loss", step, 0.4 + 4 / step) for step in range(10, steps + 1, 10)
        ]
        points += [
            ("distill", f"{strategy}/{name}", steps, value)
            for name, value in (
                ("learning_rate", 1.4e-4),
                ("gradient_norm", 0.82),
                ("memory_bytes", 18.2 * 2**30),
            )
        ]
        jobs.record_metrics(store, lease, points)
        if strategy != "persyn":
            metrics = {"steps": steps, "loss": 0.34, "tokens_per_second": 3890.0}
            results.finish_adapter(store, None, adapter.id, "x", metrics)
    for strategy, right in rights.items():
        trained = None if strategy is None else results.adapter(store, context.adapter_sha(strategy))
        opened = results.open_evaluation(
            store,
            None,
            context.evaluation_sha(strategy),
            context.student_id,
            trained and trained.id,
            context.prompt_set,
        )
        values = [Result(numbers[ROUTED + i], float(value), "t", "ok", 3) for i, value in enumerate(right)]
        results.add_results(store, None, opened.id, values)
        summary = evaluate.summarise(values)
        results.finish_evaluation(store, None, opened.id, summary)


def _stop_the_clock(store: Store) -> None:
    """Every time that a screen shows is counted from `BEGAN`."""
    with store.write() as connection:
        connection.execute(text("UPDATE jobs SET created_at = :t + id * 3600"), {"t": BEGAN})
        connection.execute(text("UPDATE jobs SET started_at = created_at"))
        connection.execute(text("UPDATE events SET at = :t + id * 61"), {"t": BEGAN})
        connection.execute(text("UPDATE responses SET created_at = :t + id"), {"t": BEGAN})
