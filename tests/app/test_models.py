"""Screen 2: what is listed, added, edited, archived and probed; nothing wrong is ever stored."""

import asyncio
import threading
from pathlib import Path
from typing import Any

import pytest
from app.support import running, until
from backends.endpoint import Endpoint, Reply, answer
from textual.pilot import Pilot
from textual.widgets import Static
from textual.widgets._footer import FooterKey

from engine.models import registering
from persyn_tui.app.app import PersynApp
from persyn_tui.app.confirm import Confirm
from persyn_tui.app.models.form import ModelForm
from persyn_tui.app.sheet import Sheet
from persyn_tui.app.wizard import draft
from storage import lookup, prompts, registry, responses
from storage.records import Completion, Model, NewResponse, Prompt, Sampling
from storage.store import Store

HOSTILE = "\x1b[2J\x1b]0;owned\x07 [red]text[/red] \u202etxt.exe\ud800"


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Store:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    return Store.open(tmp_path / "app.db")


def teacher(store: Store, name: str = "terse", model: str = "zoo:brief", **more: Any) -> Model:
    wanted = registering.settings({"name": name, "model": model, **more}, "teacher", Path.cwd())
    return registering.put(store, registering.record(registering.fill(wanted)[0], "teacher"))


def answered(store: Store, model: Model, count: int) -> None:
    opened = prompts.open_set(store, "set", "demo")
    made = [
        Prompt(({"role": "user", "content": f"question {n}"},), source=f"file:{n}", split="synthesis")
        for n in range(count)
    ]
    prompts.add(store, None, opened.id, made, 0)
    numbers = [prompt.id or 0 for _, prompt in prompts.page(store, opened.id)]
    assert model.id is not None
    rows = [
        NewResponse(number, model.id, "sha", Completion(number, "answer", "ok", "stop", 5, 7, 0.25), cost=0.0)
        for number in numbers
    ]
    responses.add(store, None, rows)


def sheet(app: PersynApp) -> Sheet:
    return app.screen.query_one("#models", Sheet)


def row(app: PersynApp, y: int = 1) -> str:
    return sheet(app).render_line(y).text


def said(app: PersynApp, selector: str = "#says") -> str:
    return str(app.screen.query_one(selector, Static).render())


async def form(app: PersynApp, pilot: Pilot[None], key: str) -> ModelForm:
    await pilot.press(key)
    await until(pilot, lambda: isinstance(app.screen, ModelForm) and app.screen.form.at is not None)
    assert isinstance(app.screen, ModelForm)
    return app.screen


async def put(pilot: Pilot[None], shown: ModelForm, key: str, text: str) -> None:
    """Goes to a field, empties it and types into it."""
    shown.form[key].focus_control()
    await until(pilot, lambda: shown.form.at is shown.form[key])
    await pilot.press("end", "ctrl+u", *text)


async def test_an_empty_store_says_the_next_step(store: Store) -> None:
    async with running(store.location, mode="models") as (app, _):
        assert app.screen.state == "empty"
        text = str(app.screen.query_one("#empty").render())
        assert "a   add" in text
        assert "run file" in text


async def test_teachers_come_before_students_and_80_columns_name_what_they_hide(store: Store) -> None:
    teacher(store, price={"input": 0.5, "output": 2})
    registry.put(store, Model("pupil", "student", "transformers", "zoo:student"), "s")
    async with running(store.location, mode="models", size=(80, 24)) as (app, pilot):
        await until(pilot, lambda: len(sheet(app).rows) == 2)
        assert "terse" in row(app, 1)
        assert "not probed" in row(app, 1)
        assert "pupil" in row(app, 2)
        assert "backend" in sheet(app).hidden
        await until(pilot, lambda: "hidden: " in said(app, "#title"))
        assert "backend" in app.screen.without()
        assert app.screen.query_one("#machine").size.height == 1


async def test_a_wrong_field_is_told_beside_it_and_nothing_is_stored(store: Store) -> None:
    async with running(store.location, mode="models", size=(80, 24)) as (app, pilot):
        shown = await form(app, pilot, "a")
        await put(pilot, shown, "name", "terse")
        await put(pilot, shown, "temperature", "-1")
        assert "at least 0" in shown.form["temperature"].said
        await put(pilot, shown, "parameters", "many")
        assert "not a number" in shown.form["parameters"].said
        await put(pilot, shown, "name", "two words")
        assert "only letters" in shown.form["name"].said
        await pilot.press("enter")
        assert app.screen is shown
        assert registry.list(store) == []


