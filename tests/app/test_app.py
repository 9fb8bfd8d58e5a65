"""The app as a whole: settings, crashes, what start-up imports, two apps at once, a store that cannot be opened."""

import asyncio
import json
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from app.support import running, stands, until
from textual.events import AppBlur
from textual.widgets import Static

from persyn_tui.app import bindings
from persyn_tui.app.app import PersynApp
from persyn_tui.app.base import keymap
from persyn_tui.app.base import settings as settings_module
from persyn_tui.app.base.settings import Settings
from persyn_tui.app.screens.base import BaseScreen
from persyn_tui.app.widgets.footer import Keys
from persyn_tui.app.widgets.palette import Palette
from persyn_tui.app.widgets.virtual_table import VirtualTable
from storage import jobs
from storage.errors import StoreError
from storage.store import Store


def test_start_imports_neither_torch_nor_the_database_library() -> None:
    code = (
        "import sys, persyn_tui.app.app, persyn_tui.app.screens.jobs.screen;"
        "print([m for m in ('torch', 'transformers', 'sqlalchemy', 'pyarrow', 'numpy') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_where_it_could_not_be_seen_it_says_so(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "persyn_tui.cli", "--store", str(tmp_path / "x.db")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 2
    assert "standard error, which is not a terminal" in done.stderr
    assert not (tmp_path / "x.db").exists()


async def test_a_crash_shows_where_the_report_is_and_no_variables(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    app = PersynApp(str(tmp_path / "x.db"), settings=Settings())
    api_key = "sk-abcdefghijklmnop"

    def broken() -> None:
        text = f"variable {api_key}"
        raise ZeroDivisionError(f"with {api_key}, not {len(text)}")

    async def crash() -> None:
        async with app.run_test() as pilot:
            await until(pilot, lambda: app.store is not None)
            app.call_later(broken)
            await until(pilot, lambda: app._exception is not None)
            await pilot.pause()

    with pytest.raises(ZeroDivisionError):
        await crash()
    shown = "".join(segment.text for found in app._exit_renderables for segment in found.segments)  # type: ignore[union-attr]
    err = capsys.readouterr().err + shown
    assert api_key not in err
    reports = list((tmp_path / "XDG_STATE_HOME").rglob("crash-*.txt"))
    assert len(reports) == 1
    text = reports[0].read_text(encoding="utf-8")
    assert "ZeroDivisionError" in text
    assert "in broken" in text
    assert api_key not in text
    assert reports[0].stat().st_mode & 0o077 == 0


async def test_a_store_of_a_newer_version_ends_the_app_with_the_message(tmp_path: Path) -> None:
    path = tmp_path / "x.db"
    path.write_bytes(b"this is no database, whatever its name says" * 100)
    app = PersynApp(str(path), settings=Settings())
    async with app.run_test() as pilot:
        await until(pilot, lambda: not app.is_running or app.return_code is not None)
    assert app.return_code == 2


async def test_two_apps_agree_and_a_new_one_shows_what_the_old_one_did(tmp_path: Path) -> None:
    location = str(tmp_path / "x.db")
    store = Store.open(location)
    job, _ = jobs.submit(store, {}, "0" * 64, "first")
    lease = jobs.claim(store, job.id, "test")
    jobs.set_stage(store, lease, "generate", {"stage": "generate", "done": 7, "total": 9})
    seen = asyncio.Barrier(3)

    def first_line(app: PersynApp) -> str:
        return app.screen.query_one("#jobs", VirtualTable).render_line(1).text

    async def operator() -> None:
        async with running(location) as (app, pilot):
            await until(pilot, lambda: "7 / 9" in first_line(app))
            await seen.wait()
            await until(pilot, lambda: "8 / 9" in first_line(app))

    async def engine() -> None:
        await seen.wait()
        await asyncio.to_thread(jobs.progress, store, lease, {"stage": "generate", "done": 8, "total": 9})

    # Tasks of their own: which app is the active one is a context variable.
    await asyncio.gather(*map(asyncio.create_task, (operator(), operator(), engine())))
    async with running(location) as (app, _):
        assert "8 / 9" in first_line(app)


async def test_every_mode_is_reached_by_its_number(tmp_path: Path) -> None:
    async with running(str(tmp_path / "x.db")) as (app, pilot):
        for number in (2, 3, 4, 5, 6, 7, 1):
            await pilot.press(str(number))
            await until(
                pilot,
                lambda number=number: (
                    getattr(app.screen, "NUMBER", 0) == number and app.screen.state in ("empty", "full")
                ),
            )
            assert app.screen.state == "empty"


async def test_the_keys_are_there_when_the_terminal_has_no_focus(tmp_path: Path) -> None:
    async with running(str(tmp_path / "x.db")) as (app, pilot):
        app.post_message(AppBlur())
        await until(pilot, lambda: not app.app_focus)
        app.switch_mode("models")
        await until(pilot, lambda: any(keys.offered for keys in app.screen.query(Keys)))


async def test_keys_are_remapped_by_the_settings_file(tmp_path: Path) -> None:
    path = settings_module.settings_path()
    path.parent.mkdir(parents=True)
    path.write_text(json.dumps({"keys": {"go.logs": "f7"}, "interval": 0.1}), encoding="utf-8")
    app = PersynApp(str(tmp_path / "x.db"), settings=Settings.load())
    async with app.run_test() as pilot:
        await until(pilot, lambda: app.store is not None)
        await pilot.press("f7")
        await until(pilot, lambda: getattr(app.screen, "NUMBER", 0) == 7)


def test_a_key_that_every_screen_has_for_something_else_is_said() -> None:
    assert bindings.taken_twice({"go.data": "f5"}) == [
        "keys: f5 is that of view.reread and go.data; one of them cannot be reached"
    ]
    assert bindings.taken_twice({"go.data": "f6", "jobs.cancel": "X"}) == []  # the example of docs/app.md


async def test_an_unknown_binding_in_the_settings_file_is_said(tmp_path: Path) -> None:
    app = PersynApp(str(tmp_path / "x.db"), settings=Settings(keys={"go.log": "f7", "jobs.new": "f8"}))
    async with app.run_test() as pilot:
        await until(pilot, lambda: bool(app.messages))
        (note,) = app.messages
        assert "settings.json: keys.go.log: no such binding; did you mean go.logs?" in note.message


def test_every_binding_has_an_id_that_can_be_remapped() -> None:
    assert {
        "go.data",
        "app.help",
        "jobs.cancel",
        "view.freeze",
        "confirm.yes",
        "wizard.next",
    } <= bindings.known()


@pytest.mark.parametrize(("number", "kept"), [(1, "n d"), (2, "a"), (3, "/"), (4, ""), (6, "")])
async def test_an_empty_screen_offers_only_keys_that_do_something(
    tmp_path: Path, number: int, kept: str
) -> None:
    async with running(str(tmp_path / "x.db"), mode=list(PersynApp.MODES)[number - 1]) as (app, _):
        assert app.screen.state == "empty"
        own = {
            active.binding.key
            for active in app.screen.active_bindings.values()
            if active.node is app.screen and active.enabled
        }
        offered = {key for key in own if key in "abcdefghijklmnopqrstuvwxyz" or key == "slash"}
        assert offered - {"p", "z", "y", "h", "u"} == {{"/": "slash"}.get(key, key) for key in kept.split()}


@pytest.mark.parametrize(
    ("content", "what"),
    [
        ("{", ["Expecting property name enclosed in double quotes: line 1 column 2 (char 1)"]),
        ("[]", ["not a JSON object"]),
        ('{"thme": "x"}', ["thme: no such setting"]),
        (
            '{"interval": 0, "keys": {"go.data": 5, "go.logs": "f7"}, "x": 1}',
            [
                "interval: should be greater than or equal to 0.1",
                "keys.go.data: should be a valid string",
                "x: no such setting",
            ],
        ),
        ('{"keys": []}', ["keys: should be a valid dictionary"]),
    ],
)
def test_every_fault_of_a_settings_file_is_named(content: str, what: list[str]) -> None:
    path = settings_module.settings_path()
    path.parent.mkdir(parents=True)
    path.write_text(content, encoding="utf-8")
    found = Settings.load()
    assert [fault.partition("\n")[0] for fault in found.faults] == what
    assert found.keys == ({"go.logs": "f7"} if "f7" in content else {})


def test_choosing_a_theme_keeps_what_the_settings_file_says_right_or_wrong() -> None:
    path = settings_module.settings_path()
    path.parent.mkdir(parents=True)
    said = {"theme": "nord", "interval": 0, "keys": {"jobs.new": "ctrl+b", "go.data": "f6"}, "thme": "x"}
    path.write_text(json.dumps(said), encoding="utf-8")
    found = Settings.load()
    assert found.theme == "nord"
    found.theme = "textual-dark"
    found.save_theme()
    assert json.loads(path.read_text(encoding="utf-8")) == {**said, "theme": "textual-dark"}


def test_keys_that_cannot_work_are_left_out_and_named() -> None:
    def settled(**keys: str) -> tuple[dict[str, str], list[str]]:
        chosen = {id.replace("__", "."): text for id, text in keys.items()}
        return keymap.settled(chosen, [*PersynApp.BINDINGS, *BaseScreen.BINDINGS])  # type: ignore[list-item]

    assert settled(jobs__new="N", go__data=" f6, ?") == (
        {"jobs.new": "N"} | {"go.data": "f6"},
        ["keys.go.data: ? is that of app.help, which works everywhere"],
    )
    assert settled(jobs__new="n, ctrl+b") == (
        {"jobs.new": "n"},
        ["keys.jobs.new: ctrl+b belongs to the terminal or to tmux; choose another"],
    )
    assert settled(jobs__new="\ud800") == ({}, ["keys.jobs.new: no key is written like this"])
    assert settled(jobs__new="q") == (
        {},
        ["keys.jobs.new: q is that of app.detach, which works everywhere; jobs.new keeps its own key"],
    )
    assert settled(jobs__new="q", app__detach="Q")[1] == []
    assert settled(confirm__yes="z")[1] == [], "what everybody's keys do is not behind a question"


async def test_texts_and_the_palette_name_the_keys_that_work_now(tmp_path: Path) -> None:
    path = settings_module.settings_path()
    path.parent.mkdir(parents=True)
    keys = {"jobs.new": "N", "jobs.demo": "q", "go.data": "f6", "go.jobs": "f1,f2", "models.add": "ctrl+s"}
    path.write_text(json.dumps({"interval": 0.1, "theme": "nord", "keys": keys}), encoding="utf-8")
    app = PersynApp(str(tmp_path / "x.db"), settings=Settings.load())
    async with app.run_test(size=(120, 30)) as pilot:
        await until(pilot, lambda: stands(app))
        assert app.theme == "nord"
        empty = str(app.screen.query_one("#empty", Static).content)
        assert "N   make one" in empty
        assert "d   run the demo" in empty
        (note,) = app.messages
        assert "keys.jobs.demo: q is that of app.detach" in note.message
        assert "keys.models.add: ctrl+s belongs" in note.message
        commands = {one.title: one.help for one in app.get_system_commands(app.screen)}
        assert commands["Go to data"] == "key f6"
        assert commands["Go to models"] == "key 2"
        assert commands["New"] == "key N"
        await pilot.press("f6")
        await until(pilot, lambda: app.current_mode == "data" and stands(app))
        empty = str(app.screen.query_one("#empty", Static).content)
        assert "f1  goes to the jobs: N makes one, d runs the demo" in empty.replace("\u00a0", " ")
        app.notify("{jobs.new:n} makes one")
        await until(pilot, lambda: any(note.message == "N makes one" for note in app.messages))


def test_texts_name_keys_by_bindings_that_there_are_with_the_keys_they_have() -> None:
    keys = {str(each.id): each.key for of in bindings._bound().values() for each in of}
    found = [
        (place[1], place[2])
        for path in Path(bindings.__file__).parent.rglob("*.py")
        for place in keymap.NAMED.finditer(path.read_text(encoding="utf-8").replace("{{", "{"))
        if path.name != "keymap.py" and place[1].partition(".")[0] in keymap.SCREENS
    ]
    assert len(found) > 20
    short = {"esc": "escape", "⏎": "enter", "/": "slash"}
    short |= {"[": "left_square_bracket", "]": "right_square_bracket"}
    assert [
        (id, key)
        for id, key in found
        if short.get(key, key.lower() if len(key) > 1 else key) not in keys.get(id, "").split(",")
    ] == []


async def test_a_settings_file_that_cannot_be_read_is_named_kept_and_stops_nobody(tmp_path: Path) -> None:
    path = settings_module.settings_path()
    path.parent.mkdir(parents=True)
    path.write_text('{"theme": "nord",', encoding="utf-8")
    app = PersynApp(str(tmp_path / "x.db"), settings=Settings.load())
    async with app.run_test(size=(120, 30)) as pilot:
        said: set[str] = set()

        def hears(words: str) -> bool:
            said.update(note.message for note in app.messages)
            return words in "\n".join(said)

        await until(pilot, lambda: hears("settings.json: Expecting"))
        app.theme = "gruvbox"
        await until(pilot, lambda: hears("is not overwritten"))
    assert path.read_text(encoding="utf-8") == '{"theme": "nord",'


@pytest.mark.parametrize("problem", [None, StoreError("the disk is full")])
async def test_a_read_that_ends_after_the_app_is_left_is_no_defect(
    tmp_path: Path, problem: StoreError | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun, held = threading.Event(), threading.Event()
    async with running(str(tmp_path / "x.db")) as (app, _):
        screen = app.screen
        assert isinstance(screen, BaseScreen)

        def slow(store: Store, question: object) -> None:
            begun.set()
            held.wait(30)
            if problem is not None:
                raise problem

        monkeypatch.setattr(screen, "read", slow)
        with app._context():
            reading = asyncio.create_task(screen.follow(changed=True))
        await asyncio.to_thread(begun.wait, 30)
    held.set()
    await reading


async def test_what_the_settings_file_cannot_mean_is_said(tmp_path: Path) -> None:
    store = Store.open(tmp_path / "app.db")
    settings = Settings(
        interval=0.1, theme="nosuch", keys={"jobs.cancel": "X", "jobs.resume": "X", "jobs.new": "2"}
    )
    app = PersynApp(store.location, settings=settings)
    async with app.run_test(size=(120, 30)) as pilot:
        said: set[str] = set()

        def all_said() -> bool:
            said.update(note.message for note in app.messages)
            found = "\n".join(said)
            return all(
                part in found
                for part in (
                    "no theme 'nosuch'",
                    "X is that of jobs.cancel and jobs.resume",
                    "2 is that of go.models",
                )
            )

        await until(pilot, all_said)


async def test_the_palette_has_what_the_screen_can_do(tmp_path: Path) -> None:
    app = PersynApp(Store.open(tmp_path / "app.db").location, settings=Settings(interval=0.1))
    async with app.run_test(size=(120, 30)) as pilot:
        await pilot.press("7")
        await until(pilot, lambda: app.current_mode == "logs" and app.screen.is_current)
        titles = [command.title for command in app.get_system_commands(app.screen)]
        assert "Theme: nord" in titles
        assert {"Copy a bug report", "Go to jobs", "Theme"} <= set(titles)
        assert len(titles) == len(set(titles))


async def test_the_palette_does_what_another_screen_does(tmp_path: Path) -> None:
    from persyn_tui.app.screens.models import (  # as they are imported once the first screen stands
        form,
        screen,
    )

    assert screen.ModelsScreen.NUMBER == 2
    async with running(str(tmp_path / "x.db")) as (app, pilot):
        found = {one.title: one for one in app.get_system_commands(app.screen)}
        assert "Go to jobs: New" not in found, "it is a command of this screen: New"
        assert found["Go to models: Add"].help == "key a there"
        found["Go to models: Edit"].callback()
        await until(pilot, lambda: any("Edit: nothing here" in note.message for note in app.messages))
        assert app.current_mode == "models"
        await pilot.press("1")
        await until(pilot, lambda: app.current_mode == "jobs" and stands(app))
        await pilot.press("ctrl+p")
        await until(pilot, lambda: isinstance(app.screen, Palette))
        await pilot.press(*"models:", "space", *"add")
        await until(pilot, lambda: app.screen.titles[:1] == ["Go to models: Add"])
        await pilot.press("enter")
        await until(pilot, lambda: isinstance(app.screen, form.ModelForm))
