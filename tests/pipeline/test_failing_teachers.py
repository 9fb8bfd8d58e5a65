"""A teacher that fails is named at the end, whatever the exit code, and one that is refused for good ends the job."""

import json
from typing import Any

from support import RUN, Workspace, good
from teachers.endpoint import Endpoint, Reply, answer

from persyn_tui.app.screens.generation import formatting, query
from persyn_tui.app.state.cached_query import QueryCache
from storage import jobs
from storage.jobs import Job

REFUSED = {"detail": [{"loc": ["body", "seed"], "msg": "Extra inputs are not permitted"}]}


def run(workspace: Workspace, near: Endpoint, far: Endpoint, sampling: str = "") -> tuple[int, Job]:
    start, end = RUN.index("  - {name: brief"), RUN.index("prompts:")
    teachers = (
        f"  - {{name: near, backend: openai, model: m, base_url: {near.url}}}\n"
        f"  - {{name: far, backend: openai, model: n, base_url: {far.url}, sampling: {{{sampling}}}}}\n"
    )
    workspace.write(
        (RUN[:start] + teachers + RUN[end:]).replace("generation: {", "generation: {max_attempts: 1, ")
    )
    code, job, _ = workspace.work("calibrate")
    return code, job


def said(workspace: Workspace, job: Job) -> list[str]:
    with workspace.open() as store:
        return [event.message for event in jobs.events(store, job.id)]


def test_a_refused_parameter_needs_attention_and_is_mended_by_null(workspace: Workspace) -> None:
    def script(body: dict[str, Any], number: int) -> Reply:
        return Reply(422, json.dumps(REFUSED).encode()) if "seed" in body else good(body, number)

    with Endpoint(good) as near, Endpoint(script) as far:
        code, job = run(workspace, near, far)
        assert (code, job.state) == (3, "needs_attention")
        assert "HTTP 422: body.seed: Extra inputs are not permitted" in job.error
        assert "sampling: {seed: null}" in job.error
        assert len(far.requests) <= 8  # those that were on their way
        asked = len(near.requests)
        code, job = run(workspace, near, far, "seed: null")
        assert (code, job.state) == (0, "done")
        assert len(near.requests) == asked
        assert all("seed" not in request for request in far.requests[-20:])
    assert not [line for line in said(workspace, job) if "no usable response" in line]


def test_a_teacher_that_fails_on_most_prompts_is_named_though_the_run_ends_well(workspace: Workspace) -> None:
    def script(body: dict[str, Any], number: int) -> Reply:
        if number % 3 == 0:
            return good(body, number)
        return (
            answer("It was", "fuse_blown")
            if number % 3 == 1
            else Reply(400, b'{"detail": "odd\\n2026 forged"}')
        )

    with Endpoint(good) as near, Endpoint(script) as far:
        code, job = run(workspace, near, far)
    assert (code, job.state) == (0, "done")
    lines = said(workspace, job)
    (named,) = [line for line in lines if "no usable response" in line]
    assert named.startswith("teacher `far` has no usable response to ")
    assert "the last error: HTTP 400: odd 2026 forged" in named
    (told,) = [line for line in lines if "is not known, so what ends with it counts as cut off" in line]
    assert "`finish_reasons: {fuse_blown: stop}` in `endpoint`" in told
    assert any("ended in a way that is not known (fuse_blown: " in line for line in lines)
    with workspace.open() as store:
        shown = query.read(store, job.id, QueryCache())
    assert shown is not None
    assert "▲ far: no usable response to" in formatting.label(shown.teachers)
    assert "near" not in formatting.label(shown.teachers)
