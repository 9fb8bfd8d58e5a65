"""A forward pass that is stopped in its middle."""

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
