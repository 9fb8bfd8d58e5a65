"""One stored response with all that is known of it, for `persyn data show`: as JSON, and as text for people."""

import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from engine.base.plugins import SCORERS
from engine.base.sanitize import strip_control
from engine.config.kinds import scorer_kind
from persyn_tui.views.dataset_view import Datasets
from storage.records import ResponseContext

if TYPE_CHECKING:
    # NumPy comes with it, which the first rows of the data screen do not wait for.
    from engine.scoring.rewards_for_prompt import Rewards

Names = Mapping[int, Sequence[str]]
"""Plan id → the teachers that its strengths belong to."""


def as_json(
    found: ResponseContext,
    beside: Sequence[ResponseContext],
    names: Names,
    rewards: "Rewards",
    datasets: Datasets,
) -> dict[str, Any]:
    """Everything about the response as plain JSON, harmless to a terminal.

    Args:
        found: the response.
        beside: all responses to its prompt, or none.
        names: of the plans that gave its prompt to a teacher.
        rewards: of all responses to the prompt, on one scale.
        datasets: of the store.
    """
    response, prompt, teacher = found.line.response, found.line.prompt, found.teacher
    made_with = rewards.setting
    data = {
        "id": response.id,
        "prompt": {
            "id": prompt.id,
            "source": prompt.source,
            "messages": [dict(message) for message in prompt.messages],
            "answer": prompt.answer,
            "verifier": None if prompt.verifier is None else prompt.verifier.get("kind"),
        },
        "text": response.text,
        "reasoning": response.reasoning,
        "status": response.status,
        "finish_reason": response.finish_reason,
        "error": response.error,
        "prompt_tokens": response.prompt_tokens,
        "completion_tokens": response.completion_tokens,
        "latency_s": response.latency_s,
        "cost": response.cost,
        "scores": _scores(found),
        "reward": rewards.values.get(response.id),
        "reward_by": made_with and {"words": datasets.words_of(made_with), **asdict(made_with)},
        "answers": [_beside(other, rewards) for other in beside],
        "provenance": {
            "teacher": teacher.name,
            "backend": teacher.backend,
            "model": teacher.model,
            "revision": teacher.revision,
            "system": teacher.system,
            "sampling": asdict(teacher.sampling),
            "generation_sha": response.generation_sha,
            "sample": response.sample,
            "attempts": found.attempts,
            "job": found.job_id,
            "created_at": found.line.created_at,
        },
        "assignments": [
            {
                "plan": stored.plan_id,
                "strategy": stored.strategy,
                "attempt": stored.assignment.attempt,
                "margin": stored.assignment.margin,
                "strengths": _strengths(stored.assignment.strengths, names.get(stored.plan_id, ())),
            }
            for stored in found.assignments
        ],
        "datasets": [
            {
                "id": member.dataset_id,
                "name": member.dataset,
                "reward": member.reward,
                "reward_by": datasets.reward_words(member.dataset_id),
                "excluded": member.excluded,
            }
            for member in found.datasets
        ],
    }
    harmless: dict[str, Any] = _printable(data)
    return harmless


def halves(scores: Mapping[str, float | None]) -> tuple[float | None, float | None]:
    """(quality, learnability) of scores by the scorer's kind, oldest first: the newest known of each, or None."""
    student = {kind for kind in scores if kind in SCORERS.names() and scorer_kind(kind).of_student}
    known = [(kind in student, value) for kind, value in reversed([*scores.items()]) if value is not None]
    quality, learnability = (
        next((value for of_student, value in known if of_student == half), None) for half in (False, True)
    )
    return quality, learnability


def show(data: Mapping[str, Any]) -> None:
    """Prints a response of `as_json` for people."""
    console = Console(highlight=False)
    if not console.is_terminal:
        console = Console(highlight=False, width=160)

    def head(text: str) -> None:
        console.print(Text(f"\n{text}", style="bold"))

    def line(text: str) -> None:
        console.print(Text(f"  {text}"))

    prompt = data["prompt"]
    console.print(
        Text(
            f"response {data['id']} · {data['provenance']['teacher']} · {data['status']} ({data['finish_reason']}) · "
            f"{data['completion_tokens']:,} tokens in {data['latency_s']:.2f} s · ${data['cost']:.6f}",
            style="bold",
        )
    )
    head(f"prompt {prompt['id']} · {prompt['source']}")
    for message in prompt["messages"]:
        line(f"[{message['role']}] {message['content']}")
    if prompt["answer"] is not None:
        line(f"reference answer: {prompt['answer']}")
    if data["reasoning"]:
        head("reasoning")
        line(data["reasoning"])
    head("response" if not data["error"] else "error")
    line(data["error"] or data["text"])
    head("scores")
    for said in score_lines(data):
        line(said)
    line(reward_line(data))
    by = data["reward_by"]
    head(f"all responses to prompt {prompt['id']}" + (f", rewards by {by['words']}" if by else ""))
    view = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for column in ("", "id", "teacher", "status", "tokens", "scores", "reward", "response"):
        view.add_column(column, justify="right" if column in ("id", "tokens", "reward") else "left")
    for row in data["answers"]:
        known = [score for score in row["scores"] if score["value"] is not None]
        cells = (
            "▸" if row["id"] == data["id"] else "",
            str(row["id"]),
            row["teacher"],
            row["status"],
            f"{row['completion_tokens']:,}",
            "\n".join(f"{score['kind']} {score['value']:.3f}" for score in known),
            "–" if row["reward"] is None else f"{row['reward']:+.3f}",
            row["text"] or row["error"],
        )
        view.add_row(*map(Text, cells))
    console.print(view)
    head("provenance")
    for said in origin_lines(data):
        line(said)


