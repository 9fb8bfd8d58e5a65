"""The application: one mode per screen, the loop that follows the store, and what all screens ask of it."""

import asyncio
import os
import signal
import time
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from textual.actions import ActionParseResult
from textual.app import App, ScreenStackError, SystemCommand
from textual.binding import Binding, BindingType
from textual.css.query import NoMatches
from textual.dom import DOMNode
from textual.errors import NoWidget
from textual.events import Event, Key, MouseEvent
from textual.filter import LineFilter
from textual.notifications import Notification, Notify, SeverityLevel
from textual.screen import Screen
from textual.widget import AwaitMount
from textual.widgets import Input, TextArea

from engine.base.sanitize import strip_control
from persyn_tui.app import keymap, messages
from persyn_tui.app.colours import readable
from persyn_tui.app.followed_job import Followed
from persyn_tui.app.messages import SHOWN_S, Note
from persyn_tui.app.screens.base import BaseScreen
from persyn_tui.app.settings import Settings, settings_path
from persyn_tui.app.textual_fixes import gc_tuning, terminal
from persyn_tui.app.textual_fixes.output_filter import OutputFilter
from persyn_tui.app.textual_fixes.question import Question
from persyn_tui.app.textual_fixes.type_ahead import TypeAhead
from persyn_tui.app.textual_fixes.workers import background
from persyn_tui.app.widgets import palette
from persyn_tui.app.widgets.machine_strip import Machine, MachineStrip, Reading
from persyn_tui.app.widgets.palette import Palette
from storage.errors import PersynError, StoreMissingError

if TYPE_CHECKING:
    # The database's library takes longer to import than everything else: it comes after the first paint.
    from storage.changes import Changes
    from storage.store import Store

HARMLESS = OutputFilter()
SLOW_OPENING_S = 2.0
SLOW_WRITE_S = 0.5
"""Waits that are said."""
WARM_AFTER_S = 1.5
"""What dialogs need is imported then: the first screen stands, and nobody waits yet."""


def _screen(module: str, name: str) -> Callable[[], Screen[Any]]:
    """Makes a screen when it is first gone to: what is not looked at costs no start-up time."""

    def make() -> Screen[Any]:
        from importlib import import_module

        made: Screen[Any] = getattr(import_module(f"persyn_tui.app.screens.{module}"), name)()
        return made

    return make


