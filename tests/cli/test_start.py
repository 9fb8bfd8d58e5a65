"""Start-up, empty stores, and help: nothing heavy is imported, nothing ends in a traceback."""

import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from engine.pipeline import launch
from persyn_tui.cli import COMMANDS
from storage import jobs
from storage.store import Store

HEAVY = {"torch", "transformers", "peft", "datasets", "textual", "pyarrow"}


def _modules_after(arguments: list[str], cwd: Path, store: Path) -> set[str]:
    """Top-level names of the modules that are loaded when `persyn ARGUMENTS` ends."""
    program = (
        "import sys, atexit\n"
        "atexit.register(lambda: print('MODULES', *sorted({m.split('.')[0] for m in sys.modules}), file=sys.stderr))\n"
        "from persyn_tui.cli import main\n"
        f"sys.argv = ['persyn', *{arguments!r}]\n"
        "main()\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program],
        capture_output=True,
        text=True,
        cwd=cwd,
        env={**os.environ, "PERSYN_STORE": str(store)},
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    line = next(line for line in done.stderr.splitlines() if line.startswith("MODULES"))
    return set(line.split()[1:])


@pytest.mark.parametrize("option", ["--help", "--version"])
def test_the_help_of_all_commands_imports_none_of_them(option: str, tmp_path: Path) -> None:
    loaded = _modules_after([option], tmp_path, tmp_path / "s.db")
    assert not loaded & {*HEAVY, "sqlalchemy", "numpy"}


@pytest.mark.parametrize("name", COMMANDS)
def test_the_help_of_a_command_imports_nothing_heavy(name: str, tmp_path: Path) -> None:
    assert not _modules_after([name, "--help"], tmp_path, tmp_path / "s.db") & HEAVY


@pytest.mark.parametrize(
    "command",
    [["data", "list"], ["data", "datasets"], ["models", "list"], ["schema"], ["data", "search", "x"]],
)
def test_no_command_on_the_store_imports_torch(command: list[str], tmp_path: Path) -> None:
    Store.open(tmp_path / "s.db").close()
    assert not _modules_after(command, tmp_path, tmp_path / "s.db") & {"torch", "transformers", "textual"}


def test_the_first_rows_of_the_data_screen_wait_for_no_numpy(tmp_path: Path) -> None:
    program = (
        "import sys\n"
        "from pathlib import Path\n"
        "from persyn_tui.app.screens.data import screen\n"
        "from storage import listing\n"
        "from storage.store import Store\n"
        "with Store.open(Path('s.db')) as store:\n"
        "    rows = list(listing.stream(store, listing.Listing()))\n"
        "    listing.cards(store, [1], None)\n"
        "sys.exit('numpy' in sys.modules)\n"
    )
    assert subprocess.run([sys.executable, "-c", program], cwd=tmp_path, check=False).returncode == 0


@pytest.mark.parametrize("command", [["jobs"], ["data", "list"], ["data", "search", "x"], ["models", "list"]])
def test_reading_makes_no_store_of_a_mistyped_name(
    command: list[str], persyn: Callable[..., Any], tmp_path: Path
) -> None:
    ran = persyn(*command, "--store", "mistyped.db")
    assert ran.code == 2
    assert "there is no store at" in ran.err
    assert not (tmp_path / "mistyped.db").exists()


@pytest.mark.parametrize("command", [["data", "list"], ["data", "datasets"], ["models", "list"]])
def test_an_empty_store_says_the_next_step_on_stderr(
    command: list[str], persyn: Callable[..., Any], tmp_path: Path
) -> None:
    Store.open(tmp_path / "store.db").close()
    ran = persyn(*command)
    assert (ran.code, ran.out) == (0, "")
    assert "persyn " in ran.err
    assert persyn(*command, "--json").json == []


def test_the_schema_names_every_section(persyn: Callable[..., Any]) -> None:
    assert {"student", "teachers", "prompts", "reward", "router", "distill"} <= set(
        persyn("schema").json["properties"]
    )


@pytest.mark.parametrize(
    ("command", "word"),
    [
        (["data", "show", "1"], "there is no store"),
        (["data", "export", "1", "--out", "x"], "there is no store"),
        (["route", "hello"], "no store"),
        (["route"], "no prompt"),
        (["models", "list", "--role", "boss"], "boss"),
        (["doctor", "nowhere.yaml"], "no such run file"),
        (["zoo", "fetch", "gpt-7"], "gpt-7"),
    ],
)
def test_what_is_not_there_ends_with_a_remedy_and_code_2(
    command: list[str], word: str, persyn: Callable[..., Any]
) -> None:
    ran = persyn(*command)
    assert ran.code == 2
    assert word in ran.err
    assert "→" in ran.err
    assert "Traceback" not in ran.err


@pytest.mark.parametrize("tool", [False, True], ids=["job", "tool"])
def test_an_engine_imports_nothing_from_where_the_operator_stands(tool: bool, tmp_path: Path) -> None:
    here = tmp_path / "here"
    here.mkdir()
    for name in ("engine", "storage", "json", "argparse"):
        (here / f"{name}.py").write_text("raise SystemExit('taken from the working directory')")
    store = Store.open(tmp_path / "s.db")
    job, _ = jobs.submit(store, {}, "sha", "a job")
    variables = launch.environment(store)
    store.close()
    if tool:
        program = "from engine import tools; tools.replace('probe', ['99'], [])"
        line = [sys.executable, "-P", "-c", program]
    else:
        line = launch.command(replace(job, id=99), foreground=False)
    done = subprocess.run(
        line, capture_output=True, text=True, cwd=here, env=variables, timeout=120, check=False
    )
    assert done.returncode == 2, done.stderr
    assert f"there is no {'model number' if tool else 'job'} 99" in done.stderr


def test_the_store_may_stand_before_the_command(persyn: Callable[..., Any], tmp_path: Path) -> None:
    for name in ("one", "two"):
        with Store.open(tmp_path / f"{name}.db") as store:
            jobs.submit(store, {}, "sha", f"job of {name}")
    assert persyn("--store", "two.db", "jobs", "--json").json[0]["name"] == "job of two"
    assert persyn("--store", "one.db", "jobs", "--store", "two.db", "--json").json[0]["name"] == "job of two"
    assert persyn("--store", "nowhere.db", "data", "list").code == 2
