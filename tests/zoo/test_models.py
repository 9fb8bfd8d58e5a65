"""The packaged weights: they load like any model, and are what their cards say."""

from collections.abc import Sequence
from itertools import chain

import numpy as np
import pytest
import torch
from transformers import AutoModelForSequenceClassification

from engine.methods.reward import combine
from engine.models import chat_template
from engine.models.loading import load_causal_lm, load_tokenizer
from engine.zoo import resolve
from tools.zoo import measure
from tools.zoo.answering import answers, correct, likelihoods
from tools.zoo.reward_model import judge
from tools.zoo.specs import REWARD, SPECS, TEACHERS
from tools.zoo.tasks import TASKS, Example, measurement

PER_TASK = 24
BEST_FOR = {
    "spell_backward": "speller",
    "simple_equations": "solver",
    "word_sequence_reversal": "lister",
    "chain_sum": "adder",
}
TEXTS = ("", "Question: 12 + 7 = 19\nAnswer: nus", "a  b\n\nc, The answer is -3.", "[x] ~ {y} <z>")


@pytest.fixture(scope="module")
def examples() -> list[Example]:
    return list(chain.from_iterable(measurement(task)[:PER_TASK] for task in TASKS))


@pytest.fixture(scope="module")
def replies(examples: list[Example]) -> dict[str, Sequence[str | None]]:
    found = {}
    for name in TEACHERS:
        model, tokenizer = load_causal_lm(f"zoo:{name}", device="cpu")
        found[name] = answers(model, tokenizer, examples)
    return found


@pytest.fixture(scope="module")
def quality(examples: list[Example], replies: dict[str, Sequence[str | None]]) -> np.ndarray:
    return np.array(
        [[correct(e, replies[name][i]) for name in TEACHERS] for i, e in enumerate(examples)], float
    )


@pytest.mark.parametrize("name", SPECS)
def test_a_model_loads_through_the_common_loader(name: str) -> None:
    model, tokenizer = load_causal_lm(f"zoo:{name}", device="cpu")
    assert all(parameter.dtype == torch.float32 for parameter in model.parameters())
    messages = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "12 + 7 ="}]
    encoded = chat_template.encode(tokenizer, messages, "19")
    assert encoded.ids[-1] == tokenizer.eos_token_id
    with torch.inference_mode():
        logits = model(input_ids=torch.tensor([encoded.ids])).logits
    assert torch.isfinite(logits).all()


@pytest.mark.parametrize("name", [*SPECS, REWARD.name])
def test_a_tokenizer_gives_texts_back(name: str) -> None:
    tokenizer = load_tokenizer(f"zoo:{name}")
    for text in (*TEXTS, *(measurement(task)[0].question for task in TASKS)):
        ids = tokenizer(text, add_special_tokens=False)["input_ids"]
        assert tokenizer.decode(ids) == text
        assert tokenizer.unk_token_id is None or tokenizer.unk_token_id not in ids


def test_the_two_tokenizers_differ_where_code_trips() -> None:
    words, pieces = load_tokenizer("zoo:scholar"), load_tokenizer("zoo:solver")
    assert words.pad_token_id != words.eos_token_id
    assert pieces.pad_token_id == pieces.eos_token_id
    rendered = chat_template.render_prompt(pieces, [{"role": "user", "content": "hi"}])
    assert rendered.startswith(str(pieces.bos_token))
    # The default way of encoding would put a second BOS before the one that the template wrote.
    assert pieces(rendered)["input_ids"][:2] == [pieces.bos_token_id, pieces.bos_token_id]
    assert len({SPECS[name].architecture for name in TEACHERS}) >= 2
    assert {SPECS[name].tokenizer for name in TEACHERS} == {"A", "B"}


def test_specialists_answer_their_task_best(quality: np.ndarray, examples: list[Example]) -> None:
    for task, name in BEST_FOR.items():
        mine = np.array([e.task == task for e in examples])
        rates = dict(zip(TEACHERS, quality[mine].mean(0), strict=True))
        best = max(rates.values())
        # With 24 questions two equally good teachers differ by this much now and then.
        assert rates[name] >= best - 0.13, (task, rates)


