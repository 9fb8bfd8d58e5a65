"""Stage `evaluate`: the student answers the evaluation prompts before and after each distillation.

Every student answers the same prompts greedily, so that two of them can be compared prompt by prompt. What is
measured is right answers, whatever scorer quality has.
"""

from collections.abc import Sequence
from contextlib import closing
from dataclasses import replace
from typing import Any

import numpy as np

from engine.base.errors import ConfigError, ScoreError
from engine.job.batch_writer import LOCAL_S, BatchWriter
from engine.job.context import RunContext
from engine.job.identity import CORRECTNESS
from engine.methods import statistics
from engine.models.chat_template import with_system
from engine.scorers import scorer_kinds
from engine.teachers import teacher_kinds
from storage import prompts, results
from storage.records import Prompt, Request, Response, Result

PAGE = 1000


def run(context: RunContext) -> None:
    """Measures the student before training and each trained one, as far as it has not been done."""
    counts = prompts.counts(context.store, context.prompt_set)
    total = counts.get("evaluation", 0)
    if not total:
        context.progress.say("evaluate: the run file has no evaluation prompts", "warning")
        return
    if not any(p.verifier for p in prompts.iterate(context.store, context.prompt_set, ("evaluation",))):
        context.progress.say(
            "evaluate: no evaluation prompt has a verifier, so nothing is right or wrong", "warning"
        )
        return
    if (baseline := majority(context)) is not None:
        context.progress.say(
            f"evaluate: always giving each source's most frequent answer is right {baseline:.1%}"
        )
    students = (None, *context.run.strategies)
    for strategy in students:
        found = results.evaluation(context.store, context.evaluation_sha(strategy))
        if found is None or not found.complete:  # all of them now: the ETA is the stage's
            context.progress.expect(total, row=strategy or "before", unit="responses", lane=0)
    for strategy in students:
        context.control.check()
        _evaluate(context, strategy, total)


def _evaluate(context: RunContext, strategy: str | None, total: int) -> None:
    label = strategy or "before"
    adapter = None
    if strategy is not None:
        adapter = results.adapter(context.store, context.adapter_sha(strategy))
        if adapter is None or not adapter.complete:
            raise ConfigError(f"strategy `{strategy}`: the student has not been trained", "run distill first")
    evaluation = results.open_evaluation(
        context.store,
        context.lease,
        context.evaluation_sha(strategy),
        context.student_id,
        None if adapter is None else adapter.id,
        context.prompt_set,
    )
    done = results.count_results(context.store, evaluation.id)
    if evaluation.complete and done >= total:
        return
    context.progress.expect(total, done=done, row=label, unit="responses", lane=0)
    context.progress.works_on(label)
    context.progress.doing(f"loading {context.student.name} ({label})", label)
    student = context.student
    if adapter is not None:
        merged = adapter.metrics.get("merged")
        folder = str(context.store.folder / str(merged or adapter.path))
        if merged or context.run.distill.method == "full":
            # The merged model was checked against the live adapter's logits when it was written.
            student = replace(student, model=folder, revision="")
        else:
            student = replace(student, options={**student.options, "adapter": folder})
    with context.control.at_once():
        backend = teacher_kinds.open_backend(context.placed(student))
    with (
        closing(backend),
        closing(
            scorer_kinds.load(CORRECTNESS).create(context.identity.scorer(CORRECTNESS).settings)
        ) as scorer,
    ):
        observed = isinstance(backend, teacher_kinds.Observable)
        if isinstance(backend, teacher_kinds.Observable):
            backend.observe(
                lambda tokens: context.progress.advance(0, tokens=tokens, row=label),
                context.control.cancelled,
            )
        writer = BatchWriter[Result](
            lambda rows: results.add_results(context.store, context.lease, evaluation.id, rows)
        )
        after = -1
        while page := results.pending_evaluation(context.store, evaluation.id, after=after, limit=PAGE):
            context.control.check()
            by_id = {prompt.id or 0: prompt for _, prompt in page}
            requests = [
                Request(key, with_system(student.system, prompt.messages), student.sampling)
                for key, prompt in by_id.items()
            ]
            try:
                for completion in backend.generate(requests):
                    writer.add(_judge(scorer, by_id[completion.key], completion), LOCAL_S)
                    tokens = 0 if observed else completion.completion_tokens
                    context.progress.advance(tokens=tokens, row=label, status=completion.status)
                    writer.flush_if_due()
                    context.control.check()
            finally:
                writer.flush()
            context.control.check()  # a part of the answers is no accuracy
            after = page[-1][0]
    summary = summarise(results.results(context.store, evaluation.id))
    results.finish_evaluation(context.store, context.lease, evaluation.id, summary)
    context.progress.say(
        f"evaluate: {label}: {summary['accuracy']:.1%} ({summary['ci_low']:.1%} to {summary['ci_high']:.1%}, "
        f"n={summary['n']:,}), stops by itself {summary['stops']:.1%}"
    )


def _judge(scorer: scorer_kinds.Scorer, prompt: Prompt, response: Response) -> Result:
    """The result; a response that is cut off, empty or missing is a wrong answer of the student."""
    value: float | None = 0.0
    if response.status == "ok":
        value = scorer_kinds.score_all(scorer, [(prompt, response.text)])[0].value
    return Result(response.key, value, response.text, response.status, response.completion_tokens)


def summarise(rows: Sequence[Result]) -> dict[str, Any]:
    """Accuracy with its 95% Wilson interval, how many answers were whole, mean length in tokens.

    An answer counts as right when its value is 1; graded values below that are wrong.
    """
    judged = [row.value >= 1 for row in rows if row.value is not None]
    if not judged:
        raise ScoreError(
            "evaluate: not one answer could be judged", "give the evaluation prompts an answer and a verifier"
        )
    found = statistics.accuracy(judged)
    return {
        "n": found.count,
        "unjudged": len(rows) - found.count,
        "accuracy": found.accuracy,
        "ci_low": found.low,
        "ci_high": found.high,
        "stops": float(np.mean([row.status != "truncated" for row in rows])),
        "mean_tokens": float(np.mean([row.completion_tokens for row in rows])),
    }


def majority(context: RunContext) -> float | None:
    """Accuracy of always giving the most frequent reference answer of a prompt's source; None without references."""
    answers: dict[str, list[str]] = {}
    for prompt in prompts.iterate(context.store, context.prompt_set, ("evaluation",)):
        if prompt.answer is not None:
            source = prompt.source.rsplit(":", 1)[0] if prompt.source[-1:].isdigit() else prompt.source
            answers.setdefault(source, []).append(prompt.answer)
    total = sum(map(len, answers.values()))
    if not total:
        return None
    return (
        sum(statistics.majority(given).accuracy.accuracy * len(given) for given in answers.values()) / total
    )
