"""Filling the store with one teacher's answers: the part that calibrate and generate share."""

import time
from collections.abc import Callable, Iterator
from contextlib import closing

from engine import backends
from engine.context import Context
from engine.templates import with_system
from storage import responses
from storage.records import Completion, Model, NewResponse, Prompt, Request

COMMIT_ROWS = 500
COMMIT_S = 2.0
PAGE = 2000

Pending = Callable[[int], list[tuple[int, Prompt]]]
"""From a place to go on after, the next (place, prompt) pairs that lack an answer; empty at the end."""


def fill(context: Context, column: int, pending: Pending, count: Callable[[], int], *, done: int = 0) -> int:
    """Number of new rows after asking teacher `column` for every answer that is missing.

    Answers are committed in batches of up to 500 rows or 2 s as they come; a kill loses only the batch in
    flight. The backend is opened only when something is missing, and closed before this returns. Errors are
    stored as typed rows and asked for again at most `generation.max_attempts` times.

    Args:
        column: the teacher's place in `context.teachers`.
        pending: gives what is missing, page by page.
        count: gives how much is missing.
        done: how much is already there, for the progress shown.
    """
    teacher = context.teachers[column]
    missing = count()
    context.progress.expect(done + missing, done=done, row=teacher.name)
    if not missing:
        return 0
    context.progress.flush()
    stored = 0
    with closing(backends.open_backend(teacher)) as backend:
        # A second pass meets only rows that ended in an error; attempts are bounded in the store.
        for _ in range(context.run.generation.max_attempts):
            stored += _pass(context, column, backend, pending)
            if not count():
                break
    return stored


def cost(teacher: Model, completion: Completion) -> float:
    """Dollars for one completion, from the teacher's price per million tokens."""
    return (
        completion.prompt_tokens * teacher.price_input + completion.completion_tokens * teacher.price_output
    ) / 1e6


def _pass(context: Context, column: int, backend: backends.Backend, pending: Pending) -> int:
    teacher, (teacher_id, sha) = context.teachers[column], context.generations[column]
    stored, buffer, last = 0, list[NewResponse](), time.monotonic()

    def commit() -> None:
        nonlocal stored, last
        stored += responses.add(context.store, context.lease, buffer)
        buffer.clear()
        last = time.monotonic()

    try:
        for completion in backend.generate(_requests(context, teacher, pending)):
            buffer.append(
                NewResponse(
                    prompt_id=completion.key,
                    teacher_id=teacher_id,
                    generation_sha=sha,
                    completion=completion,
                    cost=cost(teacher, completion),
                    job_id=context.lease.job_id,
                )
            )
            context.progress.advance(
                tokens=completion.completion_tokens, row=teacher.name, status=completion.status
            )
            if len(buffer) >= COMMIT_ROWS or time.monotonic() - last > COMMIT_S:
                commit()
                context.check()
    finally:
        # What was generated before a cancel or a failing backend is paid for: keep it.
        if buffer:
            commit()
    return stored


def _requests(context: Context, teacher: Model, pending: Pending) -> Iterator[Request]:
    place = -1
    while page := pending(place):
        for place, prompt in page:  # noqa: B007 — the last place is where the next page begins
            if prompt.id is None:
                raise ValueError("a stored prompt has an id")
            yield Request(prompt.id, with_system(teacher.system, prompt.messages), teacher.sampling)
        context.check()
