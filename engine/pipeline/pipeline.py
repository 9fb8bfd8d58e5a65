"""The whole pipeline, in order. Each stage asks the store what is missing and fills it, so resuming is
running again; a stage with nothing missing takes milliseconds and loads no model."""

from collections.abc import Callable
from typing import Final

from engine.job.context import RunContext
from engine.pipeline.stages import (
    build_dataset,
    calibrate,
    distill,
    evaluate,
    generate,
    prompts,
    route,
    score,
    train_router,
)
from storage import jobs

STAGES: Final[dict[str, Callable[[RunContext], None]]] = {
    "prompts": prompts.run,              # sources           → prompts, deduplicated and split
    "calibrate": calibrate.run,          # few prompts       → every teacher's responses
    "score": score.run,                  # responses         → quality, learnability for this student
    "train_router": train_router.run,    # scores            → Bradley–Terry router, measured on unseen prompts
    "route": route.run,                  # all prompts       → one teacher each, per strategy
    "generate": generate.run,            # assignments       → one response per prompt, by its teacher
    "build_dataset": build_dataset.run,  # responses         → training rows with provenance
    "distill": distill.run,              # rows, student     → LoRA adapter, merged model
    "evaluate": evaluate.run,            # student, adapters → accuracy before and after
}  # fmt: skip


def run(context: RunContext, until: str | None = None) -> None:
    """Runs the stages in order, through `until` when one is named."""
    for name, stage in STAGES.items():
        context.control.check()
        context.progress.begin(name)
        jobs.set_stage(context.store, context.lease, name, context.progress.kept)
        stage(context)
        context.progress.flush()
        if name == until:
            context.progress.say(f"stopped after {name}, as asked", "info")
            return
