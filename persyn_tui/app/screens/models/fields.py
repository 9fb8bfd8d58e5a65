"""The fields of a model's form: which backend has which, what they begin with, and the settings they make."""

import os
import re
from collections.abc import Container, Mapping
from typing import Any

from persyn_tui.app.widgets.form_fields import Area, Choice, Control, Entry, Line, Paths, Place, amount, words
from storage.records import Model

DEFAULT_TOKENS = "1024"
SAMPLING = ("temperature", "top_p", "top_k", "max_tokens", "seed")
PRICES = {"price_input": "input", "price_output": "output"}
PLAIN = ("name", "backend", "model", "revision", "family", "parameters", "context", "system")
OPTIONS = ("base_url", "api_key_env", "device", "dtype")
"""Of `Model.options`, those that have a field."""
USUAL = "usual"
"""The number format that the backend takes when none is named."""
PLACES: dict[Place, str] = {
    **{(key,): key for key in (*PLAIN, *OPTIONS)},
    **{("sampling", key): key for key in SAMPLING},
    **{("price", part): key for key, part in PRICES.items()},
    ("sampling",): "temperature",
    ("price",): "price_input",
}
"""Where the settings keep each field."""
TITLES = {
    **{"price_input": "price in", "price_output": "price out", "system": "system prompt"},
    **{"top_p": "top p", "top_k": "top k", "max_tokens": "max tokens"},
}
"""What a field is called where that is not its key."""
HINTS = {
    "name": "what runs call it",
    "backend": "how it is run",
    "model": "zoo:NAME, a folder or a hub id",
    "base_url": "http://HOST:8000/v1, or several",
    "api_key_env": "variable that holds the key; or none",
    "revision": "commit of a hub id",
    "device": "auto, cpu, cuda, cuda:N or mps",
    "dtype": "of the weights; usual: float32",
    "family": "as its files say",
    "parameters": "weights, e.g. 7.6B",
    "context": "tokens of prompt and answer",
    "price_input": "$ per million prompt tokens",
    "price_output": "$ per million answer tokens",
    "temperature": "0: greedy",
    "top_p": "0 to 1",
    "top_k": "0: off",
    "max_tokens": "of an answer",
    "system": "before every prompt",
}
HINTS_OF = {
    "vllm": {"dtype": "of the weights; usual: as stored"},
    "openai": {
        "model": "the name it is served by",
        "family": "of the served model, e.g. qwen2",
        "price_input": "$ per M prompt tokens; 0: free",
        "price_output": "$ per M answer tokens; 0: free",
    },
    "imported": {"model": "its name in the files", "family": "e.g. qwen2"},
}
"""Where a backend's hint is another one."""
PLACEHOLDERS = {
    **{"device": "auto", "price_input": "0", "price_output": "0", "temperature": "0.7", "top_p": "1"},
    **{"top_k": "0", "max_tokens": DEFAULT_TOKENS, "seed": "0", "system": "none"},
}
ORDER = (
    *("role", "name", "backend", "model", "base_url", "api_key_env", "revision", "device", "dtype"),
    *("family", "parameters", "context", *PRICES, *SAMPLING, "system"),
)


def has(backend: str, key: str) -> bool:
    """Whether a backend has this field."""
    from engine.config.kinds import teacher_kind

    kind = teacher_kind(backend)
    if key == "revision":
        return kind.local_files
    return key not in OPTIONS or key in kind.settings.model_fields


def hint(backend: str, key: str) -> str:
    """What is said of a field while nothing else is."""
    return HINTS_OF.get(backend, {}).get(key, HINTS.get(key, ""))


def start(model: Model | None, kept: Mapping[str, Any]) -> dict[str, str]:
    """What every field begins with.

    Args:
        model: whose settings are changed; None for a new one.
        kept: its entry in a run file.
    """
    begun = dict.fromkeys(ORDER, "") | {"role": "teacher", "backend": "transformers", "dtype": USUAL}
    if model is None:
        return begun
    begun |= {key: plain(getattr(model, key)) for key in PLAIN}
    begun |= {key: plain(getattr(model.sampling, key)) for key in SAMPLING}
    begun |= {key: plain(getattr(model, key) or None) for key in PRICES}
    begun |= {key: plain(kept[key]) for key in OPTIONS if key in kept}
    return begun | {"role": model.role}


