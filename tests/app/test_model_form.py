"""Screen 2: what is added and edited; nothing wrong is ever stored."""

import threading
from pathlib import Path
from typing import Any

import plugin_package
import pytest
from app.stored_models import answered, form, open_store, said, sheet, teacher
from app.support import put, running, settled, until
from teachers.endpoint import Endpoint, answer
from textual.pilot import Pilot
from textual.widgets import Static

from engine.base.plugins import TEACHERS
from engine.registry import candidates, register
from persyn_tui.app.app import PersynApp
from persyn_tui.app.screens.models.form import ModelForm
from persyn_tui.app.widgets.confirm import Confirm
from persyn_tui.app.widgets.footer import Keys
from storage import registry, responses
from storage.records import Model
from storage.store import Store


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Store:
    return open_store(tmp_path, monkeypatch)


async def endpoint(pilot: Pilot[None], shown: ModelForm, name: str, model: str) -> None:
    """Fills in what every endpoint needs but its address."""
    await put(pilot, shown.form, "name", name)
    backend = shown.form["backend"]
    backend.control.focus()
    while backend.value != "openai":
        await pilot.press("right")
    await put(pilot, shown.form, "model", model)


async def test_a_wrong_field_is_told_beside_it_and_nothing_is_stored(store: Store) -> None:
    async with running(store.location, mode="models", size=(80, 24)) as (app, pilot):
        shown = await form(app, pilot, "a")
        await put(pilot, shown.form, "name", "terse")
        await put(pilot, shown.form, "sampling.temperature", "-1")
        assert "at least 0" in shown.form["sampling.temperature"].said
        await put(pilot, shown.form, "parameters", "many")
        assert "not a number" in shown.form["parameters"].said
        await put(pilot, shown.form, "name", "two words")
        assert "only letters" in shown.form["name"].said
        await pilot.press("enter")
        assert app.screen is shown
        assert registry.models(store) == []


async def test_a_wrong_reference_gets_the_nearest_and_cannot_be_saved(store: Store) -> None:
    async with running(store.location, mode="models") as (app, pilot):
        shown = await form(app, pilot, "a")
        await put(pilot, shown.form, "name", "terse")
        await put(pilot, shown.form, "model", "~nobody-of-this-name/x")
        assert "not a usable path" in shown.form["model"].said
        await put(pilot, shown.form, "model", "zoo:breif")
        await until(pilot, lambda: "no model" in shown.form["model"].said)
        assert "did you mean zoo:brief?" in shown.form["model"].said
        assert "did you mean zoo:brief" in said(app)
        await pilot.press("enter")
        await until(pilot, lambda: "no model" in said(app))
        assert registry.models(store) == []


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
            await put(pilot, shown.form, "base_url", f"{server.url}, {server.url}/")
            await put(pilot, shown.form, "api_key_env", "MY_KEY")
            await put(pilot, shown.form, "price.output", "2.5")
            await pilot.press("enter")
            await until(pilot, lambda: app.screen is not shown)
            (stored,) = registry.models(store)
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
            await put(pilot, shown.form, "base_url", server.url)
            await until(pilot, lambda: "the same identity" in said(app))
            await pilot.press("enter")
            await until(pilot, lambda: app.screen is not shown)
    (far,) = (one for one in candidates.candidates(store)[0] if one.name == "far")
    assert (far.entry["base_url"], far.trouble) == (server.url, "")
    assert register.settings(far.entry, "teacher", Path.cwd()).price.output == 2.5


