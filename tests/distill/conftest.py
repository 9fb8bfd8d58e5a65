"""A tiny real student: a Llama of 30k parameters with a word tokenizer whose pad token is its EOS token."""

import numpy as np
import pytest
import torch
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

CHATML = (
    "{% for m in messages %}{{ '<s> ' + m['role'] + ' ' + m['content'] + ' </s>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<s> assistant ' }}{% endif %}"
)
WORDS = ["<s>", "</s>", "<unk>", "user", "assistant", *(f"w{index}" for index in range(59))]


def build_tokenizer(template: str = CHATML) -> PreTrainedTokenizerFast:
    raw = Tokenizer(models.WordLevel({word: index for index, word in enumerate(WORDS)}, unk_token="<unk>"))
    raw.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=raw, bos_token="<s>", eos_token="</s>", pad_token="</s>", unk_token="<unk>"
    )
    tokenizer.chat_template = template
    return tokenizer


def build_student(seed: int = 0, tied: bool = True, width: int = 32) -> LlamaForCausalLM:
    torch.manual_seed(seed)
    config = LlamaConfig(
        vocab_size=len(WORDS),
        hidden_size=width,
        intermediate_size=2 * width,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=1,
        tie_word_embeddings=tied,
        bos_token_id=0,
        eos_token_id=1,
        pad_token_id=1,
    )
    return LlamaForCausalLM(config).eval()


def build_rows(count: int, seed: int = 0) -> list:
    rng = np.random.default_rng(seed)
    rows = []
    for _ in range(count):
        word = f"w{rng.integers(50)}"
        prompt = " ".join([word, *(f"w{rng.integers(50)}" for _ in range(int(rng.integers(1, 6))))])
        response = " ".join([word] * int(rng.integers(1, 12)))
        rows.append(([{"role": "user", "content": prompt}], response))
    return rows


@pytest.fixture
def tokenizer():
    return build_tokenizer()


@pytest.fixture
def student():
    return build_student()


@pytest.fixture
def student_folder(tmp_path):
    folder = tmp_path / "student"
    build_student().save_pretrained(folder)
    build_tokenizer().save_pretrained(folder)
    return folder


@pytest.fixture
def make():
    """Builders for tests that need more than one student or row set."""

    class Make:
        student = staticmethod(build_student)
        tokenizer = staticmethod(build_tokenizer)
        rows = staticmethod(build_rows)

    return Make
