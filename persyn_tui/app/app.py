"""The application: one mode per screen, start and end, and the keys that work everywhere."""

import asyncio
import signal
from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from importlib import import_module
from typing import Any, ClassVar

from rich.text import Text
from textual.actions import ActionParseResult
from textual.app import SystemCommand
from textual.binding import Binding, BindingType
from textual.dom import DOMNode
from textual.events import Event, Key, MouseEvent
from textual.filter import LineFilter
from textual.screen import Screen
from textual.widget import AwaitMount
from textual.widgets import Input, TextArea

from engine.base.errors import ConfigError
from persyn_tui.app import palette_commands
from persyn_tui.app.base import bug_report, keymap
from persyn_tui.app.base.colours import readable
from persyn_tui.app.base.settings import Settings, settings_path
from persyn_tui.app.screens.base import BaseScreen
from persyn_tui.app.state.base_app import BaseApp
from persyn_tui.app.store_watch import StoreWatch
from persyn_tui.app.textual_fixes import gc_tuning, mouse, paste, terminal
from persyn_tui.app.textual_fixes.output_filter import OutputFilter
from persyn_tui.app.textual_fixes.workers import background
from persyn_tui.app.widgets import palette
from persyn_tui.app.widgets.palette import Palette
from persyn_tui.app.widgets.question import Question
from storage.errors import PersynError

OUTPUT_FILTER = OutputFilter()
WARM_AFTER_S = 1.5
"""What dialogs need is imported then: the first screen stands, and nobody waits yet."""
SCREENS = ("jobs", "models", "router", "generation", "data", "distil", "logs")
WARMED = ("actions", "bindings", *(f"screens.{name}.screen" for name in ("wizard", *SCREENS)))
"""Modules that are imported after the first paint: half a second that no key has to wait for."""


def _import(module: str) -> Any:
    """A module of the app that is imported late, for the sake of a quick start: there is no other such place."""
    return import_module(f"persyn_tui.app.{module}")


def _screen(name: str) -> Screen[Any]:
    """Makes a screen when it is first gone to: what is not looked at costs no start-up time."""
    made: Screen[Any] = getattr(_import(f"screens.{name}.screen"), f"{name.capitalize()}Screen")()
    return made