async def test_what_is_wrong_with_an_address_is_told_beside_it_without_a_name_too(store: Store) -> None:
    async with running(store.location, mode="models", size=(120, 30)) as (app, pilot):
        shown = await form(app, pilot, "a")
        await endpoint(pilot, shown, "", "m")
        url, key = shown.form["base_url"], shown.form["api_key_env"]
        await put(pilot, shown.form, "base_url", "127.0.0.1:8000")
        assert "must be addresses like" in url.said
        await put(pilot, shown.form, "base_url", "https://me:secret@example.org/v1")
        assert "must not hold a password" in url.said
        await put(pilot, shown.form, "base_url", "http://example.org/v1")
        assert not url.wrong
        await put(pilot, shown.form, "api_key_env", "sk-1234")
        assert "must be the *name*" in key.said
        await put(pilot, shown.form, "api_key_env", "NOT_SET_YET")
        assert "plain http" in url.said
        assert url.wrong
        assert "not set here" in key.said
        assert not key.wrong
        await put(pilot, shown.form, "base_url", "https://example.org/v1")
        await put(pilot, shown.form, "name", "far")
        await pilot.press("enter")
        await until(pilot, lambda: app.screen is not shown)
        (stored,) = registry.models(store)
        assert stored.options["api_key_env"] == "NOT_SET_YET"


async def test_a_name_in_use_is_told_and_nothing_is_replaced_without_asking(store: Store) -> None:
    first = teacher(store)
    answered(store, first, 3)
    async with running(store.location, mode="models") as (app, pilot):
        shown = await form(app, pilot, "a")
        await put(pilot, shown.form, "name", "terse")
        await until(pilot, lambda: "taken: zoo:brief, transformers" in shown.form["name"].said)
        await put(pilot, shown.form, "model", "zoo:speller")
        await pilot.press("enter")
        await until(pilot, lambda: isinstance(app.screen, Confirm))
        loss = " ".join(str(widget.render()) for widget in app.screen.query(Static))
        assert "Replace the teacher terse?" in loss
        assert "3 stored responses stay" in loss
        await pilot.press("n")
        await until(pilot, lambda: app.screen is shown and shown.form["name"].control.has_focus)
        assert registry.models(store) == [first]
        await pilot.press("enter")
        await until(pilot, lambda: isinstance(app.screen, Confirm))
        await pilot.press("y")
        await until(pilot, lambda: not isinstance(app.screen, ModelForm | Confirm))
        (stored,) = registry.models(store)
        assert stored.model == "zoo:speller"


async def test_a_missing_model_is_told_on_its_own_row(store: Store) -> None:
    async with running(store.location, mode="models") as (app, pilot):
        shown = await form(app, pilot, "a")
        await put(pilot, shown.form, "name", "terse")
        assert not shown.form["name"].wrong
        assert not shown.form["model"].wrong
        await pilot.press("enter")
        assert [key for key, entry in shown.form.entries.items() if entry.wrong] == ["model"]
        assert "zoo:NAME" in shown.form["model"].said
        assert shown.form["model"].control.has_focus


async def test_a_field_of_many_lines_without_room_for_one_character_shows_nothing(store: Store) -> None:
    async with running(store.location, mode="models") as (app, pilot):
        shown = await form(app, pilot, "a")
        area = shown.form["system"].control
        assert area.placeholder
        area.focus()
        for width in (0, 1, 2):
            area.styles.width, area.styles.padding = width, (0, 1)
            await until(pilot, lambda: settled(app))
            assert len(area.render_line(0).text) == area.size.width


async def test_enter_in_the_system_prompt_is_a_new_line_and_the_footer_says_how_to_save(store: Store) -> None:
    def footer(app: PersynApp) -> list[tuple[str, str]]:
        return [(key.label, key.name) for key in app.screen.query_one(Keys).offered]

    async with running(store.location, mode="models") as (app, pilot):
        shown = await form(app, pilot, "a")
        await until(pilot, lambda: ("⏎", "Save") in footer(app))
        await put(pilot, shown.form, "name", "terse")
        await put(pilot, shown.form, "model", "zoo:brief")
        await put(pilot, shown.form, "system", "Be")
        await pilot.press("enter", *"kind.")
        assert shown.form["system"].value == "Be\nkind."
        await until(pilot, lambda: {("⏎", "New line"), ("f2", "Save")} <= set(footer(app)))
        await pilot.press("f2")
        await until(pilot, lambda: app.screen is not shown)
        (stored,) = registry.models(store)
        assert stored.system == "Be\nkind."


