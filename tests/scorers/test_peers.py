"""Learnability equals what vLLM and lm-eval say of the same answers, on SmolLM2 and 50 pairs of its own."""

import json
import os
import urllib.request
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from engine.models.chat_template import encode, render_prompt
from engine.models.loading import load_causal_lm
from engine.scorers.kinds import learnability
from engine.scorers.scorer_kinds import score_all
from engine.sources.kinds.reasoning_gym import KIND as SOURCE
from engine.sources.kinds.reasoning_gym import ReasoningGymSource
from engine.teachers import teacher_kinds
from engine.teachers.vllm_server import command as _command
from engine.teachers.vllm_server.server import Server, free_port
from engine.zoo import resolve
from storage.records import Model, Prompt, Request, Sampling

pytestmark = [pytest.mark.real, pytest.mark.timeout(900)]

TASKS = ("gcd", "spell_backward", "simple_equations", "letter_counting", "chain_sum")
PAIRS = 50
CONTEXT = 1024

Pair = tuple[Prompt, str]


@pytest.fixture(scope="module")
def smollm2() -> str:
    folder = resolve.fetched_folder("smollm2-135m")
    if not (folder / resolve.MANIFEST).is_file():
        pytest.skip(f"{folder} is missing: persyn zoo fetch smollm2")
    return str(folder)


@pytest.fixture(scope="module")
def pairs(smollm2: str) -> list[Pair]:
    """Prompts of five tasks, and what SmolLM2 really answers to them; some answers are cut off."""
    sources = [
        ReasoningGymSource(source="reasoning_gym", task=task, size=PAIRS // len(TASKS), seed=3)
        for task in TASKS
    ]
    prompts = [prompt for source in sources for _, prompt in SOURCE.prompts(source)]
    sampling = Sampling(temperature=1.0, max_tokens=48, seed=7)
    model = Model(
        "smol", "teacher", "transformers", smollm2, sampling=sampling, options={"dtype": "bfloat16"}
    )
    requests = [Request(key, prompt.messages, sampling) for key, prompt in enumerate(prompts)]
    with closing(teacher_kinds.open_backend(model)) as backend:
        texts = {found.key: found.text for found in backend.generate(requests)}
    assert all(text.strip() for text in texts.values())
    return [(prompt, texts[key]) for key, prompt in enumerate(prompts)]


def scores(smollm2: str, pairs: list[Pair], dtype: str) -> tuple[np.ndarray, np.ndarray]:
    """Sums of log-probabilities and numbers of tokens, each (50,)."""
    with closing(learnability.create({"model": smollm2, "dtype": dtype})) as scorer:
        found = score_all(scorer, pairs)
    assert {verdict.status for verdict in found} == {"ok"}
    return np.array([verdict.sum for verdict in found]), np.array([verdict.count for verdict in found])


def prompt_logprobs(server: Server, rows: list[list[int]]) -> list[list[dict[str, Any]]]:
    """vLLM's log-probabilities of every token of every row; the first token of a row has none."""
    body = {"model": server.name, "prompt": rows, "max_tokens": 1, "temperature": 0, "prompt_logprobs": 0}
    request = urllib.request.Request(
        f"{server.url}/completions",
        json.dumps(body).encode(),
        {"content-type": "application/json", "authorization": f"Bearer {server.key}"},
    )
    with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(request, timeout=300) as reply:
        choices = json.load(reply)["choices"]
    return [choice["prompt_logprobs"] for choice in sorted(choices, key=lambda choice: choice["index"])]


@pytest.fixture
def server(smollm2: str, tmp_path: Path):
    if not os.environ.get(_command.PYTHON):
        pytest.skip(f"the environment variable {_command.PYTHON} names no interpreter with vLLM")
    port = free_port()
    options = {"served-model-name": "smol", "host": "127.0.0.1", "port": port, "max-model-len": CONTEXT}
    # Prompt log-probabilities of a cached prefix are not computed, and vLLM then leaves them out or errs.
    flags = {"enforce-eager": True, "no-enable-prefix-caching": True, "dtype": "bfloat16"}
    command = _command.arguments(_command.find(), smollm2, {**options, **flags}, ())
    variables = {"VLLM_CPU_KVCACHE_SPACE": "1", "OMP_NUM_THREADS": "2", "VLLM_API_KEY": "key"}
    started = Server(
        Model("smol", "teacher", "vllm", smollm2),
        command,
        _command.environment(variables),
        port=port,
        key="key",
        folder=tmp_path,
    )
    try:
        assert started.wait_ready(600, lambda: False)
        yield started
    finally:
        started.stop()


def test_vllm_gives_the_same_log_probabilities(smollm2: str, pairs: list[Pair], server: Server) -> None:
    _, tokenizer = load_causal_lm(smollm2)
    rows = [encode(tokenizer, prompt.messages, text) for prompt, text in pairs]
    said = prompt_logprobs(server, [row.ids for row in rows])
    sums = np.array(
        [
            sum(places[at][str(row.ids[at])]["logprob"] for at in range(row.boundary, len(row.ids)))
            for row, places in zip(rows, said, strict=True)
        ]
    )
    for dtype in ("float32", "bfloat16"):
        found, tokens = scores(smollm2, pairs, dtype)
        apart = np.abs(found - sums) / tokens
        print(f"vLLM bfloat16, ours {dtype}: mean {apart.mean():.4f}, most {apart.max():.4f} nats per token")
        assert apart.mean() <= 0.05


def test_lm_eval_gives_the_same_log_likelihoods(smollm2: str, pairs: list[Pair]) -> None:
    api = pytest.importorskip("lm_eval.api.instance", reason='pip install "persyn[eval]"')
    from lm_eval.models.huggingface import HFLM

    model, tokenizer = load_causal_lm(smollm2, dtype="float32")
    peer = HFLM(pretrained=model, tokenizer=tokenizer, batch_size=16, max_length=CONTEXT)

    def ask(continuations: list[str]) -> np.ndarray:
        asked = [
            api.Instance("loglikelihood", {}, (render_prompt(tokenizer, prompt.messages), continuation), 0)
            for (prompt, _), continuation in zip(pairs, continuations, strict=True)
        ]
        return np.array([total for total, _ in peer.loglikelihood(asked, disable_tqdm=True)])

    # It counts the newline that ends the prompt as part of the answer: alone, that is asked for by no answer.
    expected = ask([f"{text}<|im_end|>" for _, text in pairs]) - ask([""] * PAIRS)
    found, _ = scores(smollm2, pairs, "float32")
    apart = np.abs(found / expected - 1)
    print(f"lm-eval float32: mean {apart.mean():.2e}, most {apart.max():.2e} relative")
    assert apart.max() <= 1e-3
