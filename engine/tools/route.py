"""`python -m engine route PROMPT…`: which teacher a trained router chooses, and why.

The reason is shown as evidence: the calibration prompts nearest to the prompt in the router's own pooled space,
with the scores that the teachers' real responses to them have.
"""

import argparse
import json
import math
import sys
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from engine.base.errors import ConfigError
from engine.base.sanitize import json_line, strip_control
from engine.methods import policy
from engine.router.manifest import Teacher
from engine.router.model import Router
from engine.sources import source_kinds
from engine.sources.tables import FileSource
from storage import prompts, registry, responses, routing, scores
from storage.records import Generation, Messages, Prompt, RouterRecord
from storage.store import Store

CALIBRATION_LIMIT = 1000
"""Calibration prompts that are encoded to look for neighbours."""

USUAL_COUNT = 20


def main(options: argparse.Namespace) -> int:
    """Exit code 0 when every prompt has been routed; prints strengths, choice, margin and neighbours.

    With `--follow` it answers each conversation on stdin as it comes: the router is read once.
    """
    asked: list[Messages] = [({"role": "user", "content": text},) for text in options.prompts]
    if options.file:
        file = FileSource(source="jsonl", path=options.file)
        asked += [prompt.messages for _, prompt in source_kinds.read(file)]
    if any(not str(messages[-1]["content"]).strip() for messages in asked):
        raise ConfigError("a prompt to route is empty", "give its text in quotes")
    if not asked and not options.follow:
        raise ConfigError("there is no prompt to route", "give a prompt in quotes, or --file FILE.jsonl")
    store = Store.open(create=False)
    record = _record(store, options.router)
    router = Router.load(Path(store.folder) / record.path)
    near = _Neighbours(store, record, router, options.neighbours)
    about = {
        "id": record.id,
        "alpha": router.manifest.labelling.alpha if router.manifest else None,
        "hit_at_1": record.metrics.get("hit_at_1"),
        "calibration_prompts": near.count,
    }
    if options.follow:
        for line in sys.stdin:
            _emit(about, _routed(router, near, [json.loads(line)]))
        return 0
    found = _routed(router, near, asked)
    if options.json:
        _emit(about, found)
    else:
        _show(about, found, near)
    return 0


def _routed(router: Router, near: "_Neighbours", asked: Sequence[Messages]) -> list[dict[str, Any]]:
    strengths = router.strengths(asked)
    decided = policy.choose(strengths)
    pooled = near.normalised(asked)
    names = [teacher.name for teacher in router.teachers]
    return [
        {
            "prompt": strip_control(str(messages[-1]["content"])),
            "choice": names[decided.choices[row]],
            "margin": float(decided.margins[row]),
            "strengths": {names[column]: float(strengths[row, column]) for column in decided.ranking[row]},
            "nearest": near.of(pooled[row]),
            "unlike": near.unlike(pooled[row]),
        }
        for row, messages in enumerate(asked)
    ]


def _emit(about: dict[str, Any], found: list[dict[str, Any]]) -> None:
    print(json_line({"router": about, "prompts": found}), flush=True)


class _Neighbours:
    """The calibration prompts that a router was trained on, in its pooled space."""

    def __init__(self, store: Store, record: RouterRecord, router: Router, wanted: int) -> None:
        self._store, self._router, self._wanted = store, router, wanted
        prompt_set = routing.routed_prompt_set(store, record.id)
        self._prompts: list[Prompt] = []
        if prompt_set is not None:
            page = prompts.page(store, prompt_set, ("calibration",), limit=CALIBRATION_LIMIT)
            self._prompts = [prompt for _, prompt in page]
        self.count = len(self._prompts)
        self._vectors = self.normalised([prompt.messages for prompt in self._prompts])
        self._generations, self._names = _generations(store, router.teachers)

    def normalised(self, asked: Sequence[Messages]) -> NDArray[np.float32]:
        """Pooled hidden states (B, H) as the head sees them, each of length 1: their products are cosines."""
        if not asked:
            return np.zeros((0, self._router.source.hidden), dtype=np.float32)
        with torch.no_grad():
            pooled = self._router.pooled(self._router.encode(asked))
            seen = (pooled - self._router.mean) / self._router.deviation
            return np.asarray(torch.nn.functional.normalize(seen.float(), dim=1).cpu().numpy())

    @cached_property
    def usual(self) -> float | None:
        """The cosine to the nearest other one that nine of ten calibration prompts reach; None for fewer than 20."""
        if self.count < USUAL_COUNT:
            return None
        cosines = self._vectors @ self._vectors.T
        np.fill_diagonal(cosines, -1.0)
        return float(np.quantile(cosines.max(axis=1), 0.1))

    def unlike(self, vector: NDArray[np.float32]) -> bool:
        """Whether no calibration prompt is as near as these are to each other: its routing is a guess."""
        return self.usual is not None and float((self._vectors @ vector).max()) < self.usual

    def of(self, vector: NDArray[np.float32]) -> list[dict[str, Any]]:
        """The nearest calibration prompts with every teacher's stored response and its scores."""
        if not self.count:
            return []
        cosines = self._vectors @ vector
        chosen = np.argsort(-cosines, kind="stable")[: self._wanted]
        return [
            {"cosine": float(cosines[place]), **self._responses(self._prompts[place])} for place in chosen
        ]

    def _responses(self, prompt: Prompt) -> dict[str, Any]:
        identifier = prompt.id or 0
        answers = responses.of_prompts(self._store, [identifier], self._generations).get(identifier, {})
        values = scores.by_kind(self._store, [answer.id for answer in answers.values()])
        given = {
            self._names[teacher]: {"id": one.id, "status": one.status, "scores": values.get(one.id, {})}
            for teacher, one in answers.items()
        }
        text = strip_control(str(prompt.messages[-1]["content"]))
        return {"prompt_id": identifier, "prompt": text, "answers": given}


