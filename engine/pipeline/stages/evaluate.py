"""Stage `evaluate`: the student answers the evaluation prompts before and after each distillation.

Every student answers the same prompts greedily, so that two of them can be compared prompt by prompt. What is
measured is right answers, whatever scorer quality has.
"""

from collections.abc import Generator, Iterator, Sequence
from contextlib import closing
from dataclasses import replace
from typing import Any

import numpy as np

from engine.base.errors import ConfigError, ScoreError
from engine.config.run_file import Run
from engine.generation.student_server import StudentServer
from engine.generation.watched import watched
from engine.job.batch_writer import LOCAL_S, SERVED_S, BatchWriter
from engine.job.context import RunContext
from engine.job.identity import CORRECTNESS
from engine.methods import statistics
from engine.models import memory
from engine.models.chat_template import with_system
from engine.models.devices import this_machine
from engine.registry import evaluation_backend
from engine.scorers import scorer_kinds
from engine.teachers import teacher_kinds
from engine.teachers.traffic import Traffic
from storage import prompts, results
from storage.records import Adapter, Prompt, Request, Response, Result

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
    for strategy in (unmeasured := [one for one in students if not _measured(context, one)]):
        # All of them now: the ETA is the stage's.
        context.progress.expect(total, row=strategy or "before", unit="responses", lane=0)
    if unmeasured:
        context.progress.say(f"evaluate: the student answers through {_through(context.run)}")
    for strategy in students:
        context.control.check()
        _evaluate(context, strategy, total)


def _measured(context: RunContext, strategy: str | None) -> bool:
    found = results.evaluation(context.store, context.evaluation_sha(strategy))
    return found is not None and found.complete


def _through(run: Run) -> str:
    """What answers for the student and, where that was not set, why."""
    asked = run.evaluation.backend
    if asked is not None:
        return asked
    reason = evaluation_backend.why_transformers(run, this_machine().among(run.devices))
    return f"transformers: {reason or 'as was settled when the job was made'}"


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
    asked: dict[int, Prompt] = {}
    with (
        closing(_opened(context, label, adapter)) as backend,
        closing(
            scorer_kinds.load(CORRECTNESS).create(context.identity.scorer(CORRECTNESS).settings)
        ) as scorer,
    ):
        window = SERVED_S if isinstance(backend, teacher_kinds.Remote) else LOCAL_S
        observed = isinstance(backend, teacher_kinds.Observable)
        writer = BatchWriter[Result](
            lambda rows: results.add_results(context.store, context.lease, evaluation.id, rows)
        )
        requests = _requests(context, evaluation.id, asked)
        try:
            with closing(_responses(context, label, backend, requests, writer)) as responses:
                for response in responses:
                    writer.add(_judge(scorer, asked.pop(response.key), response), window)
                    tokens = 0 if observed else response.completion_tokens
                    context.progress.advance(tokens=tokens, row=label, status=response.status)
                    writer.flush_if_due()
                    context.control.check()
        finally:
            writer.flush()
        context.control.check()  # a part of the answers is no accuracy
    summary = summarise(results.results(context.store, evaluation.id))
    summary["backend"] = context.run.evaluation.backend or "transformers"
    results.finish_evaluation(context.store, context.lease, evaluation.id, summary)
    context.progress.say(
        f"evaluate: {label}: {summary['accuracy']:.1%} ({summary['ci_low']:.1%} to {summary['ci_high']:.1%}, "
        f"n={summary['n']:,}), stops by itself {summary['stops']:.1%}"
    )


def _opened(context: RunContext, label: str, adapter: Adapter | None) -> teacher_kinds.Backend:
    """What gives the answers of the student, with the weights of `adapter` (None: its own)."""
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
        if context.run.evaluation.backend != evaluation_backend.VLLM:
            return teacher_kinds.open_backend(context.placed(student))
        memory.give_back()  # vLLM wants nearly all of a GPU
        name = f"{student.name}-{label}"
        return StudentServer(student, name, context.run.evaluation.server, context.store.folder)


def _requests(context: RunContext, evaluation_id: int, asked: dict[int, Prompt]) -> Iterator[Request]:
    """What has no result yet, as it is needed; each prompt is noted in `asked` by its key."""
    student, after = context.student, -1
    while page := results.pending_evaluation(context.store, evaluation_id, after=after, limit=PAGE):
        for after, prompt in page:  # noqa: B007 — the last place is where the next page begins
            key = prompt.id or 0
            asked[key] = prompt
            yield Request(key, with_system(student.system, prompt.messages), student.sampling)


def _responses(
    context: RunContext,
    label: str,
    backend: teacher_kinds.Backend,
    requests: Iterator[Request],
    writer: BatchWriter[Result],
) -> Generator[Response]:
    """The student's answers as they come; meanwhile what moves is shown, what came is stored, a stop is heard."""
    progress, control = context.progress, context.control

    def passed(tokens: int) -> None:
        progress.advance(0, tokens=tokens, row=label)
        writer.flush_if_due()

    if isinstance(backend, teacher_kinds.Observable):
        backend.observe(passed, control.cancelled)
    if not isinstance(backend, teacher_kinds.Remote):
        yield from backend.generate(requests)
        return
    answered = 0

    def look() -> None:
        control.check()
        writer.flush_if_due()
        progress.works_on(label)
        progress.traffic(label, backend.traffic())
        if isinstance(backend, teacher_kinds.Metered) and (gauges := backend.gauges()):
            progress.values(answered, {f"{label} {name}": value for name, value in gauges.items()})

    with closing(watched(backend, requests, look)) as responses:
        for response in responses:
            answered += 1
            yield response
    progress.traffic(label, Traffic())


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
