"""Work that goes on while keys are heard."""

from collections.abc import Callable, Coroutine
from typing import Any

from textual.dom import DOMNode
from textual.worker import Worker


def background(
    node: DOMNode,
    work: Callable[[], Coroutine[Any, Any, Any]],
    *,
    group: str = "default",
    exclusive: bool = False,
    exit_on_error: bool = True,
) -> Worker[Any]:
    """Runs it in the event loop, as `run_worker` does.

    It is called once the worker runs: of one that is given up before, no coroutine is left that nobody awaits.

    Args:
        node: whose work it is; it ends with the node.
        work: what to do.
        group: of the same node.
        exclusive: ends the group's others.
        exit_on_error: an exception ends the app; else the node is told.
    """
    made: Any = work  # the library's own type cannot tell a coroutine from an answer
    return node.run_worker(made, group=group, exclusive=exclusive, exit_on_error=exit_on_error)