class PersynApp(App[None]):
    """The terminal app.

    Args:
        location: path or URL of the store; None as in `Store.open`.
        settings: theme, keys, rates; None reads the settings file.
        start: the mode to begin in.
    """

    CSS_PATH = "app.tcss"
    TITLE = "PerSyn"
    HORIZONTAL_BREAKPOINTS = [(0, "-narrow"), (100, "-normal"), (150, "-wide")]  # noqa: RUF012 — as MODES
    MODES = {  # noqa: RUF012 — Textual declares it as an instance's
        "jobs": _screen("jobs.screen", "JobsScreen"),
        "models": _screen("models.screen", "ModelsScreen"),
        "router": _screen("router.screen", "RouterScreen"),
        "generation": _screen("generation.screen", "GenerationScreen"),
        "data": _screen("data.screen", "DataScreen"),
        "distil": _screen("distil.screen", "DistilScreen"),
        "logs": _screen("logs", "LogsScreen"),
    }
    BINDINGS: ClassVar[list[BindingType]] = [
        *(
            Binding(str(number), f"switch_mode('{mode}')", mode.capitalize(), show=False, id=f"go.{mode}")
            for number, mode in enumerate(MODES, start=1)
        ),
        # Before the dialogs, which nothing behind them hears; where words are typed it stays a character.
        Binding("question_mark", "toggle_help", "Help", key_display="?", id="app.help", priority=True),
        Binding("q", "detach", "Detach", id="app.detach"),
        Binding("ctrl+q", "quit", "Detach", show=False, id="app.quit", priority=False),
        Binding("ctrl+z", "suspend_process", "To the shell", show=False, id="app.suspend"),
    ]

    def __init__(
        self, location: str | None = None, settings: Settings | None = None, start: str = "jobs"
    ) -> None:
        super().__init__()
        self.settings = settings if settings is not None else Settings()
        self.store: Store | None = None
        self.store_name = "…"
        self.works: dict[str, str] = {}
        """Binding id → keys, of those that have others than the app gives them."""
        self._doubts: list[str] = []
        self.followed = Followed()
        """The job that the live screens show."""
        self.waits_for_store = False
        """Whether a write waits for another program's."""
        self.machine: deque[Reading] = deque(maxlen=60)
        self.ahead = TypeAhead(self, super().on_event)
        """Keys typed before what they are for is there."""
        self._location = location
        self._start = start
        self._leaving = False

    # Start and end

    def on_mount(self) -> None:
        """Shows the first screen, then opens the store in a thread."""
        faults = list(self.settings.faults)
        if self.settings.theme in self.available_themes:
            self.theme = self.settings.theme
        else:
            faults.append(
                f"there is no theme {self.settings.theme!r}; t on screen {{go.logs:7}} shows those there are"
            )
        own: list[Any] = [*self.BINDINGS, *BaseScreen.BINDINGS]
        self.works, refused = keymap.settled(self.settings.keys, own)
        self._doubts = [*faults, *refused]
        self._say_doubts()
        self.set_keymap(self.works)
        if not self.is_headless:
            loop = asyncio.get_running_loop()
            for number in (signal.SIGTERM, signal.SIGHUP):
                loop.add_signal_handler(number, self._ended_by, number)
            terminal.watch(
                lambda: loop.call_soon_threadsafe(self._ended_by, signal.SIGHUP), 128 + signal.SIGHUP
            )
        # After `fg` the terminal is empty.
        self.app_resume_signal.subscribe(self, lambda _: self.refresh(layout=True))
        self.switch_mode(self._start)
        background(self, self._live, group="live")

    async def _live(self) -> None:
        opening = asyncio.create_task(asyncio.to_thread(_open, self._location))
        _, late = await asyncio.wait({opening}, timeout=SLOW_OPENING_S)
        if late and isinstance(self.screen, BaseScreen):
            self.screen.still_loading("waiting for the store …\n\nAnother program may hold it.")
        try:
            store, changes = await opening
            await self.followed.read(store)
        except PersynError as problem:
            self.exit(return_code=problem.exit_code, message=f"error: {problem}")
            return
        # Only now: a screen that reads before the job is picked would say that there is none.
        self.store = store
        named = self._location is not None or "PERSYN_STORE" in os.environ
        if store.made and named and isinstance(self.screen, BaseScreen):
            # Its name may be a mistake.
            self.screen.add_to_empty(f"There was no store here, so this one is new:\n{store.name}")
        self.store_name = store.path.name if store.path else store.name
        if self.works and (doubts := await asyncio.to_thread(_doubtful_bindings, self.works)):
            self._doubts += doubts
            self._say_doubts()
        machine = Machine()
        self.set_timer(WARM_AFTER_S, self._warm)
        beat = 0
        trouble = ""
        try:
            while not self._leaving:
                try:
                    changed = await asyncio.to_thread(changes.seen) or bool(trouble)
                    if changed or beat % max(1, round(2 / self.settings.interval)) == 0:
                        await self.followed.read(store)
                    if isinstance(self.screen, BaseScreen):
                        await self.screen.follow(changed=changed)
                    if beat % max(1, round(1 / self.settings.interval)) == 0:
                        self.machine.append(await asyncio.to_thread(machine.read))
                        self.show_machine()
                    if trouble:
                        trouble = ""
                        self.settle("store")
                except PersynError as problem:
                    if str(problem) != trouble:
                        trouble = str(problem)
                        self.notify(trouble, severity="error", about="store")
                    if isinstance(problem, StoreMissingError) and isinstance(self.screen, BaseScreen):
                        self.screen.fail(trouble)
                except NoMatches:
                    if self.is_running:
                        raise
                    return
                self._show_wait(store)
                beat += 1
                await asyncio.sleep(self.settings.interval)
        except ScreenStackError:
            return  # the app is being left

    def _say_doubts(self) -> None:
        """Says in one message what of the settings file does not hold."""
        if self._doubts:
            what = "\n".join(self._doubts)
            self.notify(f"{settings_path()}: {what}", severity="warning", timeout=15, about="settings")

    def keyed(self, text: str) -> str:
        """The text with the keys that work now in the place of `{jobs.new:n}`."""
        return keymap.keyed(text, self.works)

    def _warm(self) -> None:
        """Imports what comes after the first screen."""
        # Where many apps come and go in one process, as in tests, their remains are to be collected.
        sparing = not self.is_headless
        self.run_worker(partial(_warm, sparing), thread=True, group="warm")

    def _show_wait(self, store: "Store") -> None:
        """Says that something waits for another program's write, and no longer when it does not."""
        waits = store.waiting_s > SLOW_WRITE_S
        if waits == self.waits_for_store:
            return
        self.waits_for_store = waits
        if waits:
            self.notify("waiting for the store: another program is writing to it", severity="warning")
        if isinstance(self.screen, BaseScreen):
            self.screen.paint_title()

    def show_machine(self) -> None:
        """Shows the newest reading on the current screen."""
        for strip in self.screen.query(MachineStrip):
            strip.show(list(self.machine))

    async def on_event(self, event: Event) -> None:
        """Keys come one after the other; esc clears the messages, whatever else it does.

        The library fails at a click on a widget that has been taken away since it was painted.
        """
        if isinstance(event, MouseEvent) and self._is_gone(event):
            return
        if not isinstance(event, Key) or event.is_forwarded:
            await super().on_event(event)
            return
        if event.key == "escape":
            self.clear_notifications()
        await self.ahead.take(event)

    def _is_gone(self, event: MouseEvent) -> bool:
        """Whether what the mouse is on has been taken away, and is only still painted."""
        try:
            under, _ = self.screen.get_widget_at(event.x, event.y)
        except NoWidget:
            return False
        return under is not self.screen and not under.is_attached

    async def run_action(
        self,
        action: "str | ActionParseResult",
        default_namespace: DOMNode | None = None,
        namespaces: Mapping[str, DOMNode] | None = None,
    ) -> bool:
        """Does what a key is for, where the store may be written or need not be."""
        name = action.partition("(")[0] if isinstance(action, str) else action[1]
        screen = self.screen
        if (
            isinstance(screen, BaseScreen)
            and name.rpartition(".")[2] in screen.WRITES
            and self.store is not None
            and self.store.read_only
        ):
            try:
                self.store.check_writable()
            except PersynError as problem:
                self.notify(str(problem), severity="warning", timeout=10)
            return True
        return await super().run_action(action, default_namespace, namespaces)

    async def action_detach(self) -> None:
        """As `action_quit`, by a key that is a character where words are typed."""
        await self.action_quit()

    async def action_quit(self) -> None:
        """Leaves; jobs go on."""
        self._leaving = True
        self.exit(message=self._farewell())

    def _ended_by(self, number: signal.Signals) -> None:
        """Gives the terminal back before the process ends; jobs go on."""
        self._leaving = True
        self.exit(return_code=128 + number, message=self._farewell())

    def _farewell(self) -> str:
        job = self.followed.job
        if job is None or not self.followed.active:
            return ""
        return f"job {job.id} goes on; `persyn` shows it again, `persyn cancel {job.id}` stops it"

    def on_unmount(self) -> None:
        """Gives the store back."""
        self._leaving = True

    def _fatal_error(self) -> None:
        # Textual prints the traceback with every local variable: prompts, answers and keys would be on screen.
        from rich.text import Text

        from persyn_tui.app import bug_report

        where = bug_report.crash(self._exception)
        self.bell()
        self.panic(
            Text(
                f"error: the app stopped on a defect of ours: {type(self._exception).__name__}\n"
                f"  → jobs go on; `persyn` shows them again. The report, without your data: {where}"
            )
        )

    # What screens ask

    def get_line_filters(self) -> Sequence[LineFilter]:
        """Textual's own, and the guard after them."""
        return [*super().get_line_filters(), HARMLESS]

    def get_css_variables(self) -> dict[str, str]:
        """The theme's, readable."""
        theme = super().get_css_variables()
        self.theme_variables = {**theme, **readable(theme)}
        return self.theme_variables

    def notify(
        self,
        message: str,
        *,
        title: str = "",
        severity: SeverityLevel = "information",
        timeout: float | None = None,
        markup: bool = False,
        about: str = "",
    ) -> None:
        """Shows a message for some seconds. It may hold names and model output: never as markup.

        One about an action (any name) takes the place of what was said of that action before.
        """
        lasts = timeout or SHOWN_S[severity]
        self.post_message(
            Notify(Note(self.keyed(strip_control(message)), title, severity, lasts, about=about))
        )

    def settle(self, about: str) -> None:
        """An action went well, or is begun again: what was said of it before no longer holds."""
        for note in list(self._notifications):
            if about and messages.about(note) == about:
                self._take_back(note)

    def on_notify(self, event: Notify) -> None:
        """Makes room for a message."""
        for note in messages.giving_way(event.notification, self._notifications):
            self._take_back(note)

    def _take_back(self, note: Notification) -> None:
        """Forgets a message, and its place on the screen, which the library would leave empty."""
        self._unnotify(note, refresh=False)
        for place in self.screen.query("ToastHolder"):
            if place.id is not None and place.id.endswith(note.identity):
                place.remove()

    def clear_notifications(self) -> None:
        """Takes every message away."""
        for note in list(self._notifications):
            self._take_back(note)
        super().clear_notifications()

    def open_mode(self, mode: str) -> None:
        """Goes to a screen."""
        self.switch_mode(mode)

    def switch_mode(self, mode: str) -> AwaitMount:
        """Goes to a screen: no question stays open behind it, and of the messages only errors go along."""
        while isinstance(self.screen, Question | Palette):
            self.screen.dismiss(None)
        if mode != self.current_mode:
            for note in list(self._notifications):
                if note.severity != "error":
                    self._take_back(note)
        return super().switch_mode(mode)

    # Help and palette

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        """`?` and `q` are characters where words are typed, or are about to be."""
        typed = isinstance(self.focused, Input | TextArea) or palette.is_open(self)
        return action not in ("toggle_help", "detach") or not typed

    def action_command_palette(self) -> None:
        """Every command by its name."""
        self._offer(self.get_system_commands(self.screen), "Search for commands…")

    def search_themes(self) -> None:
        """Every theme by its name."""
        self._offer(palette.themes(self), "Search for themes…")

    def _offer(self, commands: Iterable[SystemCommand], example: str) -> None:
        def does(chosen: SystemCommand | None) -> None:
            if chosen is not None:
                self.call_later(chosen.callback)  # once the palette is gone

        if not palette.is_open(self):
            self.push_screen(Palette(commands, example), does)

    def action_toggle_help(self) -> None:
        """Shows or hides the keys of the screen and of the focused widget."""
        from persyn_tui.app.screens.help_screen import KeysScreen, sections

        if isinstance(self.screen, KeysScreen):
            self.screen.dismiss(None)
        else:
            self.push_screen(KeysScreen(sections(self, self.screen)))

    def get_system_commands(self, screen: Screen[Any]) -> Iterable[SystemCommand]:
        """What the palette offers; of two of one name the first."""
        given: set[str] = set()
        for one in palette.commands(self, screen):
            if one.title not in given:
                given.add(one.title)
                yield one

    def action_picture(self) -> None:
        """Writes what is on the screen to a file in the folder that the app was started in."""
        name = time.strftime("persyn-%Y%m%d-%H%M%S.svg")
        try:
            self.notify(f"the screen is in {self.save_screenshot(name, str(Path.cwd()))}", about="picture")
        except OSError as problem:
            self.notify(f"the picture could not be written: {problem}", severity="error", about="picture")

    def watch_theme(self, theme: str) -> None:
        """Remembers a theme that the operator chose."""
        if self.is_running and theme != self.settings.theme and theme in self.available_themes:
            self.settings.theme = theme
            try:
                self.settings.save()
            except (OSError, PersynError) as problem:
                self.notify(f"{theme} is not kept for the next start: {problem}", severity="warning")


