"""The head of a model in parts: log-probabilities are those of all logits at once."""

from types import SimpleNamespace

import pytest
import torch
from torch import nn

from engine.models import forward
from engine.models.forward import SplitModel

STATES, WIDTH, VOCABULARY = 7, 8, 50


class Twice(nn.Linear):
    """A head whose product is not that of its weights, as one in few bits may be."""

    def forward(self, states: torch.Tensor) -> torch.Tensor:
        return 2 * super().forward(states)


@pytest.mark.parametrize("head", [nn.Linear, Twice])
@pytest.mark.parametrize(
    ("scale", "softcap", "bias"), [(1.0, None, False), (0.5, None, True), (1.0, 3.0, True)]
)
def test_a_vocabulary_in_blocks_gives_the_log_probabilities_of_the_whole(
    head: type[nn.Linear], scale: float, softcap: float | None, bias: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    torch.manual_seed(0)
    monkeypatch.setattr(forward, "LEAST_BLOCK", 16)
    split = SplitModel(SimpleNamespace(), head(WIDTH, VOCABULARY, bias=bias), scale, softcap)
    states = 3 * torch.randn(STATES, WIDTH)
    targets = torch.tensor([0, 15, 16, 31, 32, 48, 49])  # at both ends of blocks, and in the short last one
    with torch.inference_mode():
        found = split.log_probs(states, targets, memory=1)
        expected = split.logits(states).log_softmax(1)[range(STATES), targets]
    torch.testing.assert_close(found, expected)
