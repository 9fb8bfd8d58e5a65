"""Stage `train_router`: rewards to labels, labels to a Bradley–Terry router, measured on unseen prompts."""

import shutil
from collections.abc import Callable, Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np

from engine.base.errors import TrainingError
from engine.config.stages import RouterConfig
from engine.job import plan_store
from engine.job.context import RunContext
from engine.methods import metrics, reward, strategy_kinds
from engine.router.history import Hooks
from engine.router.manifest import Labelling
from engine.router.model import Router
from engine.router.settings import FitSettings
from engine.router.train import fit
from engine.scoring import score_table
from storage import prompts, routing
from storage.records import Messages, NewRouter

UNFINISHED = "unfinished"
"""In a router's folder: what has been read and trained until it is stored."""
FEW = 30
"""Held-out prompts below which Hit@1 is uncertain by more than a sixth either way."""


def run(context: RunContext) -> None:
    """Trains the router, unless one of exactly these settings and labels is stored."""
    if strategy_kinds.routed(context.run.strategies) is None:
        context.progress.say("train_router: no strategy of this run asks the router")
        return
    stored = routing.router(context.store, context.identity.router_sha)
    if stored is None:
        _train(context)
    else:
        _forget_unfinished(context)
        context.progress.say(f"train_router: trained before; {describe(stored.metrics)}")


def _forget_unfinished(context: RunContext) -> None:
    """Removes what a router that is stored was made from."""
    shutil.rmtree(context.folder("routers", context.identity.router_sha) / UNFINISHED, ignore_errors=True)


def _counted(context: RunContext, row: str, unit: str = "prompts") -> Callable[[int, int], None]:
    """What is to be called with (units done, all units), to show them as a row of the stage."""
    before: int | None = None

    def count(done: int, total: int) -> None:
        nonlocal before
        if before is None:
            context.progress.expect(total, done=done, row=row, unit=unit)
            if done:
                context.progress.say(f"train_router: {done:,} of {total:,} {unit} ({row}) were done before")
        else:
            context.progress.advance(done - before, row=row)
        before = done

    return count


def _train(context: RunContext) -> None:
    config, rewarded = context.run.router, context.run.reward
    known = score_table.gather(context, ("calibration",))
    labels = known.labels(rewarded)
    _tell(context, known, labels)
    if labels.excluded.all() and not np.isfinite(known.quality).any():
        raise TrainingError(
            "train_router: not one calibration response could be judged, so no teacher is better than another",
            "`persyn data list --json` says why; exact_answer needs an `answer` and the right `verifier` in `prompts`",
        )
    if labels.excluded.all():
        raise TrainingError(
            "train_router: no calibration prompt tells the teachers apart (every response is wrong or unusable)",
            "use prompts that some teacher can answer, better teachers, or `reward: {exclude_all_wrong: false}`",
        )

    place = context.places(config.device)[0]
    context.servers.evict_for(place)
    folder = context.folder("routers", context.identity.router_sha)
    settings = replace(fit_settings(config), device=place, keep_in=folder / UNFINISHED)
    done = 0

    def begin(step: int, total: int, work: float | None) -> None:
        nonlocal done
        if step:
            context.progress.say(f"train_router: goes on from step {step:,} of {total:,}")
        context.progress.expect(total, done=step, row="router", unit="steps", work=work)
        done = step

    def report(step: int, total: int, values: Mapping[str, float]) -> None:
        nonlocal done
        del total
        context.progress.advance(step - done, row="router")
        if values:
            context.progress.values(step, values)
        done = step

    context.progress.doing(f"loading the router's backbone {config.backbone}", "backbone")
    router, history = fit(
        config.backbone,
        plan_store.router_teachers(context),
        _messages(context, known.prompt_ids),
        labels.training_rewards,
        settings,
        Hooks(
            loading=context.control.at_once,
            reading=_counted(context, "backbone"),
            head=_counted(context, "head", "epochs"),
            begin=begin,
            work=lambda tokens, work: context.progress.advance(0, tokens=tokens, row="router", work=work),
            progress=report,
            notice=lambda text: context.progress.say(f"train_router: {text}", "warning"),
            should_stop=context.control.cancelled,
        ),
    )
    context.progress.expect(done, done=done, row="router", unit="steps")  # it may have stopped early
    measured = _measure(context, router, asdict(history.held_out), settings.keep_in)
    labelling = Labelling(
        alpha=rewarded.alpha,
        normalization=rewarded.normalization,
        targets=config.targets,
        temperature=config.temperature if config.targets == "soft" else None,
        ties=config.ties,
    )
    notes = {"student": context.student.name, "prompts": history.prompts, "pairs": history.pairs, **measured}
    manifest = router.save(folder, labelling, notes)
    routing.put_router(
        context.store,
        context.lease,
        NewRouter(
            context.identity.router_sha,
            context.student_id,
            str(folder.relative_to(context.store.folder)),
            asdict(manifest),
            measured,
        ),
    )
    _forget_unfinished(context)
    context.progress.say(
        f"train_router: {config.tune}, {history.prompts:,} prompts, {history.pairs:,} pairs, "
        f"{history.seconds:.1f} s; {describe(measured)}"
    )
    if history.truncated:
        context.progress.say(
            f"train_router: {history.truncated:,} prompts were cut in the middle to fit the backbone",
            "warning",
        )