async def test_a_wrong_reference_gets_the_nearest_and_cannot_be_saved(store: Store) -> None:
    async with running(store.location, mode="models") as (app, pilot):
        shown = await form(app, pilot, "a")
        await put(pilot, shown, "name", "terse")
        await put(pilot, shown, "model", "~nobody-of-this-name/x")
        assert "not a usable path" in shown.form["model"].said
        await put(pilot, shown, "model", "zoo:breif")
        await until(pilot, lambda: "no model" in shown.form["model"].said)
        assert "did you mean zoo:brief?" in shown.form["model"].said
        assert "did you mean zoo:brief" in said(app)
        await pilot.press("enter")
        await until(pilot, lambda: "no model" in said(app))
        assert registry.list(store) == []


async def endpoint(pilot: Pilot[None], shown: ModelForm, name: str, model: str) -> None:
    """Fills in what every endpoint needs but its address."""
    await put(pilot, shown, "name", name)
    backend = shown.form["backend"]
    backend.focus_control()
    while backend.value != "openai":
        await pilot.press("right")
    await put(pilot, shown, "model", model)


async def test_an_endpoint_is_registered_probed_and_offered(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MY_KEY", "sk-secret")
    with Endpoint(lambda body, number: answer("five")) as server:
        async with running(store.location, mode="models", size=(120, 30)) as (app, pilot):
            shown = await form(app, pilot, "a")
            await endpoint(pilot, shown, "far", "m")
            assert not shown.form["revision"].display
            assert not shown.form["device"].display
            await pilot.press("enter")
            assert shown.form["base_url"].said.startswith("needed: http")
            assert [key for key, entry in shown.form.entries.items() if entry.wrong] == ["base_url"]
            await put(pilot, shown, "base_url", f"{server.url}, {server.url}/")
            await put(pilot, shown, "api_key_env", "MY_KEY")
            await put(pilot, shown, "price_output", "2.5")
            await pilot.press("enter")
            await until(pilot, lambda: app.screen is not shown)
            (stored,) = registry.list(store)
            assert stored.options == {
                "base_url": [server.url, f"{server.url}/"],
                "api_key_env": "MY_KEY",
            }
            assert stored.price_output == 2.5
            await until(pilot, lambda: sheet(app).key == stored.id)
            await pilot.press("t")
            await until(pilot, lambda: "what the model was given" in said(app, "#token"))
            assert "'five'" in said(app, "#token")
            assert server.headers[0]["authorization"] == "Bearer sk-secret"
            shown = await form(app, pilot, "e")
            assert shown.form["base_url"].value == f"{server.url}, {server.url}/"
            await put(pilot, shown, "base_url", server.url)
            await until(pilot, lambda: "the same identity" in said(app))
            await pilot.press("enter")
            await until(pilot, lambda: app.screen is not shown)
    (far,) = (one for one in draft.candidates(store)[0] if one.name == "far")
    assert (far.entry["base_url"], far.trouble) == (server.url, "")
    assert registering.settings(far.entry, "teacher", Path.cwd()).price.output == 2.5


async def test_what_is_wrong_with_an_address_is_told_beside_it_without_a_name_too(store: Store) -> None:
    async with running(store.location, mode="models", size=(120, 30)) as (app, pilot):
        shown = await form(app, pilot, "a")
        await endpoint(pilot, shown, "", "m")
        url, key = shown.form["base_url"], shown.form["api_key_env"]
        await put(pilot, shown, "base_url", "127.0.0.1:8000")
        assert "must be addresses like" in url.said
        await put(pilot, shown, "base_url", "https://me:secret@example.org/v1")
        assert "must not hold a password" in url.said
        await put(pilot, shown, "base_url", "http://example.org/v1")
        assert not url.wrong
        await put(pilot, shown, "api_key_env", "sk-1234")
        assert "must be the *name*" in key.said
        await put(pilot, shown, "api_key_env", "NOT_SET_YET")
        assert "plain http" in url.said
        assert url.wrong
        assert "not set here" in key.said
        assert not key.wrong
        await put(pilot, shown, "base_url", "https://example.org/v1")
        await put(pilot, shown, "name", "far")
        await pilot.press("enter")
        await until(pilot, lambda: app.screen is not shown)
        (stored,) = registry.list(store)
        assert stored.options["api_key_env"] == "NOT_SET_YET"


async def test_a_name_in_use_is_told_and_nothing_is_replaced_without_asking(store: Store) -> None:
    first = teacher(store)
    answered(store, first, 3)
    async with running(store.location, mode="models") as (app, pilot):
        shown = await form(app, pilot, "a")
        await put(pilot, shown, "name", "terse")
        await until(pilot, lambda: "taken: zoo:brief, transformers" in shown.form["name"].said)
        await put(pilot, shown, "model", "zoo:speller")
        await pilot.press("enter")
        await until(pilot, lambda: isinstance(app.screen, Confirm))
        loss = " ".join(str(widget.render()) for widget in app.screen.query(Static))
        assert "Replace the teacher terse?" in loss
        assert "3 stored answers stay" in loss
        await pilot.press("n")
        await until(pilot, lambda: app.screen is shown and shown.form["name"].control.has_focus)
        assert registry.list(store) == [first]
        await pilot.press("enter")
        await until(pilot, lambda: isinstance(app.screen, Confirm))
        await pilot.press("y")
        await until(pilot, lambda: not isinstance(app.screen, ModelForm | Confirm))
        (stored,) = registry.list(store)
        assert stored.model == "zoo:speller"


async def test_a_missing_model_is_told_on_its_own_row(store: Store) -> None:
    async with running(store.location, mode="models") as (app, pilot):
        shown = await form(app, pilot, "a")
        await put(pilot, shown, "name", "terse")
        assert not shown.form["name"].wrong
        assert not shown.form["model"].wrong
        await pilot.press("enter")
        assert [key for key, entry in shown.form.entries.items() if entry.wrong] == ["model"]
        assert "zoo:NAME" in shown.form["model"].said
        assert shown.form["model"].control.has_focus


async def test_the_list_shows_the_context_of_a_models_files(store: Store) -> None:
    teacher(store)
    async with running(store.location, mode="models", size=(140, 30)) as (app, pilot):
        await until(pilot, lambda: "zoo:brief" in row(app))
        assert " 256 " in row(app)


async def test_enter_in_the_system_prompt_is_a_new_line_and_the_footer_says_how_to_save(store: Store) -> None:
    def footer(app: PersynApp) -> list[tuple[str, str]]:
        keys = app.screen.query(FooterKey)
        return [(key.key_display, key.description) for key in keys]

    async with running(store.location, mode="models") as (app, pilot):
        shown = await form(app, pilot, "a")
        await until(pilot, lambda: ("⏎", "Save") in footer(app))
        await put(pilot, shown, "name", "terse")
        await put(pilot, shown, "model", "zoo:brief")
        await put(pilot, shown, "system", "Be")
        await pilot.press("enter", *"kind.")
        assert shown.form["system"].value == "Be\nkind."
        await until(pilot, lambda: {("⏎", "New line"), ("f2", "Save")} <= set(footer(app)))
        await pilot.press("f2")
        await until(pilot, lambda: app.screen is not shown)
        (stored,) = registry.list(store)
        assert stored.system == "Be\nkind."


async def test_the_files_of_a_vllm_teacher_are_looked_at_too(store: Store) -> None:
    async with running(store.location, mode="models") as (app, pilot):
        shown = await form(app, pilot, "a")
        await put(pilot, shown, "name", "far")
        await put(pilot, shown, "model", "./big-model")
        shown.form["backend"].focus_control()
        await pilot.press("right")
        assert shown.form["backend"].value == "vllm"
        await until(pilot, lambda: "does not exist" in shown.form["model"].said)
        await pilot.press("enter")
        await until(pilot, lambda: "does not exist" in said(app))
        assert registry.list(store) == []


async def test_what_the_files_say_is_filled_in_and_saved(store: Store) -> None:
    async with running(store.location, mode="models") as (app, pilot):
        shown = await form(app, pilot, "a")
        await put(pilot, shown, "name", "terse")
        await put(pilot, shown, "model", "zoo:b")
        await until(pilot, lambda: shown.form["model"].control._suggestion == "zoo:brief")  # type: ignore[union-attr]
        await pilot.press("tab")
        await until(pilot, lambda: shown.form["family"].value == "llama")
        assert int(shown.form["parameters"].value) > 100_000
        assert "256" in shown.form["context"].said
        await put(pilot, shown, "system", "Short.")
        await put(pilot, shown, "price_output", "2.5")
        await pilot.press("enter")
        await until(pilot, lambda: app.screen.state == "full" if hasattr(app.screen, "state") else False)
        (stored,) = registry.list(store)
        assert (stored.name, stored.role, stored.family) == ("terse", "teacher", "llama")
        assert (stored.system, stored.price_output, stored.model) == ("Short.", 2.5, "zoo:brief")
        await until(pilot, lambda: sheet(app).key == stored.id)


async def test_a_student_is_greedy_and_has_no_price(store: Store) -> None:
    async with running(store.location, mode="models") as (app, pilot):
        shown = await form(app, pilot, "a")
        shown.form["role"].focus_control()
        await pilot.press("space")
        assert shown.form["price_input"].disabled
        await put(pilot, shown, "name", "pupil")
        await put(pilot, shown, "model", "zoo:student")
        await pilot.press("enter")
        await until(pilot, lambda: len(registry.list(store)) == 1)
        (stored,) = registry.list(store)
        assert (stored.role, stored.sampling.temperature) == ("student", 0.0)


async def test_an_edit_says_whether_stored_answers_are_used_again(store: Store) -> None:
    first = teacher(store, sampling={"stop": ["END"]}, device="cpu")
    answered(store, first, 3)
    async with running(store.location, mode="models") as (app, pilot):
        shown = await form(app, pilot, "e")
        await until(pilot, lambda: "3 stored answers are used again" in said(app))
        await put(pilot, shown, "system", "Be kind.")
        await until(pilot, lambda: "a new identity" in said(app))
        assert "3 stored answers stay" in said(app)
        await pilot.press("shift+tab", "enter")
        await until(pilot, lambda: app.screen is not shown)
        (stored,) = registry.list(store)
        assert stored.id != first.id
        assert (stored.system, stored.sampling.stop, stored.options["device"]) == (
            "Be kind.",
            ("END",),
            "cpu",
        )
        assert lookup.answer_count(store, first.id or 0) == 3


async def test_a_price_is_no_new_identity(store: Store) -> None:
    first = teacher(store)
    async with running(store.location, mode="models") as (app, pilot):
        shown = await form(app, pilot, "e")
        await put(pilot, shown, "price_input", "9")
        await until(pilot, lambda: "the same identity" in said(app))
        await pilot.press("enter")
        await until(pilot, lambda: app.screen is not shown)
        (stored,) = registry.list(store)
        assert (stored.id, stored.price_input) == (first.id, 9.0)


async def test_leaving_a_form_asks_before_what_was_typed_is_lost(store: Store) -> None:
    teacher(store)
    async with running(store.location, mode="models") as (app, pilot):
        await form(app, pilot, "e")
        await pilot.press("escape")
        await until(pilot, lambda: not isinstance(app.screen, ModelForm))
        shown = await form(app, pilot, "a")
        await put(pilot, shown, "name", "x")
        await pilot.press("escape")
        await until(pilot, lambda: isinstance(app.screen, Confirm))
        await pilot.press("n")
        assert app.screen is shown
        assert shown.form["name"].value == "x"


async def test_archive_names_what_stays_and_undo_brings_it_back(store: Store) -> None:
    model = teacher(store)
    answered(store, model, 4)
    teacher(store, "wordy")
    async with running(store.location, mode="models") as (app, pilot):
        await until(pilot, lambda: "4 stored" in said(app, "#facts"))
        await pilot.press("d")
        await until(pilot, lambda: isinstance(app.screen, Confirm))
        shown = " ".join(str(widget.render()) for widget in app.screen.query(Static))
        assert "Archive the teacher terse?" in shown
        assert "4 answers" in shown
        await pilot.press("n")
        assert len(registry.list(store)) == 2
        await pilot.press("d")
        await until(pilot, lambda: isinstance(app.screen, Confirm))
        await pilot.press("y")
        await until(pilot, lambda: len(sheet(app).rows) == 1)
        assert "1 archived, h shows" in said(app, "#title")
        await pilot.press("h")
        await until(pilot, lambda: len(sheet(app).rows) == 2)
        assert "archived" in row(app, 1)
        await pilot.press("h", "u")
        await until(pilot, lambda: len(registry.list(store)) == 2)
        await until(pilot, lambda: len(sheet(app).rows) == 2)


async def test_hostile_settings_do_nothing_to_the_terminal(store: Store) -> None:
    sampling = Sampling(stop=(HOSTILE,))
    registry.put(store, Model(HOSTILE, "teacher", "b", HOSTILE, system=HOSTILE, sampling=sampling), "x")
    async with running(store.location, mode="models", size=(80, 24)) as (app, pilot):
        await until(pilot, lambda: "[red]text[/red]" in said(app, "#facts"))
        await pilot.press("e")
        await until(pilot, lambda: isinstance(app.screen, ModelForm))
        await pilot.press("escape")
        shown = said(app, "#facts") + row(app) + said(app, "#token")
        assert not set(shown) & {"\x1b", "\x07", "\u202e", "\ud800"}


async def test_a_probe_shows_a_real_token_and_the_template_as_plain_text(store: Store) -> None:
    model = teacher(store, system="[b]Be\x1b[2J brief.[/b]")
    async with running(store.location, mode="models") as (app, pilot):
        await pilot.press("t")
        await until(pilot, lambda: "esc stops it" in said(app, "#token"))
        await until(pilot, lambda: "what the model was given" in said(app, "#token"))
        text = said(app, "#token")
        assert "[b]Be" in text
        assert "What is 2 + 3?" in text
        assert "\x1b" not in text
        assert "✓" in row(app)
        assert "ms" in row(app)
        assert model.id is not None


async def test_a_probe_that_cannot_work_says_why(store: Store, tmp_path: Path) -> None:
    registry.put(store, Model("gone", "teacher", "transformers", str(tmp_path / "gone")), "x")
    async with running(store.location, mode="models") as (app, pilot):
        await pilot.press("t")
        await until(pilot, lambda: "✗ failed" in row(app))
        assert "does not exist" in said(app, "#token")
        assert "t tries again" in said(app, "#token")


async def test_escape_ends_the_process_of_a_probe_and_leaving_does_too(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    started: list[asyncio.subprocess.Process] = []
    real = asyncio.create_subprocess_exec

    async def start(*line: Any, **options: Any) -> asyncio.subprocess.Process:
        process = await real(*line, **options)
        started.append(process)
        return process

    monkeypatch.setattr(asyncio, "create_subprocess_exec", start)
    teacher(store)
    async with running(store.location, mode="models") as (app, pilot):
        await pilot.press("t")
        await until(pilot, lambda: len(started) == 1)
        await pilot.press("escape")
        await until(pilot, lambda: "not probed" in row(app))
        await pilot.press("t")
        await until(pilot, lambda: len(started) == 2)
    end = asyncio.get_running_loop().time() + 10
    while not all(_ended(process.pid) for process in started):
        assert asyncio.get_running_loop().time() < end
        await asyncio.sleep(0.02)


def _ended(pid: int) -> bool:
    """Whether the process is gone, or only waits for its parent to read its exit code."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except OSError:
        return True


async def test_slash_filters_models_and_a_stopped_filter_shows_all(store: Store) -> None:
    for name, model in (("terse", "zoo:brief"), ("sums", "zoo:adder")):
        teacher(store, name, model)
    async with running(store.location, mode="models") as (app, pilot):
        await until(pilot, lambda: len(sheet(app).rows) == 2)
        await pilot.press("slash", *"zoo:add", "enter")
        await until(pilot, lambda: len(sheet(app).rows) == 1 and "1 filtered" in said(app, "#title"))
        await until(pilot, lambda: said(app, "#facts").startswith("teacher sums"))
        await pilot.press("slash", *"er2")
        await until(pilot, lambda: "no model passes" in said(app, "#facts"))
        await pilot.press("escape")
        await until(pilot, lambda: len(sheet(app).rows) == 2)


async def test_what_is_still_looked_at_when_the_form_closes_is_given_up(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first look outlasts the form: saving has one of its own."""
    from persyn_tui.app.models import form as module

    release, real, looks = threading.Event(), module.examine, list[bool]()

    def examine(*arguments: Any) -> module.Examined:
        first = not looks
        looks.append(first)
        if first:
            release.wait(20)
        return real(*arguments)

    real_dismiss, given_up = ModelForm.dismiss, list[bool]()

    def dismiss(self: ModelForm, result: Model | None = None) -> Any:
        left = real_dismiss(self, result)
        given_up.extend(worker.is_cancelled for worker in self.app.workers if worker.group == "examine")
        return left

    monkeypatch.setattr(module, "examine", examine)
    monkeypatch.setattr(ModelForm, "dismiss", dismiss)
    async with running(store.location, mode="models") as (app, pilot):
        shown = await form(app, pilot, "a")
        await put(pilot, shown, "name", "terse")
        await put(pilot, shown, "model", "zoo:brief")
        await until(pilot, lambda: looks == [True])
        await pilot.press("f2")
        await until(pilot, lambda: app.screen is not shown)
        assert given_up == [True]
        release.set()
        await until(pilot, lambda: not any(worker.group == "examine" for worker in app.workers))
        await until(pilot, lambda: len(sheet(app).rows) == 1)


def far(store: Store, name: str, url: str, **more: str) -> Model:
    return registry.put(
        store, Model(name, "teacher", "openai", "m", options={"base_url": url, **more}), f"sha-{name}"
    )


def health(app: PersynApp, name: str) -> str:
    lines = [row(app, y) for y in range(1, len(sheet(app).rows) + 1)]
    return next(line for line in lines if f" {name} " in line)


async def test_an_endpoint_that_hangs_holds_no_other_up(store: Store) -> None:
    hold = threading.Event()
    slow = Endpoint(lambda body, number: Reply(hold=hold))
    try:
        with slow, Endpoint() as quick:
            far(store, "quick", quick.url)
            far(store, "slow", slow.url)
            async with running(store.location, mode="models") as (app, pilot):
                await until(pilot, lambda: len(sheet(app).rows) == 2)
                assert "t asks the endpoint for one real token" in said(app, "#token")
                await pilot.press("j", "t")
                await until(pilot, lambda: "asked for one token" in said(app, "#token"))
                assert "loading" not in said(app, "#token")
                assert "60 s" in said(app, "#token")
                await pilot.press("k", "t")
                await until(pilot, lambda: "✓" in health(app, "quick"))
                assert "loaded in" not in said(app, "#token")
                await until(pilot, lambda: slow.in_flight == 1)
                assert "✓" not in health(app, "slow")
                await pilot.press("j", "escape")
                await until(pilot, lambda: "not probed" in health(app, "slow"))
    finally:
        hold.set()


async def test_local_models_are_probed_in_turn_and_the_waiting_one_says_for_whom(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked, release = list[str](), asyncio.Event()

    async def ask(store: Store, tool: str, positional: list[str], options: list[str]) -> dict[str, Any]:
        asked.extend(positional)
        await release.wait()
        return {"token": "5", "latency_s": 0.1, "load_s": 1.0, "rendered": "x", "finish_reason": "length"}

    monkeypatch.setattr("persyn_tui.app.models.tool.ask", ask)
    models = [teacher(store, name) for name in ("a1", "b2", "c3")]
    far(store, "d4", "http://127.0.0.1:9/v1")
    async with running(store.location, mode="models") as (app, pilot):
        await until(pilot, lambda: len(sheet(app).rows) == 4)
        await pilot.press("t", "j", "t")
        await until(pilot, lambda: "waits for the probe of a1" in said(app, "#token"))
        assert "waits" in health(app, "b2")
        await pilot.press("j", "t")
        await until(pilot, lambda: "waits for the probe of a1" in said(app, "#token"))
        await pilot.press("j", "t")
        await until(pilot, lambda: len(asked) == 2)
        await pilot.press("k", "escape")
        await until(pilot, lambda: "not probed" in health(app, "c3"))
        await pilot.press("k", "k", "escape")
        await until(pilot, lambda: "not probed" in health(app, "a1"))
        await until(pilot, lambda: len(asked) == 3)
        await pilot.press("j")
        await until(pilot, lambda: "loading the model" in said(app, "#token"))
        release.set()
        await until(pilot, lambda: "✓" in health(app, "b2") and "✓" in health(app, "d4"))
        assert asked[0] == str(models[0].id)
        assert asked[2] == str(models[1].id)


async def test_a_key_that_is_not_set_needs_another_start(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("MY_KEY", raising=False)
    far(store, "keyed", "http://127.0.0.1:9/v1", api_key_env="MY_KEY")
    async with running(store.location, mode="models") as (app, pilot):
        await pilot.press("t")
        await until(pilot, lambda: "✗ failed" in row(app))
        text = said(app, "#token")
        assert "MY_KEY is not set" in text
        assert "start persyn again" in text
        assert "before the run" not in text
        assert "t tries again" not in text
        shown = await form(app, pilot, "e")
        await until(pilot, lambda: "start persyn again" in shown.form["api_key_env"].said)
    assert (
        "start persyn again" in next(one for one in draft.candidates(store)[0] if one.name == "keyed").trouble
    )


async def test_what_an_endpoint_sent_in_place_of_a_token_is_told(store: Store) -> None:
    with Endpoint(lambda body, number: answer("", "content_filter")) as filtered:
        far(store, "filtered", filtered.url)
        async with running(store.location, mode="models") as (app, pilot):
            await pilot.press("t")
            await until(pilot, lambda: "✗ failed" in row(app))
            assert "content filter refused the answer" in said(app, "#token")