async def test_the_files_of_a_vllm_teacher_are_looked_at_too(store: Store) -> None:
    async with running(store.location, mode="models") as (app, pilot):
        shown = await form(app, pilot, "a")
        await put(pilot, shown.form, "name", "far")
        await put(pilot, shown.form, "model", "./big-model")
        shown.form["backend"].control.focus()
        await pilot.press("right")
        assert shown.form["backend"].value == "vllm"
        await until(pilot, lambda: "does not exist" in shown.form["model"].said)
        await pilot.press("enter")
        await until(pilot, lambda: "does not exist" in said(app))
        assert registry.models(store) == []


async def test_what_the_files_say_is_filled_in_and_saved(store: Store) -> None:
    async with running(store.location, mode="models") as (app, pilot):
        shown = await form(app, pilot, "a")
        await put(pilot, shown.form, "name", "terse")
        await put(pilot, shown.form, "model", "zoo:b")
        await until(pilot, lambda: shown.form["model"].control._suggestion == "zoo:brief")  # type: ignore[union-attr]
        await pilot.press("tab")
        await until(pilot, lambda: shown.form["family"].value == "llama")
        assert int(shown.form["parameters"].value) > 100_000
        assert "256" in shown.form["context"].said
        await put(pilot, shown.form, "system", "Short.")
        await put(pilot, shown.form, "price.output", "2.5")
        await pilot.press("enter")
        await until(pilot, lambda: app.screen.state == "full" if hasattr(app.screen, "state") else False)
        (stored,) = registry.models(store)
        assert (stored.name, stored.role, stored.family) == ("terse", "teacher", "llama")
        assert (stored.system, stored.price_output, stored.model) == ("Short.", 2.5, "zoo:brief")
        await until(pilot, lambda: sheet(app).key == stored.id)


async def test_a_student_is_greedy_and_has_no_price(store: Store) -> None:
    async with running(store.location, mode="models") as (app, pilot):
        shown = await form(app, pilot, "a")
        shown.form["role"].control.focus()
        await pilot.press("space")
        assert shown.form["price.input"].disabled
        await put(pilot, shown.form, "name", "pupil")
        await put(pilot, shown.form, "model", "zoo:student")
        await pilot.press("enter")
        await until(pilot, lambda: len(registry.models(store)) == 1)
        (stored,) = registry.models(store)
        assert (stored.role, stored.sampling.temperature) == ("student", 0.0)


async def test_an_edit_says_whether_stored_answers_are_used_again(store: Store) -> None:
    first = teacher(store, sampling={"stop": ["END"]}, device="cpu")
    answered(store, first, 3)
    async with running(store.location, mode="models") as (app, pilot):
        shown = await form(app, pilot, "e")
        await until(pilot, lambda: "3 stored responses are used again" in said(app))
        await put(pilot, shown.form, "system", "Be kind.")
        await until(pilot, lambda: "a new identity" in said(app))
        assert "3 stored responses stay" in said(app)
        await pilot.press("shift+tab", "enter")
        await until(pilot, lambda: app.screen is not shown)
        (stored,) = registry.models(store)
        assert stored.id != first.id
        assert (stored.system, stored.sampling.stop, stored.options["device"]) == (
            "Be kind.",
            ("END",),
            "cpu",
        )
        assert responses.count_of_teacher(store, first.id or 0) == 3


async def test_a_price_is_no_new_identity(store: Store) -> None:
    first = teacher(store)
    async with running(store.location, mode="models") as (app, pilot):
        shown = await form(app, pilot, "e")
        await put(pilot, shown.form, "price.input", "9")
        await until(pilot, lambda: "the same identity" in said(app))
        await pilot.press("enter")
        await until(pilot, lambda: app.screen is not shown)
        (stored,) = registry.models(store)
        assert (stored.id, stored.price_input) == (first.id, 9.0)


async def test_leaving_a_form_asks_before_what_was_typed_is_lost(store: Store) -> None:
    teacher(store)
    async with running(store.location, mode="models") as (app, pilot):
        await form(app, pilot, "e")
        await pilot.press("escape")
        await until(pilot, lambda: not isinstance(app.screen, ModelForm))
        shown = await form(app, pilot, "a")
        await put(pilot, shown.form, "name", "x")
        await pilot.press("escape")
        await until(pilot, lambda: isinstance(app.screen, Confirm))
        await pilot.press("n")
        assert app.screen is shown
        assert shown.form["name"].value == "x"


