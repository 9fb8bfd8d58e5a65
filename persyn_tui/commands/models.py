"""`persyn models`: the registry of teachers and students."""

from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any, get_args

import typer
from pydantic import ValidationError

from engine import tools
from engine.base.errors import ConfigError
from engine.base.suggest import hint
from engine.config.models import TeacherConfig
from engine.registry import model_settings
from engine.registry import register as registering
from engine.registry.models import number_format
from persyn_tui.app.base.formatting import number, short_reference
from persyn_tui.commands.options import check_word, nested, with_settings
from persyn_tui.commands.output import JsonOption, StoreOption, emit, say, table, tell
from storage import registry
from storage.records import Model, Role
from storage.store import Store

NameArgument = Annotated[str, typer.Argument(help="Name of a registered model.", show_default=False)]
OFFERED = model_settings.of_role("teacher")
"""A student has some of them; which, is said when it is registered."""
RoleOption = Annotated[str | None, typer.Option("--role", help="teacher, student or reward_model.")]


def list_models(
    role: RoleOption = None,
    archived: Annotated[bool, typer.Option("--archived", help="Archived models too.")] = False,
    store: StoreOption = None,
    as_json: JsonOption = False,
) -> None:
    """List registered models with their newest settings."""
    check_word("role", role, get_args(Role))
    found = registry.models(Store.open(store, create=False), role, archived=archived)  # type: ignore[arg-type]  # checked above

    def show() -> None:
        rows = [
            (
                model.name,
                model.role,
                model.backend,
                short_reference(model.model),
                number_format(model),
                model.family or "–",
                number(model.parameters),
                f"{model.price_input:g}/{model.price_output:g}",
                "–" if model.context is None else f"{model.context:,}",
                f"t {model.sampling.temperature:g}, {model.sampling.max_tokens:,} tokens",
                model.system[:40] or "–",
                "archived" if model.archived else "",
            )
            for model in map(registering.described, found)
        ]
        numbers = ("size", "$/M in/out", "context")
        columns = ("name", "role", "backend", "model", "dtype", "family", *numbers, "sampling", "system", "")
        nothing = "no models yet; `persyn models add` registers one, and a run registers those of its file"
        table(columns, rows, right=numbers, empty=nothing)

    emit([asdict(model) for model in found], as_json, show)


@with_settings(OFFERED)
def add(
    role: Annotated[str, typer.Option("--role", help="teacher or student.")] = "teacher",
    store: StoreOption = None,
    as_json: JsonOption = False,
    **given: Any,
) -> None:
    """Register a teacher or a student; its folder, tokenizer and chat template are checked first."""
    if role not in registering.ROLES:
        raise ConfigError(f"--role {role}: unknown", "use teacher or student")
    asked = _validated(nested(OFFERED, given), role)
    wanted, _ = registering.fill(asked)
    if wanted.family != asked.family:
        say(f"family: {wanted.family}")
    if wanted.parameters is not None and wanted.parameters != asked.parameters:
        say(f"parameters: {wanted.parameters:,}")
    if wanted.dtype != asked.dtype:
        say(f"dtype: {wanted.dtype or 'float32'}")
    record = registering.record(wanted, role)
    opened = Store.open(store)
    known = registering.known(opened, record)
    stored = registering.put(opened, record)
    if known.before is not None and known.before.id != stored.id:
        say(
            f"`{stored.name}` had other settings; responses made with them stay, new ones are made with these"
        )
    elif known.before is not None:
        say(f"`{stored.name}` was registered with these settings already")
    emit(
        asdict(stored),
        as_json,
        lambda: tell(f"{stored.role} {stored.name}: {stored.backend} {stored.model}"),
    )


def probe(
    name: NameArgument,
    prompt: Annotated[str, typer.Option("--prompt", help="What to ask.")] = "What is 2 + 3?",
    role: RoleOption = None,
    store: StoreOption = None,
    as_json: JsonOption = False,
) -> None:
    """Load a registered model and generate one real token: latency, and the rendered template."""
    opened = Store.open(store, create=False)
    found = _find(opened, name, role, archived=False)
    opened.close()
    tools.replace("probe", [str(found.id)], ["--prompt", prompt], store=store, as_json=as_json)


def archive(
    name: NameArgument, role: RoleOption = None, store: StoreOption = None, as_json: JsonOption = False
) -> None:
    """Hide a model from listings; its responses stay, and `models restore` brings it back."""
    _archive(name, role, store, True, as_json)


def restore(
    name: NameArgument, role: RoleOption = None, store: StoreOption = None, as_json: JsonOption = False
) -> None:
    """Bring an archived model back."""
    _archive(name, role, store, False, as_json)


def _validated(given: dict[str, Any], role: str) -> TeacherConfig:
    try:
        return registering.settings(given, role, Path.cwd())
    except ValidationError as error:
        problems = [
            "--"
            + "-".join(map(str, problem["loc"])).removeprefix("sampling-").replace("_", "-")
            + f": {str(problem['msg']).removeprefix('Value error, ')}"
            for problem in error.errors(include_url=False)
        ]
        raise ConfigError("\n".join(problems), "`persyn models add --help` lists the options") from None


def _archive(name: str, role: str | None, location: str | None, archived: bool, as_json: bool) -> None:
    opened = Store.open(location, create=False)
    found = _find(opened, name, role, archived=True)
    registering.archive(opened, found, archived)
    word, undo = ("archived", "restore") if archived else ("restored", "archive")

    def show() -> None:
        tell(f"{found.role} {name}: {word}")
        say(f"undo: persyn models {undo} {name}")

    emit({"name": name, "role": found.role, "archived": archived}, as_json, show)


def _find(opened: Store, name: str, role: str | None, *, archived: bool) -> Model:
    """The newest settings of a name; a name that stands for two roles needs `--role`."""
    check_word("role", role, get_args(Role))
    everything = registry.models(opened, role, archived=archived)  # type: ignore[arg-type]  # checked above
    found = [model for model in everything if model.name == name]
    if not found:
        raise ConfigError(
            f"there is no model `{name}` in {opened.name}{hint(name, [model.name for model in everything])}",
            "list them with `persyn models list --archived`",
        )
    if len(found) > 1:
        roles = " and as ".join(model.role for model in found)
        raise ConfigError(f"`{name}` is registered as {roles}", "say which with --role")
    return found[0]


group = typer.Typer(no_args_is_help=True)
group.command("list")(list_models)
group.command("add")(add)
group.command("probe")(probe)
group.command("archive")(archive)
group.command("restore")(restore)
