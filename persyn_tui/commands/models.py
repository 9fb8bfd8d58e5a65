"""`persyn models`: the registry of teachers and students."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, get_args

import typer

from persyn_tui.output import JsonOption, StoreOption, emit, say, table, tell

if TYPE_CHECKING:
    from engine.config.models import TeacherConfig
    from storage.records import Model
    from storage.store import Store

NameArgument = Annotated[str, typer.Argument(help="Name of a registered model.", show_default=False)]
RoleOption = Annotated[str | None, typer.Option("--role", help="teacher, student or reward_model.")]


def register(app: typer.Typer) -> None:
    """Adds the commands to the app."""
    group = typer.Typer(help="Registered teachers and students.", no_args_is_help=True)
    group.command("list")(list_models)
    group.command("add")(add)
    group.command("probe")(probe)
    group.command("archive")(archive)
    group.command("restore")(restore)
    app.add_typer(group, name="models")


def list_models(
    role: RoleOption = None,
    archived: Annotated[bool, typer.Option("--archived", help="Archived models too.")] = False,
    store: StoreOption = None,
    as_json: JsonOption = False,
) -> None:
    """List registered models with their newest settings."""
    from storage import registry
    from storage.store import Store

    _check_role(role)
    found = registry.models(Store.open(store, create=False), role, archived=archived)  # type: ignore[arg-type]  # checked above

    def show() -> None:
        if not found:
            say("no models yet; `persyn models add` registers one, and a run registers those of its file")
            return
        rows = [
            (
                model.name,
                model.role,
                model.backend,
                model.model if model.model.startswith("zoo:") else Path(model.model).name,
                model.family or "–",
                size(model.parameters),
                f"{model.price_input:g}/{model.price_output:g}",
                "–" if model.context is None else f"{model.context:,}",
                f"t {model.sampling.temperature:g}, {model.sampling.max_tokens:,} tokens",
                model.system[:40] or "–",
                "archived" if model.archived else "",
            )
            for model in found
        ]
        columns = (
            "name",
            "role",
            "backend",
            "model",
            "family",
            "size",
            "$/M in/out",
            "context",
            "sampling",
            "system",
        )
        table((*columns, ""), rows, right=("size", "$/M in/out", "context"))

    emit([_as_json(model) for model in found], as_json, show)


def add(
    name: Annotated[str, typer.Option("--name", help="What to call it.", show_default=False)],
    model: Annotated[
        str,
        typer.Option("--model", help="zoo:NAME, a folder, a .gguf file, or a hub id.", show_default=False),
    ] = "",
    role: Annotated[str, typer.Option("--role", help="teacher or student.")] = "teacher",
    backend: Annotated[str, typer.Option("--backend", help="How it is run.")] = "transformers",
    adapter: Annotated[
        str | None, typer.Option("--adapter", help="A PEFT adapter's folder; its base is --model's default.")
    ] = None,
    family: Annotated[str | None, typer.Option("--family", help="Default: what its config says.")] = None,
    parameters: Annotated[float | None, typer.Option("--parameters", help="Default: counted.")] = None,
    system: Annotated[str, typer.Option("--system", help="System prompt before every prompt.")] = "",
    price_input: Annotated[float, typer.Option("--price-input", help="$ per million prompt tokens.")] = 0.0,
    price_output: Annotated[float, typer.Option("--price-output", help="$ per million answer tokens.")] = 0.0,
    context: Annotated[int | None, typer.Option("--context", help="Tokens of prompt and answer.")] = None,
    temperature: Annotated[float | None, typer.Option("--temperature")] = None,
    top_p: Annotated[float | None, typer.Option("--top-p")] = None,
    top_k: Annotated[int | None, typer.Option("--top-k")] = None,
    max_tokens: Annotated[int | None, typer.Option("--max-tokens")] = None,
    seed: Annotated[int | None, typer.Option("--seed")] = None,
    revision: Annotated[str, typer.Option("--revision", help="Commit of a hub id.")] = "",
    dtype: Annotated[str | None, typer.Option("--dtype", help="float32, bfloat16 or float16.")] = None,
    device: Annotated[str | None, typer.Option("--device")] = None,
    base_url: Annotated[str | None, typer.Option("--base-url", help="Of an endpoint.")] = None,
    api_key_env: Annotated[
        str | None, typer.Option("--api-key-env", help="Variable that holds the key.")
    ] = None,
    store: StoreOption = None,
    as_json: JsonOption = False,
) -> None:
    """Register a teacher or a student; its folder, tokenizer and chat template are checked first."""
    from engine.base.errors import ConfigError
    from engine.registry import register as registering
    from storage.store import Store

    if role not in registering.ROLES:
        raise ConfigError(f"--role {role}: unknown", "use teacher or student")
    sampling = {
        "temperature": temperature,
        "top_p": top_p,
        "top_k": top_k,
        "max_tokens": max_tokens,
        "seed": seed,
    }
    given = {
        "name": name,
        "model": model,
        "backend": backend,
        "adapter": adapter,
        "family": family,
        "parameters": parameters,
        "system": system,
        "price": {"input": price_input, "output": price_output},
        "context": context,
        "sampling": {key: value for key, value in sampling.items() if value is not None},
        "revision": revision,
        "dtype": dtype,
        "device": device,
        "base_url": base_url,
        "api_key_env": api_key_env,
    }
    asked = _validated({key: value for key, value in given.items() if value is not None}, role)
    wanted, _ = registering.fill(asked)
    if wanted.family != asked.family:
        say(f"family: {wanted.family}")
    if wanted.parameters is not None and wanted.parameters != asked.parameters:
        say(f"parameters: {wanted.parameters:,}")
    record = registering.record(wanted, role)
    opened = Store.open(store)
    known = registering.known(opened, record)
    stored = registering.put(opened, record)
    if known.before is not None and known.before.id != stored.id:
        say(f"`{name}` had other settings; answers made with them stay, and new ones are made with these")
    elif known.before is not None:
        say(f"`{name}` was registered with these settings already")
    emit(
        _as_json(stored),
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
    from engine import tools
    from storage.store import Store

    opened = Store.open(store, create=False)
    found = _find(opened, name, role, archived=False)
    opened.close()
    tools.replace("probe", [str(found.id)], ["--prompt", prompt], store=store, as_json=as_json)


def archive(
    name: NameArgument, role: RoleOption = None, store: StoreOption = None, as_json: JsonOption = False
) -> None:
    """Hide a model from listings; its answers stay, and `models restore` brings it back."""
    _archive(name, role, store, True, as_json)


def restore(
    name: NameArgument, role: RoleOption = None, store: StoreOption = None, as_json: JsonOption = False
) -> None:
    """Bring an archived model back."""
    _archive(name, role, store, False, as_json)


def size(parameters: float | None) -> str:
    """`135M`, `7.6B`, or `–` when not known."""
    if parameters is None:
        return "–"
    for unit, scale in (("T", 1e12), ("B", 1e9), ("M", 1e6), ("k", 1e3)):
        if parameters >= scale:
            return f"{parameters / scale:.3g}{unit}"
    return f"{parameters:.0f}"


def _validated(given: dict[str, Any], role: str) -> "TeacherConfig":
    from pydantic import ValidationError

    from engine.base.errors import ConfigError
    from engine.registry import register as registering

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
    from engine.registry import register as registering
    from storage.store import Store

    opened = Store.open(location, create=False)
    found = _find(opened, name, role, archived=True)
    registering.archive(opened, found, archived)
    word, undo = ("archived", "restore") if archived else ("restored", "archive")

    def show() -> None:
        tell(f"{found.role} {name}: {word}")
        say(f"undo: persyn models {undo} {name}")

    emit({"name": name, "role": found.role, "archived": archived}, as_json, show)


def _find(opened: "Store", name: str, role: str | None, *, archived: bool) -> "Model":
    """The newest settings of a name; a name that stands for two roles needs `--role`."""
    from engine.base.errors import ConfigError
    from engine.base.suggest import nearest
    from storage import registry

    _check_role(role)
    everything = registry.models(opened, role, archived=archived)  # type: ignore[arg-type]  # checked above
    found = [model for model in everything if model.name == name]
    if not found:
        guess = nearest(name, [model.name for model in everything])
        raise ConfigError(
            f"there is no model `{name}` in {opened.name}" + (f"; did you mean `{guess}`?" if guess else ""),
            "list them with `persyn models list --archived`",
        )
    if len(found) > 1:
        roles = " and as ".join(model.role for model in found)
        raise ConfigError(f"`{name}` is registered as {roles}", "say which with --role")
    return found[0]


def _check_role(role: str | None) -> None:
    from engine.base.errors import ConfigError
    from storage.records import Role

    if role is not None and role not in get_args(Role):
        raise ConfigError(f"--role {role}: unknown", f"use one of: {', '.join(get_args(Role))}")


def _as_json(model: "Model") -> dict[str, Any]:
    from dataclasses import asdict

    return asdict(model)
