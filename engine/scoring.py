"""Filling the store with scores: shared by the stage `score` and by the scoring of dataset rows."""

from collections.abc import Sequence
from contextlib import closing

from engine import scorers
from engine.context import Context
from storage import scores
from storage.records import Split

PAGE = 2000


def names(context: Context) -> tuple[str, ...]:
    """The scorers of this run: those of quality, and learnability last."""
    return *context.run.quality.named, "learnability"


def scorer_id(context: Context, name: str) -> int:
    """Row id of the scorer with exactly this run's settings."""
    model_id = context.student_id if name == "learnability" else None
    return scores.put_scorer(
        context.store, context.scorer_kind(name), context.scorer_identity(name), model_id
    )


def fill(context: Context, name: str, splits: Sequence[Split], plan_ids: Sequence[int] | None = None) -> int:
    """Number of new scores after scoring every usable answer that lacks one by this scorer.

    Args:
        name: the scorer.
        splits: which prompts' answers.
        plan_ids: only answers that these plans assign; None for the answers of every teacher.
    """
    scorer = scorer_id(context, name)
    where = (context.store, scorer, context.generations, context.prompt_set, splits)
    missing = scores.count_pending(*where, plan_ids=plan_ids)
    context.progress.expect(missing, row=name, unit="answers")
    if not missing:
        return 0
    context.progress.flush()
    done = 0
    with closing(scorers.load(context.scorer_kind(name)).create(context.scorer_settings(name))) as model:
        after = (-1, 0)
        while page := scores.pending(*where, plan_ids=plan_ids, after=after, limit=PAGE):
            context.check()
            verdicts = model.score([(row.prompt, row.text) for row in page])
            rows = [(row.response_id, verdict) for row, verdict in zip(page, verdicts, strict=True)]
            scores.add(context.store, context.lease, scorer, rows)
            tokens = sum(verdict.count or 0 for verdict in verdicts)
            context.progress.advance(len(page), tokens=tokens, row=name)
            done += len(page)
            after = (page[-1].ordinal, page[-1].teacher_id)
    return done
