"""The own score of a reasoning-gym task, for prompts of the source `reasoning_gym`.

What is stored with a prompt: `task`, and `entry` with the question, the answer and the task's metadata.
"""

import json
from collections.abc import Callable, Mapping
from functools import lru_cache
from importlib import import_module
from typing import Any

from engine.config.kinds import VerifierKind
from engine.verifiers.answer_extraction import MAX_CHARS, extract_final_answer, find_marked
from engine.verifiers.comparison import FULL_SCORE, UnverifiableError, is_number


def verify(verifier: Mapping[str, Any], reference: Any, text: str) -> tuple[float, str]:
    """The task's own score of the extracted answer.

    An entry that came through JSON may have lost tuples or integer keys that its task needs. The test for it
    is the reference answer: unless that gets the full score, nothing is judged.
    """
    task, entry = str(verifier.get("task")), verifier.get("entry")
    if not isinstance(entry, Mapping):
        raise UnverifiableError("the verifier has no `entry`")
    score = _score_function(task)
    if not _reference_passes(task, json.dumps(entry, sort_keys=True)):
        raise UnverifiableError(
            f"task {task!r} does not accept its own reference answer after storage as JSON"
        )
    extracted = extract_final_answer(text, numeric=is_number(entry.get("answer")))
    # Decoration may have been part of the answer: quotes of a string, a final full stop.
    marked = (find_marked(text) or text[-MAX_CHARS:]).strip()
    return max(_attempt(score, form, entry) for form in dict.fromkeys((extracted, marked))), extracted


def _attempt(score: Callable[[str, Any], float], answer: str, entry: Mapping[str, Any]) -> float:
    """The task's score; 0.0 when its code fails on the answer, since it did not fail on the reference."""
    try:
        return float(score(answer, entry))
    except Exception:
        return 0.0


@lru_cache(maxsize=64)
def _score_function(task: str) -> Callable[[str, Any], float]:
    # Here, because reasoning-gym takes a second and only the worker process compares.
    from reasoning_gym import get_score_answer_fn

    try:
        found: Callable[[str, Any], float] = get_score_answer_fn(task)
    except (ValueError, AssertionError) as error:
        raise UnverifiableError(f"reasoning-gym has no task {task!r}: {error}") from error
    return found


@lru_cache(maxsize=256)
def _reference_passes(task: str, entry_json: str) -> bool:
    entry = json.loads(entry_json)
    answer = entry.get("answer")
    if answer is None:
        return True  # tasks such as countdown accept any answer that fits their metadata
    try:
        return float(_score_function(task)(str(answer), entry)) >= FULL_SCORE
    except UnverifiableError:
        raise
    except Exception:
        return False


KIND = VerifierKind(verify=verify, stored=None, prepare=lambda: import_module("reasoning_gym"))
