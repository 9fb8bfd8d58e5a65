"""Tools of the engine that load a model, as processes of their own: the app never imports torch."""

import asyncio
import json
from contextlib import suppress
from typing import Any

from engine import tools
from engine.pipeline import launch
from persyn_tui.app.screens.router.router_process import HelperError, reason
from storage.store import Store


async def ask(store: Store, tool: str, positional: list[str], options: list[str]) -> dict[str, Any]:
    """What a tool of `engine.tools` prints as JSON. Cancelling the wait ends the tool.

    A dash at the beginning of a positional argument means nothing.

    Raises:
        HelperError: the tool failed, in its own words.
        StoreMissingError: the tool would find another store than this one, or none.
    """
    process = await asyncio.create_subprocess_exec(
        *tools.command(tool, positional, options, as_json=True),
        env=launch.environment(store),
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        start_new_session=True,  # ctrl+c in the terminal is the app's
        cwd="/",
    )
    try:
        out, err = await process.communicate()
    finally:
        with suppress(ProcessLookupError):
            process.kill()
    try:
        if process.returncode == 0:
            answer: dict[str, Any] = json.loads(out)
            return answer
    except ValueError:
        pass
    said = err.decode(errors="replace")
    raise HelperError(
        *reason(said if said.strip() else f"`{tool}` ended with exit code {process.returncode}")
    )
