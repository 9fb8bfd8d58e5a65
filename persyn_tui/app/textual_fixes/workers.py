"""Work that goes on while keys are heard.

Textual 8.2 takes a coroutine for a worker: where the worker is given up before it runs, nobody awaits that, which
Python warns of. Given a function instead, it is called once the worker runs; but the types of `run_worker` do not know
of a function that makes a coroutine. Can go once they do.
"""

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
    """Runs it in the event loop, as `run_worker` does; without `exit_on_error` the node is told of an exception."""
    made: Any = work
    return node.run_worker(made, group=group, exclusive=exclusive, exit_on_error=exit_on_error)
