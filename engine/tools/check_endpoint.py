"""Doctor's checks of an endpoint teacher: each address reached, the model offered there, one token generated."""

from collections.abc import Iterator
from functools import partial

from engine.base.errors import PersynError
from engine.base.sanitize import strip_control
from engine.base.suggest import nearest
from engine.teachers.kinds import openai as endpoint
from engine.tools.findings import Finding, attempt
from engine.tools.probe import probe
from storage.records import Messages, Model

_SHOWN = 8


def findings(about: str, model: Model, messages: Messages) -> Iterator[Finding]:
    """One finding per address, then one real token when the model is there."""
    try:
        urls, key = endpoint.urls(model), endpoint.key(model)
        endpoint.settings(model)
    except PersynError as error:
        yield Finding(f"{about}: endpoint", "failed", error.message, error.remedy)
        return
    found = [attempt(f"{about}: endpoint {url}", partial(_offers, about, model, url, key)) for url in urls]
    yield from found
    if any(finding.state == "ok" for finding in found):
        yield attempt(f"{about}: one token", partial(_token, about, model, messages))


def _offers(about: str, model: Model, url: str, key: str | None) -> Finding:
    from engine.teachers.endpoint.client import list_models

    names = list_models(url, key, endpoint.settings(model))
    listed = strip_control(", ".join(names[:_SHOWN])) + (
        f" and {len(names) - _SHOWN} more" if names[_SHOWN:] else ""
    )
    message = f"reachable; models: {listed or 'none'}"
    if model.model in names:
        return Finding(f"{about}: endpoint {url}", "ok", message)
    near = nearest(model.model, names)
    return Finding(
        f"{about}: endpoint {url}",
        "failed",
        f"{message}; `{model.model}` is not among them",
        f"set `model: {strip_control(near)}`" if near else "set `model` to the name that the server uses",
    )


def _token(about: str, model: Model, messages: Messages) -> Finding:
    found = probe(model, messages)
    return Finding(
        f"{about}: one token", "ok", f"{strip_control(found.token)!r} after {found.latency_s * 1000:,.0f} ms"
    )