def entries(begun: Mapping[str, str], *, fixed: bool) -> list[Entry]:
    """The fields in their order.

    Args:
        begun: what each begins with.
        fixed: whether role and name stay as they are.
    """
    stays = {"role": "stays; a adds another", "name": "stays"} if fixed else {}
    made = []
    for key in ORDER:
        text = stays.get(key, hint(begun["backend"], key))
        made.append(Entry(key, TITLES.get(key, key), _control(key, begun[key]), text))
        made[-1].disabled = key in stays
    return made


def _control(key: str, value: str) -> Control:
    from engine.base.plugins import TEACHERS
    from engine.config.kinds import teacher_kind
    from engine.models.model_info import DTYPES
    from engine.registry.register import ROLES
    from engine.zoo import resolve

    # Imported responses are read from the files of a run's prompts: a run file alone can name both.
    kinds = [kind for kind in TEACHERS.names() if kind == value or teacher_kind(kind).generates]
    choices = {"role": ROLES, "backend": kinds, "dtype": (USUAL, *DTYPES)}
    if key in choices:
        return Choice(choices[key], value)
    if key == "system":
        return Area(value, PLACEHOLDERS[key])
    refs = Paths([f"zoo:{name}" for name in resolve.names()]) if key == "model" else None
    return Line(value, PLACEHOLDERS.get(key, ""), refs)


def entry_of(values: Mapping[str, str], kept: Mapping[str, Any]) -> dict[str, Any]:
    """A run file's entry from the values of the shown fields, on top of what the form does not show.

    Options of another backend than the chosen one are left out: it would refuse them.
    """
    from engine.config.kinds import teacher_kind

    gone = {*values, "sampling", "price"}
    if kept.get("backend", values["backend"]) != values["backend"]:
        gone |= {*teacher_kind(kept["backend"]).settings.model_fields, "revision"}
    entry = {key: value for key, value in kept.items() if key not in gone}
    for key in (*PLAIN, *OPTIONS):
        if value := values.get(key, ""):
            entry[key] = amount(value) if key in ("parameters", "context") else value
    if entry.get("dtype") == USUAL:
        del entry["dtype"]
    if "base_url" in values:
        urls = words(values["base_url"])
        entry |= {"base_url": urls[0] if len(urls) == 1 else urls} if urls else {}
    sampling = {"stop": kept["sampling"]["stop"]} if kept.get("sampling", {}).get("stop") else {}
    sampling |= {key: values[key] for key in SAMPLING if values.get(key)}
    price = {part: values[key] for key, part in PRICES.items() if values.get(key)}
    return entry | ({"sampling": sampling} if sampling else {}) | ({"price": price} if price else {})


def missing(entry: Mapping[str, Any]) -> list[str]:
    """Fields that may not be empty and are."""
    needed = ["name"] + ([] if entry.get("adapter") else ["model"])
    from engine.config.kinds import teacher_kind

    if teacher_kind(entry["backend"]).openai_api and not entry.get(
        "api_key_env"
    ):  # with a key, OpenAI itself is asked
        needed.append("base_url")
    return [key for key in needed if not entry.get(key)]


def wrong_device(values: Mapping[str, str]) -> bool:
    """Whether the device is none that the backend knows."""
    from engine.models.model_info import DEVICES

    return bool(values.get("device")) and re.fullmatch(DEVICES, values["device"]) is None


def unset(values: Mapping[str, str]) -> str:
    """A doubt about the key's variable, which this process can no longer see set; empty where there is none."""
    name = values.get("api_key_env", "")
    if not name or os.environ.get(name, "").strip():
        return ""
    return f"▲ not set here: export {name}=…, then start persyn again"


def named(message: str, keys: Container[str]) -> str | None:
    """The first field that a message names as the run file does, in backticks; None where it names none."""
    return next((word for word in re.findall(r"`(\w+)", message) if word in keys), None)


def plain(value: object) -> str:
    """The value as the operator would type it."""
    if value is None:
        return ""
    if isinstance(value, list | tuple):
        return ", ".join(map(str, value))
    return f"{value:.12g}" if isinstance(value, float) else str(value)
