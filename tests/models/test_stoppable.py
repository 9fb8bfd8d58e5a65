"""A pass that is stopped in its middle."""

import pytest
import torch
from torch import nn

from engine.base.errors import Cancelled
from engine.models.stoppable import stoppable


class Tower(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.ModuleList(nn.Linear(2, 2) for _ in range(3))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        for layer in self.layers:
            x = layer(x)
        return x


def test_every_tower_of_a_model_hears_a_stop() -> None:
    model, asked = nn.Sequential(Tower(), Tower()), []

    def stop_at(layer: int) -> None:
        asked.clear()
        with stoppable(model, lambda: bool(asked.append(1)) or len(asked) == layer), torch.no_grad():
            model(torch.zeros(1, 2))

    for layer in (2, 6):  # of the first tower, and of the second
        with pytest.raises(Cancelled):
            stop_at(layer)
        assert len(asked) == layer
    model(torch.zeros(1, 2))
    assert len(asked) == 6


def test_a_backward_pass_hears_a_stop_before_its_first_layer() -> None:
    model, stop = Tower(), [False]
    with stoppable(model, lambda: stop[0]):
        made = model(torch.ones(1, 2)).sum()
        stop[0] = True
        with pytest.raises(Cancelled):
            made.backward()
    assert all(weight.grad is None for weight in model.parameters())
