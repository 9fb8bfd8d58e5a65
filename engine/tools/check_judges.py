"""Doctor's checks of the models that say how good a response is: reward models and judges of `quality`."""

import time
from collections.abc import Iterator
from contextlib import closing

from engine.base.errors import PersynError
from engine.base.sanitize import strip_control
from engine.config.kinds import scorer_kind
from engine.config.quality import ScorerConfig
from engine.config.run_file import Run
from engine.models import model_info
from engine.scorers import scorer_kinds
from engine.tools import check_endpoint
from engine.tools.findings import Finding, check, failed, model_files, ok
from storage.records import Prompt

_SHOWN = 200


def findings(run: Run, prompt: Prompt, response: str) -> Iterator[Finding]:
    """Each model behind `quality` found, reached, and made to score one real response."""
    for name, config in run.quality.named.items():
        about = f"quality {name}"
        kind = scorer_kind(config.scorer)
        if kind.endpoint is not None:
            try:
                model = kind.endpoint(config.settings)
            except PersynError as error:
                yield Finding(f"{about}: settings", "failed", error.message, error.remedy)
                continue
            reached = list(check_endpoint.findings(about, model, prompt.messages))
            yield from reached
            if reached[-1].usable:
                yield check(f"{about}: one verdict", _score, config, prompt, response)
            continue
        if kind.local_model is not None:
            files = check(f"{about}: files", _files, *kind.local_model(config.settings))
            yield files
            if not files.usable:
                continue
        if not kind.verifies:
            yield check(f"{about}: one score", _score, config, prompt, response)


def _files(ref: str, revision: str) -> Finding:
    return model_files(model_info.check(ref, revision=revision))


def _score(config: ScorerConfig, prompt: Prompt, response: str) -> Finding:
    settings = scorer_kind(config.scorer).trial(config.settings)
    began = time.monotonic()
    with closing(scorer_kinds.load(config.scorer).create(settings)) as scorer:
        (verdict,) = scorer_kinds.score_all(scorer, [(prompt, response)])
    if verdict.value is not None:
        shown = strip_control(response if len(response) <= _SHOWN else f"{response[:_SHOWN]} …")
        return ok(f"{verdict.value:g} for {shown!r} after {time.monotonic() - began:.1f} s")
    said = "".join(verdict.detail.get("texts", ()))
    reason = verdict.detail.get("reason", f"{verdict.count} tokens do not fit its context")
    if verdict.status == "unverifiable":
        # Rewards that came with published responses know none that is made up here.
        return ok(f"ready; of a response that was made up for this check: {reason}")
    return failed(
        f"{reason}" + (f"; it says {strip_control(said[-_SHOWN:])!r}" if said else ""),
        "raise `max_tokens` of the judge, or use a model that keeps to a form"
        if verdict.status == "unreadable"
        else "use a model with a longer context, or shorter prompts",
    )