def _open(location: str | None) -> "tuple[Store, Changes]":
    from storage.changes import Changes
    from storage.store import Store

    store = Store.open(location)
    return store, Changes(store)


def _warm(sparing: bool) -> None:
    """Imports what the wizard, starting a job and the other screens need: half a second that no key has to wait for.

    Args:
        sparing: from now on the collector is kept from what was imported.
    """
    from importlib import import_module

    try:
        for module in (
            "actions",
            *(
                f"screens.{name}.screen"
                for name in ("wizard", "data", "generation", "router", "distil", "models")
            ),
        ):
            import_module(f"persyn_tui.app.{module}")
    finally:
        if sparing:
            gc_tuning.settle()


def _doubtful_bindings(works: Mapping[str, str]) -> list[str]:
    from persyn_tui.app import bindings

    return [*bindings.unknown(works), *bindings.taken_twice(works)]


def run(location: str | None, start: str = "jobs") -> int:
    """Exit code after running the app in this terminal.

    Raises:
        ConfigError: it could not be seen.
    """
    if why := terminal.missing():
        from engine.base.errors import ConfigError

        raise ConfigError(
            why, "leave out `<` and `2>`; without a terminal use the commands, `persyn --help` lists them"
        )
    terminal.speak_utf8()
    app = PersynApp(location, settings=Settings.load(), start=start)
    app.run()
    return app.return_code or 0