class PersynApp(BaseApp):
    """The terminal app, on the store at a path or URL (None as in `Store.open`), from the mode `start` on."""

    CSS_PATH = "app.tcss"
    TITLE = "PerSyn"
    HORIZONTAL_BREAKPOINTS = [(0, "-narrow"), (100, "-normal"), (150, "-wide")]  # noqa: RUF012 — as MODES
    MODES = {name: partial(_screen, name) for name in SCREENS}  # noqa: RUF012 — Textual declares it as an instance's
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
        super().__init__(settings if settings is not None else Settings())
        self._watch = StoreWatch(self, location)
        self._start = start
        self._doubts: list[str] = []
        """What of the settings file does not hold."""

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
        if not await self._watch.open():
            return
        if self.works and (doubts := await asyncio.to_thread(_doubtful_bindings, self.works)):
            self._doubts += doubts
            self._say_doubts()
        self.set_timer(WARM_AFTER_S, self._warm)
        await self._watch.follow()

    def _say_doubts(self) -> None:
        """Says in one message what of the settings file does not hold."""
        if self._doubts:
            what = "\n".join(self._doubts)
            self.notify(f"{settings_path()}: {what}", severity="warning", timeout=15, about="settings")

    def _warm(self) -> None:
        """Imports what the wizard, starting a job and the other screens need."""
        # Where many apps come and go in one process, as in tests, their remains are to be collected.
        sparing = not self.is_headless

        def warm() -> None:
            try:
                for module in WARMED:
                    _import(module)
            finally:
                if sparing:
                    gc_tuning.settle()

        self.run_worker(warm, thread=True, group="warm")

    async def on_event(self, event: Event) -> None:
        """Keys come one after the other; esc clears the messages, whatever else it does."""
        if isinstance(event, MouseEvent) and mouse.is_gone(self.screen, event):
            return
        if not isinstance(event, Key) or event.is_forwarded:
            await super().on_event(event)
            return
        if event.key == "escape":
            self.clear_notifications()
        await self.ahead.take(event)

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
        self.leaving = True
        self.exit(message=self._farewell())

    def _ended_by(self, number: signal.Signals) -> None:
        """Gives the terminal back before the process ends; jobs go on."""
        self.leaving = True
        self.exit(return_code=128 + number, message=self._farewell())

    def _farewell(self) -> str:
        job = self.followed.job
        if job is None or not self.followed.active:
            return ""
        return f"job {job.id} goes on; `persyn` shows it again, `persyn cancel {job.id}` stops it"

    def on_unmount(self) -> None:
        self.leaving = True

    def crashed(self, error: BaseException | None) -> None:
        """Says what to do, and where the report is: no traceback, which would show prompts, responses and keys."""
        where = bug_report.crash(error)
        self.bell()
        self.panic(
            Text(
                f"error: the app stopped on a defect of ours: {type(error).__name__}\n"
                f"  → jobs go on; `persyn` shows them again. The report, without your data: {where}"
            )
        )

    # Looks

    def get_line_filters(self) -> Sequence[LineFilter]:
        """Textual's own, and the guard after them."""
        return [*super().get_line_filters(), OUTPUT_FILTER]

    def get_css_variables(self) -> dict[str, str]:
        """The theme's, readable."""
        theme = super().get_css_variables()
        self.theme_variables = {**theme, **readable(theme)}
        return self.theme_variables

    def watch_theme(self, theme: str) -> None:
        if self.is_running and theme != self.settings.theme and theme in self.available_themes:
            self.settings.theme = theme
            try:
                self.settings.save_theme()
            except (OSError, PersynError) as problem:
                self.notify(f"{theme} is not kept for the next start: {problem}", severity="warning")

    # Screens, help and palette

    def switch_mode(self, mode: str) -> AwaitMount:
        """Goes to a screen: no question stays open behind it, and of the messages only errors go along."""
        while isinstance(self.screen, Question | Palette):
            self.screen.dismiss(None)
        if mode != self.current_mode:
            self.keep_errors()
        return super().switch_mode(mode)

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        """`?` and `q` are characters where words are typed, or are about to be."""
        typed = isinstance(self.focused, Input | TextArea) or palette.is_open(self)
        return action not in ("toggle_help", "detach") or not typed

    def action_command_palette(self) -> None:
        self._offer(self.get_system_commands(self.screen), "Search for commands…")

    def search_themes(self) -> None:
        self._offer(palette_commands.themes(self), "Search for themes…")

    def _offer(self, commands: Iterable[SystemCommand], example: str) -> None:
        def does(chosen: SystemCommand | None) -> None:
            if chosen is not None:
                self.call_later(chosen.callback)  # once the palette is gone

        if not palette.is_open(self):
            self.push_screen(Palette(commands, example), does)

    def action_toggle_help(self) -> None:
        help_screen = _import("screens.help_screen")
        if isinstance(self.screen, help_screen.KeysScreen):
            self.screen.dismiss(None)
        else:
            self.push_screen(help_screen.KeysScreen(help_screen.sections(self, self.screen)))

    def get_system_commands(self, screen: Screen[Any]) -> Iterable[SystemCommand]:
        """What the palette offers; of two of one name the first."""
        given: set[str] = set()
        for one in palette_commands.commands(self, screen):
            if one.title not in given:
                given.add(one.title)
                yield one


def _doubtful_bindings(works: Mapping[str, str]) -> list[str]:
    bindings = _import("bindings")
    return [*bindings.unknown(works), *bindings.taken_twice(works)]


def run(location: str | None, start: str = "jobs") -> int:
    """Exit code after running the app in this terminal.

    Raises:
        ConfigError: it could not be seen.
    """
    if why := terminal.missing():
        raise ConfigError(
            why, "leave out `<` and `2>`; without a terminal use the commands, `persyn --help` lists them"
        )
    terminal.speak_utf8()
    paste.install()
    app = PersynApp(location, settings=Settings.load(), start=start)
    app.run()
    return app.return_code or 0
