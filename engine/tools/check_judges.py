"""Doctor's checks of the models that say how good an answer is: reward models and judges of `quality`."""

import time
from collections.abc import Iterator, Mapping
from contextlib import closing
from functools import partial
from typing import Any

from engine.base.errors import PersynError
from engine.base.sanitize import strip_control
from engine.config.run_file import Run
from engine.models import model_info as models
from engine.scorers import scorer_kinds
from engine.scorers.kinds import judge
from engine.teachers.kinds import openai as endpoint
from engine.tools import check_endpoint
from engine.tools.findings import Finding, attempt
from storage.records import Prompt

_SHOWN = 200


def findings(run: Run, prompt: Prompt, answer: str) -> Iterator[Finding]:
    """Each model behind `quality` found, reached, and made to judge one real answer."""
    for name, config in run.quality.named.items():
        about = f"quality {name}"
        if config.scorer == "reward_model":
            files = attempt(f"{about}: files", partial(_files, about, config.settings))
            yield files
            if files.state == "failed":
                continue
            yield attempt(
                f"{about}: one score", partial(_score, about, config.scorer, config.settings, prompt, answer)
            )
        elif config.scorer == "judge":
            yield from _judge(about, config.settings, prompt, answer)


def _files(about: str, settings: Mapping[str, Any]) -> Finding:
    found = models.check(str(settings.get("model", "")), revision=str(settings.get("revision", "")))
    if found.folder is None:
        message = f"{found.ref} is at the hub and not on this machine"
        return Finding(f"{about}: files", "warning", message, "it is downloaded when it is first used")
    return Finding(
        f"{about}: files",
        "ok",
        f"{found.architecture}, {found.parameters or 0:,} parameters, in {found.folder}",
    )


def _judge(about: str, settings: Mapping[str, Any], prompt: Prompt, answer: str) -> Iterator[Finding]:
    try:
        model = judge.model(settings)
    except PersynError as error:
        yield Finding(f"{about}: settings", "failed", error.message, error.remedy)
        return
    last = None
    for last in check_endpoint.findings(about, model, prompt.messages):
        yield last
    if last is not None and last.state == "ok":
        # One answer is rated, whatever the mode: what is tried is whether the judge keeps to the form.
        quick = {**settings, "mode": "rate", "endpoint": endpoint.impatient(model).options["endpoint"]}
        yield attempt(f"{about}: one verdict", partial(_score, about, "judge", quick, prompt, answer))


def _score(about: str, kind: str, settings: Mapping[str, Any], prompt: Prompt, answer: str) -> Finding:
    label = f"{about}: one verdict" if kind == "judge" else f"{about}: one score"
    began = time.monotonic()
    with closing(scorer_kinds.load(kind).create(settings)) as scorer:
        (verdict,) = scorer.score([(prompt, answer)])
    shown = strip_control(answer if len(answer) <= _SHOWN else f"{answer[:_SHOWN]} …")
    if verdict.value is not None:
        text = f"{verdict.value:g} for {shown!r} after {time.monotonic() - began:.1f} s"
        return Finding(label, "ok", text)
    said = "".join(verdict.detail.get("texts", ()))
    reason = verdict.detail.get("reason", f"{verdict.count} tokens do not fit its context")
    remedy = (
        "raise `max_tokens` of the judge, or use a model that keeps to a form"
        if verdict.status == "unreadable"
        else "use a model with a longer context, or shorter prompts"
    )
    return Finding(
        label,
        "failed",
        f"{reason}" + (f"; it says {strip_control(said[-_SHOWN:])!r}" if said else ""),
        remedy,
    )
