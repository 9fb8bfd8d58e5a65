"""`python -m engine probe NUMBER`: loads a registered model and generates one real token."""

import argparse
import time
from contextlib import closing
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from engine import backends
from engine.backends import openai as endpoint
from engine.backends import transformers, vllm
from engine.errors import ConfigError, ModelError
from engine.printing import json_line, printable
from engine.templates import render_prompt, with_system
from storage import registry
from storage.records import Messages, Model, Request
from storage.store import Store


@dataclass(frozen=True, slots=True)
class Probe:
    """What one token has shown."""

    model: str
    rendered: str
    """The text that the model was given, its chat template around the prompt; for an endpoint, the messages."""
    token: str
    load_s: float
    """Seconds to load the model."""
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
                    key: printable(value) if isinstance(value, str) else value
                    for key, value in asdict(found).items()
                }
            )
        )
    else:
        print(
            f"{found.model}: loaded in {found.load_s:.2f} s, first token after {found.latency_s * 1000:,.0f} ms"
        )
        print(f"given:\n{printable(found.rendered)}")
        print(f"token: {printable(found.token)!r}")
    return 0


def probe(model: Model, messages: Messages, folder: Path | None = None) -> Probe:
    """One token of the model after these messages, the model's own system prompt before them.

    Args:
        model: of any kind.
        messages: what to answer.
        folder: where a server that is started keeps its log file; None: with the temporary files.

    Raises:
        ModelError: it cannot be loaded, its template refuses the messages, or no token came.
    """
    asked = with_system(model.system, messages)
    if backends.is_endpoint(model):
        model = endpoint.impatient(model)
        rendered = "\n".join(f"{turn['role']}: {turn['content']}" for turn in asked)
    else:
        read = vllm.as_files(model) if model.backend == "vllm" else model
        rendered = render_prompt(transformers.tokenizer(read), asked)
    began = time.monotonic()
    with closing(backends.open_backend(model, folder)) as backend:
        request = Request(0, asked, replace(model.sampling, max_tokens=1))
        completion = next(iter(backend.generate([request])))
        loading = time.monotonic() - began - completion.latency_s
    if completion.status in ("error", "too_long") or not completion.completion_tokens:
        raise ModelError(
            f"model `{model.name}` gave no token: {completion.error or completion.finish_reason}",
            "mend what the message names, then try again",
        )
    return Probe(model.name, rendered, completion.text, loading, completion.latency_s)
