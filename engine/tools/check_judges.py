"""Doctor's checks of the models that say how good an answer is: reward models and judges of `quality`."""

import time
from collections.abc import Iterator, Mapping
from contextlib import closing
from functools import partial
from typing import Any

from engine.base.errors import PersynError
from engine.base.sanitize import strip_control
from engine.config.kinds import ScorerKind, scorer_kind
from engine.config.run_file import Run
from engine.models import model_info as models
from engine.scorers import scorer_kinds
from engine.tools import check_endpoint
from engine.tools.findings import Finding, attempt
from storage.records import Prompt

_SHOWN = 200


def findings(run: Run, prompt: Prompt, answer: str) -> Iterator[Finding]:
    """Each model behind `quality` found, reached, and made to judge one real answer."""
    for name, config in run.quality.named.items():
        about = f"quality {name}"
        kind = scorer_kind(config.scorer)
        trial = partial(_score, about, kind, config.scorer, config.settings, prompt, answer)
        if kind.local_model is not None:
            files = attempt(f"{about}: files", partial(_files, about, *kind.local_model(config.settings)))
            yield files
            if files.state != "failed":
                yield attempt(f"{about}: one score", trial)
        elif kind.endpoint is not None:
            try:
                model = kind.endpoint(config.settings)
            except PersynError as error:
                yield Finding(f"{about}: settings", "failed", error.message, error.remedy)
                continue
            reached = list(check_endpoint.findings(about, model, prompt.messages))
            yield from reached
            if reached and reached[-1].state == "ok":
                yield attempt(f"{about}: one verdict", trial)
        elif not kind.verifies:
            yield attempt(f"{about}: one score", trial)


def _files(about: str, ref: str, revision: str) -> Finding:
    found = models.check(ref, revision=revision)
    if found.folder is None:
        message = f"{found.ref} is at the hub and not on this machine"
        return Finding(f"{about}: files", "warning", message, "it is downloaded when it is first used")
    return Finding(
        f"{about}: files",
        "ok",
        f"{found.architecture}, {found.parameters or 0:,} parameters, in {found.folder}",
    )


def _score(
    about: str, kind: ScorerKind, name: str, settings: Mapping[str, Any], prompt: Prompt, answer: str
) -> Finding:
    label = f"{about}: one score" if kind.endpoint is None else f"{about}: one verdict"
    began = time.monotonic()
    with closing(scorer_kinds.load(name).create(kind.trial(settings))) as scorer:
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
