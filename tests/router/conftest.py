"""Tiny real backbones with their own tokenizers, and calibration data whose best teacher depends on the prompt."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import (
    AutoModelForCausalLM,
    GPT2Config,
    LlamaConfig,
    PretrainedConfig,
    PreTrainedTokenizerFast,
)

from engine.router.manifest import Teacher
from storage.records import Messages

TEMPLATE = (
    "{% for m in messages %}[{{ m['role'][0] }}]{{ m['content'] }}[e]{% endfor %}"
    "{% if add_generation_prompt %}[a]{% endif %}"
)
TASKS = ("add", "sort", "spell", "count")


@dataclass(frozen=True)
class Data:
    """Calibration prompts and rewards; teacher k is best at task k, and rewards are noisy."""

    prompts: list[Messages]
    tasks: NDArray[np.int64]
    rewards: NDArray[np.float64]


def make_tokenizer(folder: Path, eos_ends_prompts: bool) -> None:
    """Save a character tokenizer; its pad token is its EOS token, as in several published models."""
    eos = "[a]" if eos_ends_prompts else "[e]"
    special = ["[s]", "[u]", "[a]", "[e]", "[x]"]
    characters = [chr(code) for code in range(32, 127)]
    vocabulary = {token: i for i, token in enumerate(dict.fromkeys([*special, *characters]))}
    inner = Tokenizer(models.WordLevel(vocabulary, unk_token="[x]"))
    inner.pre_tokenizer = pre_tokenizers.Split("", "isolated")
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=inner,
        unk_token="[x]",
        eos_token=eos,
        pad_token=eos,
        additional_special_tokens=special[:4],
    )
    tokenizer.chat_template = TEMPLATE
    tokenizer.save_pretrained(folder)


def make_model(folder: Path, config: PretrainedConfig) -> None:
    torch.manual_seed(0)
    AutoModelForCausalLM.from_config(config).save_pretrained(folder)


@pytest.fixture(scope="session")
def llama(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A Llama with a causal head on disk, whose pad = EOS token is the last token of every prompt."""
    folder = tmp_path_factory.mktemp("llama")
    make_tokenizer(folder, eos_ends_prompts=True)
    make_model(
        folder,
        LlamaConfig(
            vocab_size=104,
            hidden_size=48,
            intermediate_size=96,
            num_hidden_layers=2,
            num_attention_heads=4,
            num_key_value_heads=2,
            max_position_embeddings=128,
            tie_word_embeddings=True,
            initializer_range=0.2,
        ),
    )
    return str(folder)


@pytest.fixture(scope="session")
def gpt2(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("gpt2")
    make_tokenizer(folder, eos_ends_prompts=False)
    make_model(folder, GPT2Config(vocab_size=104, n_embd=32, n_layer=2, n_head=2, n_positions=96))
    return str(folder)


@pytest.fixture(scope="session")
def teachers() -> list[Teacher]:
    return [Teacher(f"teacher-{task}", f"sha-{task}") for task in TASKS]


@pytest.fixture(scope="session")
def make_data() -> Callable[..., Data]:
    def make(count: int, seed: int = 0, noise: float = 0.3) -> Data:
        random = np.random.default_rng(seed)
        tasks = random.integers(len(TASKS), size=count)
        prompts: list[Messages] = []
        for task in tasks:
            numbers = " ".join(str(n) for n in random.integers(1000, size=random.integers(1, 6)))
            prompts.append([{"role": "user", "content": f"{TASKS[task]} {numbers}"}])
        rewards = np.eye(len(TASKS))[tasks] + noise * random.normal(size=(count, len(TASKS)))
        return Data(prompts, tasks, rewards)

    return make
