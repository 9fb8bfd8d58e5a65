"""Options that several commands have, and those that follow from the run file's schema."""

import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Annotated, Any

import typer

from engine.base.errors import ConfigError
from engine.base.suggest import hint
from engine.config.setting import Setting


def check_word(option: str, given: str | None, valid: Sequence[str]) -> None:
    """Refuses a word that an option does not have, with the nearest that it has; None is none given."""
    if given is not None and given not in valid:
        raise ConfigError(
            f"--{option} {given}: unknown{hint(given, valid)}", f"use one of: {', '.join(valid)}"
        )


def with_settings(offered: Mapping[str, Setting]) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Gives a command an option for every one of these settings, which are by their dotted keys.

    They come to the command as its `**given`, None where an option is left out; `nested` makes an entry of them.
    """

    def decorate(command: Callable[..., None]) -> Callable[..., None]:
        signature = inspect.signature(command)
        own = [one for one in signature.parameters.values() if one.kind is not one.VAR_KEYWORD]
        parameters = [
            one.replace(kind=one.KEYWORD_ONLY) for one in (*map(_parameter, offered.values()), *own)
        ]
        command.__signature__ = signature.replace(parameters=parameters)  # type: ignore[attr-defined]
        return command

    return decorate


def nested(offered: Mapping[str, Setting], given: Mapping[str, Any]) -> dict[str, Any]:
    """The entry as a run file would hold it, of those settings that were given."""
    entry: dict[str, Any] = {}
    for setting in offered.values():
        value = given[_name(setting)]
        if value in (None, []):
            continue
        inner = entry
        for key in setting.place[:-1]:
            inner = inner.setdefault(key, {})
        inner[setting.place[-1]] = value[0] if setting.alone and len(value) == 1 else value
    return entry


def _name(setting: Setting) -> str:
    """`price_input` for `price.input`; sampling is what is set most."""
    return "_".join(setting.place).removeprefix("sampling_")


def _parameter(setting: Setting) -> inspect.Parameter:
    name = _name(setting).replace("_", "-")
    words = setting.about[: len(setting.hint)] or setting.title.capitalize()
    option = typer.Option(
        f"--{name}/--no-{name}" if setting.type is bool and setting.optional else f"--{name}",
        help=f"{words}: {', '.join(setting.choices)}." if setting.choices else f"{words}.",
        show_default=setting.type is not bool and (setting.nothing or False),
        rich_help_panel=f"Options: {setting.place[0]}" if len(setting.place) > 1 else None,
    )
    kind: Any = list[str] if setting.type is tuple else setting.type
    return inspect.Parameter(
        _name(setting),
        inspect.Parameter.KEYWORD_ONLY,
        default=inspect.Parameter.empty if setting.required else None,
        annotation=Annotated[kind if setting.required else kind | None, option],
    )