def score_lines(data: Mapping[str, Any]) -> list[str]:
    """A line per score of `as_json`: kind, value, status, what it is made of."""
    lines = []
    many = Counter(score["kind"] for score in data["scores"])
    for score in data["scores"]:
        raw = f"  ({score['sum']:.4g} over {score['count']:,} tokens)" if score["sum"] is not None else ""
        value = "–" if score["value"] is None else f"{score['value']:.4f}"
        detail = f"  {score['detail']}" if score["detail"] else ""
        status = "" if score["status"] == "ok" else score["status"]
        who = score["kind"] + (f" (scorer {score['scorer']})" if many[score["kind"]] > 1 else "")
        who += " with reasoning" if score["sees_reasoning"] else ""
        lines.append(f"{who} {value} {status}{raw}{detail}")
    return lines


def reward_line(data: Mapping[str, Any]) -> str:
    """The reward of `as_json` and what it was made with."""
    value = "–" if data["reward"] is None else f"{data['reward']:+.4f}".replace("-", "−")
    by = data["reward_by"]
    if by is None or data["reward"] is None:
        return f"reward {value}"
    return f"reward {value}  by {by['words']}, among {len(by['teachers'])} teachers"


def origin_lines(data: Mapping[str, Any]) -> list[str]:
    """Where the response of `as_json` came from, and the plans and datasets that hold it."""
    origin = data["provenance"]
    lines = [f"{origin['backend']} {origin['model']} {origin['revision']}"]
    if origin["system"]:
        lines.append(f"system: {origin['system']}")
    lines.append("sampling: " + ", ".join(f"{key} {value}" for key, value in origin["sampling"].items()))
    made = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(origin["created_at"]))
    job = f"job {origin['job']}" if origin["job"] is not None else "no job"
    lines.append(
        f"{job} · {made} · attempt {origin['attempts']} · generation {origin['generation_sha'][:16]}"
    )
    for plan in data["assignments"]:
        margin = "" if plan["margin"] is None else f", margin {plan['margin']:.3f}"
        lines.append(f"plan {plan['plan']} ({plan['strategy']}): attempt {plan['attempt']}{margin}")
        if plan["strengths"]:
            ranked = sorted(plan["strengths"].items(), key=lambda item: -item[1])
            lines.append("  strengths: " + "  ".join(f"{name} {value:+.3f}" for name, value in ranked))
    for member in data["datasets"]:
        excluded = " (excluded)" if member["excluded"] else ""
        reward = "" if member["reward"] is None else f", reward {member['reward']:+.4f}".replace("-", "−")
        by = f" by {member['reward_by']}" if reward and member["reward_by"] else ""
        lines.append(f"dataset {member['id']} {member['name']}{excluded}{reward}{by}")
    return lines


def _scores(found: ResponseContext) -> list[dict[str, Any]]:
    return [
        {
            "kind": score.kind,
            "scorer": score.scorer_id,
            "sees_reasoning": bool(score.identity.get("reasoning")),
            "value": score.score.value,
            "sum": score.score.sum,
            "count": score.score.count,
            "status": score.score.status,
            "detail": dict(score.score.detail),
        }
        for score in found.scores
    ]


def _beside(other: ResponseContext, rewards: "Rewards") -> dict[str, Any]:
    response = other.line.response
    return {
        "id": response.id,
        "teacher": other.line.teacher,
        "status": response.status,
        "completion_tokens": response.completion_tokens,
        "scores": [{"kind": score["kind"], "value": score["value"]} for score in _scores(other)],
        "reward": rewards.values.get(response.id),
        "text": response.text,
        "error": response.error,
    }


def _strengths(values: Sequence[float] | None, names: Sequence[str]) -> dict[str, float]:
    if values is None:
        return {}
    labels = names if len(names) == len(values) else [f"#{place}" for place in range(len(values))]
    return dict(zip(labels, values, strict=True))


def _printable(value: Any) -> Any:
    if isinstance(value, str):
        return strip_control(value)
    if isinstance(value, Mapping):
        return {strip_control(str(key)): _printable(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_printable(item) for item in value]
    return value
