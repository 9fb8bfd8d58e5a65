"""Tools of the engine that load a model, as processes of their own: the app never imports torch."""

import asyncio
import json
from contextlib import suppress
from typing import Any

from engine import launch, tools
from engine.errors import NeedsAttention
from storage.store import Store


async def ask(store: Store, tool: str, positional: list[str], options: list[str]) -> dict[str, Any]:
    """What a tool prints as JSON. Cancelling the wait ends the tool.

    Args:
        store: where the tool finds its rows.
        tool: its name in `engine.tools`.
        positional: arguments; a dash at the beginning means nothing.
        options: options.

    Raises:
        NeedsAttention: the tool failed, in its own words.
    """
    process = await asyncio.create_subprocess_exec(
        *tools.command(tool, positional, options, as_json=True),
        env=launch.environment(store),
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        start_new_session=True,  # ctrl+c in the terminal is the app's
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
    said = err.decode(errors="replace").strip()
    _, marked, message = said.rpartition("error: ")
    lines = (message if marked else said).splitlines()
    raise NeedsAttention(
        "\n".join(lines[-12:]) or f"`{tool}` ended with exit code {process.returncode} and said nothing"
    )
