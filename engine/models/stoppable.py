"""A pass that can be stopped in its middle: one through a large model on a CPU takes many seconds."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from torch import Tensor, nn

from engine.base.errors import Cancelled


@contextmanager
def stoppable(model: nn.Module, should_stop: Callable[[], bool]) -> Iterator[None]:
    """Within it, `should_stop` is asked before each layer of `model`, and before each one of a backward pass.

    Args:
        model: its outermost `ModuleList`s hold its layers: a model of images and texts has one for each.
        should_stop: from whatever thread the model is called in.

    Raises:
        Cancelled: from the pass in which `should_stop` was first true.
    """

    def ask(*_: Any) -> None:
        if should_stop():
            raise Cancelled.between_commits()

    def ask_backward(*call: Any) -> None:
        made = call[-1]
        for tensor in made if isinstance(made, tuple) else (made,):
            if isinstance(tensor, Tensor) and tensor.requires_grad:
                tensor.register_hook(ask)  # type: ignore[no-untyped-call]

    layers = list(layers_of(model))
    hooks = [layer.register_forward_pre_hook(ask) for layer in (*layers, model)]
    hooks += [layer.register_forward_hook(ask_backward) for layer in layers]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()


def layers_of(module: nn.Module) -> Iterator[nn.Module]:
    """The layers of a model: what is in its outermost `ModuleList`s."""
    for child in module.children():
        if isinstance(child, nn.ModuleList):
            yield from child
        else:
            yield from layers_of(child)