async def test_what_is_still_looked_at_when_the_form_closes_is_given_up(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first look outlasts the form: saving has one of its own."""
    from persyn_tui.app.screens.models import form as module

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
        await put(pilot, shown.form, "name", "terse")
        await put(pilot, shown.form, "model", "zoo:brief")
        await until(pilot, lambda: looks == [True])
        await pilot.press("f2")
        await until(pilot, lambda: app.screen is not shown)
        assert given_up == [True]
        release.set()
        await until(pilot, lambda: not any(worker.group == "examine" for worker in app.workers))
        await until(pilot, lambda: len(sheet(app).rows) == 1)


async def test_answers_longer_than_the_context_are_doubted(tmp_path: Path) -> None:
    async with running(str(tmp_path / "s.db"), mode="models", size=(140, 40)) as (app, pilot):
        await app.push_screen(ModelForm())
        shown = app.screen
        assert isinstance(shown, ModelForm)
        await put(pilot, shown.form, "context", "256")
        await until(
            pilot,
            lambda: (
                "1,024, but prompt and response together have 256" in shown.form["sampling.max_tokens"].said
            ),
        )
        await put(pilot, shown.form, "sampling.max_tokens", "64")
        await until(pilot, lambda: not shown.form["sampling.max_tokens"].doubtful)


async def test_a_kind_of_another_package_has_its_settings_in_the_form(store: Store, tmp_path: Path) -> None:
    with plugin_package.installed(tmp_path, TEACHERS, "echo", plugin_package.ECHO):
        async with running(store.location, mode="models") as (app, pilot):
            shown = await form(app, pilot, "a")
            assert "loudness" not in shown.form.entries
            await put(pilot, shown.form, "name", "parrot")
            shown.form["backend"].control.focus()
            while shown.form["backend"].value != "echo":
                await pilot.press("right")
            await until(pilot, lambda: "loudness" in shown.form.entries)
            assert shown.form["loudness"].said == "how loud"
            assert shown.form["model"].said == "any word"
            assert not shown.form["revision"].display
            await put(pilot, shown.form, "model", "polly")
            await put(pilot, shown.form, "loudness", "0")
            assert "greater than or equal to 1" in shown.form["loudness"].said
            await put(pilot, shown.form, "loudness", "7")
            await pilot.press("enter")
            await until(pilot, lambda: app.screen is not shown)
            (stored,) = registry.models(store)
            assert (stored.backend, stored.model, stored.options) == ("echo", "polly", {"loudness": 7})
            shown = await form(app, pilot, "e")
            assert shown.form["loudness"].value == "7"


async def test_sections_of_a_kind_are_fields_too_and_go_with_the_kind(store: Store) -> None:
    async with running(store.location, mode="models", size=(120, 30)) as (app, pilot):
        shown = await form(app, pilot, "a")
        await endpoint(pilot, shown, "far", "m")
        await put(pilot, shown.form, "base_url", "http://127.0.0.1:9/v1")
        await put(pilot, shown.form, "endpoint.concurrency.start", "99")
        assert "above `max`" in shown.form["endpoint.concurrency.start"].said
        await put(pilot, shown.form, "endpoint.concurrency.start", "4")
        await pilot.press("enter")
        await until(pilot, lambda: app.screen is not shown)
        (stored,) = registry.models(store)
        assert stored.options["endpoint"]["concurrency"]["start"] == 4
        shown = await form(app, pilot, "e")
        assert shown.form["endpoint.concurrency.start"].value == "4"
        shown.form["backend"].control.focus()
        while shown.form["backend"].value != "transformers":
            await pilot.press("right")
        assert not shown.form["endpoint.concurrency.start"].display
        await put(pilot, shown.form, "model", "zoo:brief")
        await pilot.press("enter")
        await until(pilot, lambda: app.screen is not shown)
        (stored,) = registry.models(store)
        assert stored.options == {}