def _generations(store: Store, teachers: Sequence[Teacher]) -> tuple[list[Generation], dict[int, str]]:
    """(whose stored responses count: the router's teachers as they were then, their names by id)."""
    shas = {teacher.name: teacher.sha for teacher in teachers}
    rows = registry.models(store, "teacher", archived=True, superseded=True)
    mine = {row.id: row.name for row in rows if row.name in shas and row.id is not None}
    return [Generation(number, shas[name]) for number, name in mine.items()], mine


def _record(store: Store, number: int | None) -> RouterRecord:
    routers = routing.routers(store)
    found = next((router for router in routers if number in (None, router.id)), None)
    if found is None:
        known = ", ".join(str(router.id) for router in routers)
        which = "no router has been trained" if number is None else f"there is no router {number}"
        raise ConfigError(
            f"{which} in {store.name}",
            f"use one of: {known}" if known else "run `persyn run FILE.yaml --until train_router` first",
        )
    return found


def _show(about: dict[str, Any], found: list[dict[str, Any]], near: _Neighbours) -> None:
    console = Console(highlight=False)
    if not console.is_terminal:
        console = Console(highlight=False, width=160)

    def say(text: str, style: str = "") -> None:
        console.print(Text(text, style=style))

    measured = "" if about["hit_at_1"] is None else f", Hit@1 {about['hit_at_1']:.2f}"
    say(f"router {about['id']} (α {about['alpha']}{measured})", "dim")
    for entry in found:
        odds = 1 / (1 + math.exp(-entry["margin"]))
        say(f"\n{entry['prompt']}", "bold")
        say(f"→ {entry['choice']}, margin {entry['margin']:.3f} ({odds:.0%} to beat the next)")
        console.print(_bars(entry["strengths"]))
        if entry["unlike"]:
            say(
                f"▲ unlike every calibration prompt (nearest cosine {entry['nearest'][0]['cosine']:.2f}, usual "
                f"{near.usual:.2f} and more): the router guesses here",
                "yellow",
            )
        for like in entry["nearest"]:
            place = f"calibration prompt {like['prompt_id']} (cosine {like['cosine']:.2f})"
            say(f"  like {place}: {like['prompt'][:200]}")
            for teacher, answer in like["answers"].items():
                known = {kind: value for kind, value in answer["scores"].items() if value is not None}
                scores = "  ".join(f"{kind} {value:.2f}" for kind, value in known.items())
                mark = "★" if teacher == entry["choice"] else " "
                say(f"    {mark} {teacher}: {scores or answer['status']}  (response {answer['id']})")
    if not near.count:
        say("no calibration prompts to compare with: this router has not routed yet", "dim")


def _bars(strengths: dict[str, float]) -> Table:
    low, high = min(strengths.values()), max(strengths.values())
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_header=False)
    table.add_column(no_wrap=True)
    table.add_column(justify="right", no_wrap=True)
    table.add_column(no_wrap=True)
    for name, value in strengths.items():
        share = (value - low) / (high - low) if high > low else 1.0
        table.add_row(Text(name), f"{value:+.3f}", "█" * round(1 + 23 * share))
    return table
