"""Doctor's checks of an endpoint teacher: each address reached, the model offered there, one token generated."""

from collections.abc import Iterator

from engine.base.sanitize import strip_control
from engine.base.suggest import nearest
from engine.teachers.endpoint.model_list import list_models
from engine.teachers.kinds import openai as endpoint
from engine.tools.findings import Finding, check, failed, ok
from engine.tools.probe import probe
from storage.records import Messages, Model

_SHOWN = 8


def findings(about: str, model: Model, messages: Messages) -> Iterator[Finding]:
    """One finding per address, then one real token when the model is there."""
    given = check(f"{about}: endpoint", _settings, model)
    if not given.usable:
        yield given
        return
    found = [check(f"{about}: endpoint {url}", _offers, model, url) for url in endpoint.urls(model)]
    yield from found
    if any(finding.usable for finding in found):
        yield check(f"{about}: one token", _token, model, messages)


def _settings(model: Model) -> Finding:
    endpoint.key(model)
    endpoint.settings(model)
    return ok(", ".join(endpoint.urls(model)))


def _offers(model: Model, url: str) -> Finding:
    names = list_models(url, endpoint.key(model), endpoint.settings(model))
    more = f" and {len(names) - _SHOWN} more" if names[_SHOWN:] else ""
    listed = strip_control(", ".join(names[:_SHOWN])) + more
    message = f"reachable; models: {listed or 'none'}"
    if model.model in names:
        return ok(message)
    near = nearest(model.model, names)
    return failed(
        f"{message}; `{model.model}` is not among them",
        f"set `model: {strip_control(near)}`" if near else "set `model` to the name that the server uses",
    )


def _token(model: Model, messages: Messages) -> Finding:
    found = probe(model, messages)
    return ok(f"{strip_control(found.token)!r} after {found.latency_s * 1000:,.0f} ms")
