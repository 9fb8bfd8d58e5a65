"""Stage `train_router`: rewards to labels, labels to a Bradley–Terry router, measured on unseen prompts."""

from dataclasses import asdict
from typing import Any

import numpy as np

from engine import evidence, reward
from engine.context import Context
from engine.errors import TrainingError
from engine.router import metrics, train
from storage import prompts, routing
from storage.records import Messages


def run(context: Context) -> None:
    """Trains the router, unless one of exactly these settings and labels is stored."""
    if "persyn" not in context.run.strategies:
        context.progress.say("train_router: the strategy `persyn` is not in this run")
        return
    stored = routing.router(context.store, context.router_sha)
    if stored is None:
        _train(context)
        stored = routing.router(context.store, context.router_sha)
    if stored is not None and stored.metrics:
        context.progress.values(0, {k: v for k, v in stored.metrics.items() if isinstance(v, float | int)})


def _train(context: Context) -> None:
    settings = context.run.router
    known = evidence.gather(context, ("calibration",))
    labels = known.labels(context.run.reward)
    _tell(context, known, labels)
    if labels.excluded.all():
        raise TrainingError(
            "train_router: no calibration prompt tells the teachers apart (every answer is wrong or unusable)",
            "use prompts that some teacher can answer, better teachers, or `reward: {exclude_all_wrong: false}`",
        )
    folder = context.folder("routers", context.router_sha)
    router, history = train.fit(
        [teacher.name for teacher in context.teachers],
        _messages(context, known.prompt_ids),
        labels.training_rewards,
        train_settings(context),
        progress=lambda step, total, values: _report(context, step, total, values),
        should_stop=context.cancelled,
    )
    context.check()
    manifest = _manifest(context, labels)
    router.save(folder, manifest)
    measured = _measure(context, router)
    measured["epochs"] = history.epochs
    routing.put_router(
        context.store,
        context.lease,
        context.router_sha,
        context.student_id,
        str(folder.relative_to(context.store.folder)),
        manifest,
        measured,
    )
    context.progress.say(f"train_router: {settings.tune} router in {history.epochs} epochs; {describe(measured)}")