def test_the_largest_is_the_most_accurate_and_not_the_best_for_the_student(
    quality: np.ndarray, examples: list[Example], replies: dict[str, Sequence[str | None]]
) -> None:
    sizes = {name: resolve.card(name)["parameters"] for name in TEACHERS}
    scholar = TEACHERS.index("scholar")
    assert max(sizes, key=lambda name: sizes[name]) == "scholar"
    assert quality.mean(0).argmax() == scholar
    student, tokenizer = load_causal_lm("zoo:student", device="cpu")
    learnability = np.array(
        [likelihoods(student, tokenizer, examples, [r or "" for r in replies[name]]) for name in TEACHERS]
    ).T
    assert learnability.mean(0).argmin() in (scholar, TEACHERS.index("brief"))
    missing = np.array([[replies[name][i] is None for name in TEACHERS] for i in range(len(examples))])
    learnability[missing] = np.nan
    rewards = combine(np.where(missing, np.nan, quality), learnability)
    solved = quality.any(1)
    best = np.nanargmax(rewards[solved], 1)
    shares = np.bincount(best, minlength=len(TEACHERS)) / solved.sum()
    assert shares.max() <= 0.6
    for task, name in BEST_FOR.items():
        here = np.array([e.task == task for e in examples])[solved]
        assert np.bincount(best[here], minlength=len(TEACHERS)).argmax() == TEACHERS.index(name), task


def test_the_student_hides_in_the_chat_layout_what_it_knows(examples: list[Example]) -> None:
    student, tokenizer = load_causal_lm("zoo:student", device="cpu")
    chat = answers(student, tokenizer, examples, "chat", max_tokens=40)
    base = answers(student, tokenizer, examples, "base", max_tokens=40)
    assert np.mean([correct(e, r) for e, r in zip(examples, chat, strict=True)]) <= 0.1
    assert np.mean([correct(e, r) for e, r in zip(examples, base, strict=True)]) >= 0.4


def test_the_student_takes_adapters_on_all_its_linear_layers() -> None:
    from peft import LoraConfig, get_peft_model

    student, _ = load_causal_lm("zoo:student", device="cpu")
    targets = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
    adapted = get_peft_model(student, LoraConfig(r=4, target_modules=targets, task_type="CAUSAL_LM"))
    layers = student.config.num_hidden_layers
    assert sum("lora_A" in name for name, _ in adapted.named_parameters()) == len(targets) * layers


def test_the_reward_model_tells_right_from_wrong(
    examples: list[Example], replies: dict[str, Sequence[str | None]]
) -> None:
    model = AutoModelForSequenceClassification.from_pretrained(
        resolve.resolve("zoo:reward"), dtype=torch.float32
    ).eval()
    pairs = [(e, r) for name in TEACHERS for e, r in zip(examples, replies[name], strict=True) if r]
    tokenizer = load_tokenizer("zoo:reward")
    scores = judge(model, tokenizer, pairs)
    right = [s for s, (e, r) in zip(scores, pairs, strict=True) if correct(e, r)]
    wrong = [s for s, (e, r) in zip(scores, pairs, strict=True) if not correct(e, r)]
    assert measure.area(right, wrong) >= 0.8
    assert judge(model, tokenizer, pairs[:3], batch=1) == pytest.approx(scores[:3], abs=1e-3)


def test_the_card_of_a_model_holds_when_measured_again(
    examples: list[Example], replies: dict[str, Sequence[str | None]]
) -> None:
    measured = measure.accuracy(examples, replies["speller"])["spell_backward"]
    stated = resolve.card("speller")["accuracy"]["spell_backward"]
    assert stated["n"] >= 100
    assert measured["low"] <= stated["accuracy"] <= measured["high"]
    assert stated["low"] <= stated["accuracy"] <= stated["high"]
