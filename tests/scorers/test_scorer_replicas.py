"""Scorers of several processes give the scores of one."""

from contextlib import closing
from pathlib import Path

import pytest
import torch
import transformers as hf

from engine.scorers import scorer_replicas
from engine.scorers.kinds import learnability, reward_model
from engine.scorers.scorer_kinds import never
from storage.records import Prompt, Score
from tools.zoo import tokens

ITEMS = [
    (
        Prompt(messages=({"role": "user", "content": f"What is {number} + {number}?"},), id=number),
        text * times,
    )
    for number in range(12)
    for times, text in (
        (1, f"{2 * number}"),
        (3, f"{number} + {number} = {2 * number}. "),
        (40, "too long? "),
    )
]


@pytest.mark.parametrize(
    ("kind", "settings"),
    [
        (learnability, {"model": "zoo:student", "system": "Add.", "context": 96}),
        (reward_model, {"model": "zoo:reward", "context": 96}),
    ],
)
def test_two_processes_give_the_scores_of_one(kind, settings) -> None:
    name = kind.__name__.rpartition(".")[2]
    with closing(kind.create(settings)) as scorer:
        alone = dict(scorer.scores(ITEMS))
    with closing(scorer_replicas.create(name, settings, ("cpu", "cpu"))) as scorer:
        found = list(scorer.scores(ITEMS, never))
    assert sorted(place for place, _ in found) == list(range(len(ITEMS)))
    assert {alone[place].status for place in alone} == {"ok", "too_long"}
    for place, score in found:
        assert about(score) == pytest.approx(about(alone[place]), abs=1e-4)
        assert (score.status, score.count) == (alone[place].status, alone[place].count)


def about(score: Score) -> tuple[float, float]:
    return score.value or 0.0, score.sum or 0.0


def test_the_one_output_of_a_reward_model_in_16_bits_is_not_rounded_to_16_bits(tmp_path: Path) -> None:
    tokenizer = tokens.build("A", [text for _, text in ITEMS])
    torch.manual_seed(0)
    config = hf.LlamaConfig(
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        vocab_size=len(tokenizer),
        initializer_range=0.3,
        pad_token_id=tokenizer.pad_token_id,
        num_labels=1,
    )
    hf.AutoModelForSequenceClassification.from_config(config).save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    settings = {"model": str(tmp_path), "dtype": "bfloat16", "device": "cpu"}
    with closing(reward_model.create(settings)) as scorer:
        values = torch.tensor([score.value for _, score in scorer.scores(ITEMS[:12])])
    assert (values != values.bfloat16().float()).any()
    assert reward_model.identity(settings)["head"] == "float32"
    assert "head" not in reward_model.identity({**settings, "dtype": "float32"})
