"""The command line as people start it, and small stores filled through the storage API."""

import json
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import forked
import pytest

from storage import datasets, prompts, registry, responses, routing, scores
from storage.records import (
    Assignment,
    DatasetRow,
    Generation,
    Model,
    NewPlan,
    NewResponse,
    Prompt,
    Response,
    Sampling,
    Score,
)
from storage.store import Store

HOSTILE = "\x1b]0;owned\x07\x1b[31mred\x1b[0m \u202egnp.exe \x9b31m \x08\x7f lone \ud800 [bold]markup[/bold]"
"""Escape sequences, a bidi override, C1, a lone surrogate, and rich's markup."""


@dataclass(frozen=True)
class Ran:
    """What a command printed and how it ended."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        """Its standard output as JSON."""
        return json.loads(self.out)


@pytest.fixture
def persyn(tmp_path: Path) -> Callable[..., Ran]:
    """Runs `persyn ARGUMENTS` as a process, on the store `tmp_path/store.db`, in a data folder of its own."""

    def run(*arguments: str, **variables: str) -> Ran:
        environment = {
            **os.environ,
            "PERSYN_STORE": str(tmp_path / "store.db"),
            "XDG_DATA_HOME": str(tmp_path / "data"),
            "HF_HUB_OFFLINE": "1",
            "OMP_NUM_THREADS": "1",
            "COLUMNS": "200",
            **variables,
        }
        process = forked.start([*map(str, arguments)], environment, tmp_path, engine=False)
        try:
            out, err = process.communicate(timeout=120)
        finally:
            process.kill()
        return Ran(process.returncode, out, err)

    return run


def answer(prompt_id: int, teacher_id: int, text: str, status: str = "ok") -> NewResponse:
    """A stored answer of 7 tokens."""
    finish = {"ok": "stop", "truncated": "length"}.get(status, "error")
    completion = Response(prompt_id, text, status, finish, 5, 7, 0.25)  # type: ignore[arg-type]
    return NewResponse(prompt_id, teacher_id, f"sha-{teacher_id}", completion, cost=0.001)


@dataclass(frozen=True)
class Filled:
    """What `filled` put into the store."""

    path: Path
    prompts: list[int]
    answers: dict[tuple[int, str], int]
    """(place of the prompt, teacher) → response id."""
    dataset: int


@pytest.fixture
def filled(tmp_path: Path) -> Filled:
    """3 prompts, 2 teachers, 5 answers (one truncated), scores, a plan with strengths, a dataset of 2 rows.

    The second prompt and every answer to it are hostile text.
    """
    path = tmp_path / "store.db"
    with Store.open(path) as store:
        alpha, beta = (
            registry.put(
                store,
                Model(
                    name, "teacher", "transformers", f"zoo:{name}", system="Be brief.", sampling=Sampling(0.5)
                ),
                f"identity-{name}",
            )
            for name in ("alpha", "beta")
        )
        assert alpha.id is not None
        assert beta.id is not None
        ids = {"alpha": alpha.id, "beta": beta.id}
        texts = ["What is 1 + 1?", HOSTILE, "Spell cat."]
        prompt_set = prompts.open_set(store, "set", "demo")
        prompts.add(
            store,
            None,
            prompt_set.id,
            [
                Prompt(
                    ({"role": "user", "content": text},),
                    "2",
                    {"kind": "text"},
                    f"file:{i}",
                    split="synthesis",
                )
                for i, text in enumerate(texts)
            ],
            0,
        )
        prompts.finish_set(store, None, prompt_set.id, {})
        numbers = [prompt.id or 0 for _, prompt in prompts.page(store, prompt_set.id)]
        rows = [
            answer(numbers[0], ids["alpha"], "The answer is 2."),
            answer(numbers[0], ids["beta"], "It equals 3, surely."),
            answer(numbers[1], ids["alpha"], HOSTILE),
            answer(numbers[1], ids["beta"], f"{HOSTILE} beta"),
            answer(numbers[2], ids["beta"], "c a", "truncated"),
        ]
        responses.add(store, None, rows)
        generations = [Generation(number, f"sha-{number}") for number in ids.values()]
        stored = responses.of_prompts(store, numbers, generations)
        answers = {
            (place, name): stored[number][teacher].id
            for place, number in enumerate(numbers)
            for name, teacher in ids.items()
            if teacher in stored[number]
        }
        exact = scores.put_scorer(store, "exact_answer", {"version": 1})
        likely = scores.put_scorer(store, "learnability", {"version": 1, "note": HOSTILE})
        scores.add(
            store,
            None,
            exact,
            [
                (answers[0, "alpha"], Score(1.0, detail={"extracted": HOSTILE})),
                (answers[0, "beta"], Score(0.0)),
                (answers[1, "alpha"], Score(0.0)),
            ],
        )
        scores.add(store, None, likely, [(answers[0, "alpha"], Score(-0.5, -3.5, 7))])
        plan = routing.open_plan(
            store, None, NewPlan("plan", "persyn", prompt_set.id, None, {"teachers": ["alpha", "beta"]})
        )
        routing.assign(
            store,
            None,
            plan.id,
            [Assignment(numbers[i], ids["alpha"], 0, (0.75, -0.25), 1.0) for i in (0, 1)],
        )
        routing.finish_plan(store, None, plan.id)
        dataset = datasets.open_dataset(store, None, "dataset", plan.id, "demo/persyn", {})
        datasets.add(
            store,
            None,
            dataset.id,
            [
                DatasetRow(numbers[0], answers[0, "alpha"], 1.0, -0.5, 0.25),
                DatasetRow(numbers[1], answers[1, "alpha"], 0.0, None, None),
            ],
        )
        manifest = {"strategy": "persyn", "left_out": {"truncated": 1}, "reward": {"alpha": 0.4}}
        datasets.finish(store, None, dataset.id, manifest)
        return Filled(path, numbers, answers, dataset.id)
