"""Screen 2's probes: which wait, which run, and what is said of them."""

import os
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from textual.worker import Worker

from engine.base.plugins import TEACHERS
from engine.pipeline.display import duration
from persyn_tui.app.base.formatting import spinner
from persyn_tui.app.widgets.virtual_table import Cell
from storage.records import Model


@dataclass(frozen=True, slots=True)
class Probed:
    """The last probe of a model in this session."""

    at: float
    answer: Mapping[str, Any] | None = None
    """What the probe tool said; None when it failed."""
    problem: str = ""


@dataclass(eq=False, slots=True)
class Probing:
    """A probe that waits or runs."""

    name: str
    """The model's."""
    local: bool
    """Whether this machine loads the model; an endpoint only sends a token."""
    waits: bool
    """Whether another local one has its turn."""
    began: float
    """When it was asked for, or had its turn; seconds of the monotonic clock."""
    worker: Worker[None] | None = None


def is_local(model: Model) -> bool:
    """Whether a probe loads the model on this machine."""
    from engine.config.kinds import teacher_kind

    return model.backend not in TEACHERS.names() or not teacher_kind(model.backend).remote


class Probes:
    """The probes of this session, by model id: those that wait or run, and of each model the last that has ended."""

    def __init__(self) -> None:
        self.going: dict[int, Probing] = {}
        self.ended: dict[int, Probed] = {}

    def word(self, model: Model) -> Cell:
        """A model's health, in a word."""
        probing, probed = self._of(model)
        if probing is not None:
            if probing.waits:
                return Cell("waits", "dim")
            since = time.monotonic() - probing.began
            return Cell(f"{spinner(time.monotonic(), 10)} {duration(since)}", "accent")
        if model.archived:
            return Cell("archived", "dim")
        if probed is None:
            return Cell("not probed", "dim")
        if probed.answer is None:
            return Cell("✗ failed", "bad")
        return Cell(f"✓ {probed.answer['latency_s'] * 1000:,.0f} ms", "good")

    def text(self, model: Model, keyed: Callable[[str], str]) -> str:
        """What there is to say of a model's probe; `keyed` puts the keys that work now into a text."""
        probing, probed = self._of(model)
        local = is_local(model)
        if probing is not None:
            if not local:
                return keyed("probe: asked for one token, for 60 s at most …  {models.stop:esc} stops it")
            if probing.waits:
                turns = (one.name for one in self.going.values() if one.local and not one.waits)
                waits = f"probe: waits for the probe of {next(turns, 'another model')} …  "
                return waits + keyed("{models.stop:esc} takes it back")
            return keyed("probe: loading the model for one token …  {models.stop:esc} stops it")
        if probed is None:
            how = "loads the model and generates" if local else "asks the endpoint for"
            return keyed(f"probe: none in this session\n\n{{models.probe:t}} {how} one real token")
        when = time.strftime("%H:%M:%S", time.localtime(probed.at))
        if probed.answer is None:
            return f"probe at {when}: ✗ failed\n\n{probed.problem}{keyed(_again(model))}"
        said = probed.answer
        loaded = f", loaded in {said['load_s']:.1f} s" if local else ""
        ended = said["finish_reason"]
        return (
            f"probe at {when}: token {said['token']!r} after {said['latency_s'] * 1000:,.0f} ms{loaded}"
            + ("" if ended in ("stop", "length") else f", finish_reason {ended}")
            + f"\n\nwhat the model was given:\n{said['rendered']}"
        )

    def _of(self, model: Model) -> tuple[Probing | None, Probed | None]:
        return self.going.get(model.id or 0), self.ended.get(model.id or 0)


def _again(model: Model) -> str:
    """What another try needs, after a failed one."""
    key = str(model.options.get("api_key_env") or "")
    if key and not os.environ.get(key, "").strip():
        return ""  # the failure says it: no try of this process can see the key
    return "\n\n{models.probe:t} tries again" + (
        f"; another key in {key} is seen once persyn starts again" if key else ""
    )
