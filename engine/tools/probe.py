"""`python -m engine probe NUMBER`: loads a registered model and generates one real token."""

import argparse
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from threading import Timer

from engine.base.errors import ConfigError, ModelError
from engine.base.sanitize import json_line, strip_control
from engine.config.kinds import teacher_kind
from engine.models.chat_template import render_prompt, with_system
from engine.teachers import teacher_kinds
from engine.teachers.kinds import transformers
from storage import registry
from storage.records import Messages, Model, Request, Response
from storage.store import Store

ENDPOINT_S = 60.0
"""Seconds that an endpoint has for its token. Loading a local model may take longer."""


@dataclass(frozen=True, slots=True)
class Probe:
    """What one token has shown."""

    model: str
    rendered: str
    """The text that the model was given, its chat template around the prompt; for an endpoint, the messages."""
    token: str
    """Of the response or its reasoning; empty where the server counts one and keeps it to itself."""
    finish_reason: str
    load_s: float
    """Seconds to load the model; next to none for an endpoint."""
    latency_s: float
    """Seconds from request to token, the model loaded."""


def main(options: argparse.Namespace) -> int:
    """Exit code 0 when a token came; prints it, its latency and the rendered template."""
    with Store.open(create=False) as store:
        model = registry.by_id(store, [options.model]).get(options.model)
        folder = store.folder
    if model is None:
        raise ConfigError(
            f"there is no model number {options.model}", "list them with `persyn models list --json`"
        )
    found = probe(model, ({"role": "user", "content": options.prompt},), folder)
    if options.json:
        print(
            json_line(
                {
                    key: strip_control(value) if isinstance(value, str) else value
                    for key, value in asdict(found).items()
                }
            )
        )
    else:
        loaded = "" if teacher_kind(model.backend).remote else f"loaded in {found.load_s:.2f} s, "
        print(f"{found.model}: {loaded}first token after {found.latency_s * 1000:,.0f} ms")
        print(f"given:\n{strip_control(found.rendered)}")
        print(f"token: {strip_control(found.token)!r}, finish_reason {strip_control(found.finish_reason)}")
    return 0


def probe(model: Model, messages: Messages, folder: Path | None = None) -> Probe:
    """One token of the model after these messages, the model's own system prompt before them.

    Args:
        model: of any kind.
        messages: what to answer.
        folder: where a server that is started keeps its log file; None: with the temporary files.

    Raises:
        ModelError: it cannot be loaded, its template refuses the messages, or no token came: from an endpoint,
            within `ENDPOINT_S`.
    """
    asked = with_system(model.system, messages)
    kind = teacher_kind(model.backend)
    if kind.local_files:
        rendered = render_prompt(transformers.tokenizer(kind.as_files(model)), asked)
    else:
        model = kind.impatient(model)
        rendered = "\n".join(f"{turn['role']}: {turn['content']}" for turn in asked)
    began = time.monotonic()
    with (
        closing(teacher_kinds.open_backend(model, folder)) as backend,
        _closed_after(ENDPOINT_S if kind.remote else None, backend),
    ):
        request = Request(0, asked, replace(model.sampling, max_tokens=1))
        completion = next(iter(backend.generate([request])), None)
    if completion is None:
        raise ModelError(
            f"model `{model.name}` gave no token within {ENDPOINT_S:g} s: {_where(model)} has sent nothing",
            "see whether the server there hangs or still loads the model, then try again",
        )
    loading = time.monotonic() - began - completion.latency_s
    said = completion.text or completion.reasoning
    # With `length`, a token was made that is not shown: reasoning that the server keeps to itself.
    unseen = completion.finish_reason == "length" and completion.completion_tokens
    if not said and not unseen:
        raise ModelError(f"model `{model.name}` gave no token: {_came(completion)}", _remedy(completion))
    return Probe(model.name, rendered, said, completion.finish_reason, loading, completion.latency_s)


@contextmanager
def _closed_after(seconds: float | None, backend: teacher_kinds.Backend) -> Iterator[None]:
    """Closes the backend while it is asked, when it takes longer; None: it has all the time."""
    if seconds is None:
        yield
        return
    timer = Timer(seconds, backend.close)
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


def _where(model: Model) -> str:
    given = model.options.get("base_url") or model.model
    return given if isinstance(given, str) else ", ".join(given)


def _came(completion: Response) -> str:
    """What came in place of a token."""
    if completion.status in ("error", "too_long"):
        return completion.error or completion.finish_reason
    if completion.status == "refused":
        return "a content filter refused the response" + (f": {completion.error}" if completion.error else "")
    return f"the response is empty, finish_reason {completion.finish_reason}"


def _remedy(completion: Response) -> str:
    if completion.status == "refused":
        return "the model can be asked; its provider has refused this prompt"
    if completion.status == "empty":
        return "see what the model makes of other prompts, and of its system prompt"
    return "mend what the message names, then try again"