def fit_settings(config: RouterConfig) -> FitSettings:
    """The run file's `router` section as the training function's settings."""
    return FitSettings(
        tune=config.tune,
        temperature=config.temperature if config.targets == "soft" else None,
        ties=config.ties,
        folds=config.folds,
        head_epochs=config.head_epochs,
        head_learning_rate=config.head_learning_rate,
        epochs=config.epochs,
        learning_rate=config.learning_rate,
        batch_prompts=config.batch_size,
        weight_decay=config.weight_decay,
        patience=config.patience,
        lora_rank=config.rank,
        lora_alpha=2.0 * config.rank,
        max_tokens=config.max_tokens,
        dtype=config.dtype or "float32",
        device=config.device,
        revision=config.revision,
        trust_remote_code=config.trust_remote_code,
        seed=config.seed,
    )


def describe(measured: Mapping[str, Any]) -> str:
    """The router's measures in one line."""
    if "hit_at_1" not in measured:
        return "no held-out prompts to measure it on"
    return (
        f"Hit@1 {measured['hit_at_1']:.2f} (chance {measured['chance_hit_at_1']:.2f}), "
        f"Hit@3 {measured['hit_at_3']:.2f} (chance {measured['chance_hit_at_3']:.2f}), "
        f"regret {measured['regret']:.3f} (random {measured['random_regret']:.3f}) "
        f"on {measured['n']:,} {measured['on']}"
    )


def _measure(
    context: RunContext, router: Router, folds: Mapping[str, Any], keep_in: Path | None
) -> dict[str, Any]:
    """Measures on the validation prompts; without any, those of the training folds, and said so."""
    held = score_table.gather(context, ("validation",))
    rewards = held.labels(context.run.reward).training_rewards
    if not (np.isfinite(rewards).sum(axis=1) >= 2).any():
        context.progress.say(
            "train_router: no usable validation prompts; measured by cross-validation on calibration prompts",
            "warning",
        )
        return {**folds, "on": "calibration prompts left out of training"}
    strengths = router.strengths(
        _messages(context, held.prompt_ids),
        context.control.cancelled,
        keep_in=keep_in,
        on_read=_counted(context, "validation"),
    )
    measured = asdict(metrics.measure(strengths, rewards, seed=context.run.router.seed))
    if measured["n"] < FEW:
        context.progress.say(
            f"train_router: measured on {measured['n']:,} held-out prompts, which says little; raise split.validation",
            "warning",
        )
    return {**measured, "on": "prompts it never saw"}


def _messages(context: RunContext, ids: "np.typing.NDArray[np.int64]") -> list[Messages]:
    found = prompts.get(context.store, [int(prompt) for prompt in ids])
    return [found[int(prompt)].messages for prompt in ids]


def _tell(context: RunContext, known: score_table.ScoreTable, labels: reward.Labels) -> None:
    """What an operator must know of the labels before trusting the router."""
    count = len(labels.excluded)
    flags = {
        "all wrong": int(labels.all_wrong.sum()),
        "constant quality": int(labels.constant_quality.sum()),
        "excluded": int(labels.excluded.sum()),
    }
    shown = ", ".join(f"{value:,} {name}" for name, value in flags.items())
    context.progress.say(f"train_router: {count:,} labelled prompts ({shown})")
    idle = known.alpha_is_idle(context.run.reward, context.run.router.targets)
    if idle:
        context.progress.say(f"train_router: {idle}", "warning")
