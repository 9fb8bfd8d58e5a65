"""The reward_model scorer: the zoo's real one, and classifiers of other shapes, against a plain loop."""

from contextlib import closing
from pathlib import Path

import pytest
import torch
import transformers as hf

from engine.base.errors import ConfigError, ModelError, ScoreError
from engine.models.chat_template import conversation_ids
from engine.scorers.kinds import reward_model
from engine.scorers.scorer_kinds import score_all
from engine.zoo import resolve
from storage.records import Prompt
from tools.zoo import measure, tasks, tokens
from tools.zoo.answering import answers, correct, load

WORDS = ["Spell this word backward: sun", "What is 12 + 34?", "x", "The answer is 46. " * 4]
SMALL = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4}


def asked(text: str) -> Prompt:
    return Prompt(messages=({"role": "user", "content": text},))


ITEMS = [(asked(prompt), answer) for prompt in WORDS[:3] for answer in WORDS]


def values(settings: dict, items=ITEMS) -> list[float]:
    with closing(reward_model.create(settings)) as scorer:
        return [verdict.value for verdict in score_all(scorer, items)]


@torch.inference_mode()
def plain(folder: str, items=ITEMS) -> list[float]:
    """One conversation at a time through transformers, which adds neither padding nor special tokens."""
    model = hf.AutoModelForSequenceClassification.from_pretrained(folder, dtype=torch.float32).eval()
    tokenizer = hf.AutoTokenizer.from_pretrained(folder)
    found = []
    for prompt, text in items:
        turns = [*prompt.messages, {"role": "assistant", "content": text}]
        ids = tokenizer.apply_chat_template(turns, return_tensors="pt", return_dict=True)["input_ids"]
        found.append(model(input_ids=ids).logits[0, 0].item())
    return found


CONFIGS = {
    "llama": lambda common: hf.LlamaConfig(**SMALL, **common, num_key_value_heads=2),
    "gpt2": lambda common: hf.GPT2Config(n_embd=32, n_layer=2, n_head=4, n_positions=256, **common),
    "bert": lambda common: hf.BertConfig(**SMALL, **common, max_position_embeddings=256),
}


def saved(folder: Path, name: str, kind: tokens.Kind = "A", labels: int = 1, pad: str = "own") -> str:
    """A classifier with random weights; its answers differ clearly between conversations."""
    tokenizer = tokens.build(kind, WORDS)
    pads = {"own": tokenizer.pad_token_id, "end": tokenizer.eos_token_id, "none": None}
    torch.manual_seed(0)
    config = CONFIGS[name]({"vocab_size": len(tokenizer), "initializer_range": 0.3})
    config.num_labels, config.pad_token_id = labels, pads[pad]
    hf.AutoModelForSequenceClassification.from_config(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return str(folder)


def test_right_answers_of_the_teachers_score_higher_than_their_wrong_ones() -> None:
    """Over teachers: the zoo's model knows whose answers to a task are good, not whether one answer is right.

    Within one teacher, or against the right answer with one part spoiled, it is near chance.
    """
    items, right = [], []
    for teacher in ("scholar", "speller", "adder"):
        model, tokenizer = load(Path(resolve.resolve(f"zoo:{teacher}")))
        for task in tasks.TASKS:
            examples = tasks.measurement(task)[:15]
            replies = answers(model, tokenizer, examples)
            for example, text in zip(examples, replies, strict=True):
                if text:
                    items.append((asked(example.question), text))
                    right.append(correct(example, text))
    found = values({"model": "zoo:reward"}, items)
    good = [value for value, ok in zip(found, right, strict=True) if ok]
    bad = [value for value, ok in zip(found, right, strict=True) if not ok]
    assert len(good) > 30
    assert len(bad) > 30
    assert measure.area(good, bad) >= 0.8


def test_the_zoo_model_equals_a_plain_loop_whatever_the_batch() -> None:
    expected = plain(resolve.resolve("zoo:reward"))
    for batch_tokens in (1, 70, 100_000):
        found = values({"model": "zoo:reward", "batch_tokens": batch_tokens})
        assert found == pytest.approx(expected, abs=1e-4)


@pytest.mark.parametrize("name", CONFIGS)
@pytest.mark.parametrize(("kind", "pad"), [("A", "own"), ("B", "end")])
def test_other_classifiers_equal_a_plain_loop(tmp_path: Path, name: str, kind: tokens.Kind, pad: str) -> None:
    folder = saved(tmp_path, name, kind, pad=pad)
    expected = plain(folder)
    assert max(expected) - min(expected) > 0.05
    for batch_tokens in (1, 100_000):
        assert values({"model": folder, "batch_tokens": batch_tokens}) == pytest.approx(expected, abs=1e-4)


def test_a_conversation_that_ends_in_the_pad_token_is_pooled_before_it(tmp_path: Path) -> None:
    folder = saved(tmp_path, "llama", "B", pad="end")
    tokenizer = hf.AutoTokenizer.from_pretrained(folder)
    tokenizer.chat_template = "{% for m in messages %}{{ m['content'] + eos_token }}{% endfor %}"
    tokenizer.save_pretrained(folder)
    assert conversation_ids(tokenizer, asked("x").messages, "y")[-1] == tokenizer.pad_token_id
    expected = plain(folder)
    for batch_tokens in (1, 100_000):
        assert values({"model": folder, "batch_tokens": batch_tokens}) == pytest.approx(expected, abs=1e-4)


def test_a_model_without_a_pad_token_is_scored_in_batches(tmp_path: Path) -> None:
    folder = saved(tmp_path, "llama", pad="none")
    assert values({"model": folder}) == pytest.approx(plain(folder), abs=1e-4)


def test_bos_stands_once_where_tokenizer_and_template_both_put_it() -> None:
    tokenizer = tokens.build("A", WORDS)
    tokenizer.add_special_tokens({"bos_token": "<bos>"})
    tokenizer.chat_template = "{{ bos_token }}" + tokenizer.chat_template
    tokenizer.add_bos_token = True
    ids = conversation_ids(tokenizer, asked("x").messages, "y")
    assert ids.count(tokenizer.bos_token_id) == 1


def test_an_answer_that_does_not_fit_is_skipped_or_cut_and_said_so() -> None:
    items = [(asked("x"), "y"), (asked("x"), "The answer is 46. " * 100), (asked("x " * 400), "y")]
    with closing(reward_model.create({"model": "zoo:reward"})) as scorer:
        verdicts = score_all(scorer, items)
    assert [verdict.status for verdict in verdicts] == ["ok", "too_long", "too_long"]
    assert verdicts[1].value is None
    assert verdicts[1].count > 256
    with closing(reward_model.create({"model": "zoo:reward", "overlong": "truncate"})) as scorer:
        short, cut, hopeless = score_all(scorer, items)
    assert short.value == pytest.approx(verdicts[0].value, abs=1e-4)
    assert not short.detail
    assert cut.status == "ok"
    assert cut.count == 256
    assert cut.detail == {"truncated_tokens": verdicts[1].count - 256}
    assert hopeless.status == "too_long"  # the prompt alone leaves no room for an answer


def test_what_is_no_reward_model_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="would be random"):
        reward_model.create({"model": "zoo:student"})
    with pytest.raises(ModelError, match="2 outputs"):
        reward_model.create({"model": saved(tmp_path, "llama", labels=2)})


def test_broken_weights_are_an_error_not_a_number(tmp_path: Path) -> None:
    folder = saved(tmp_path, "llama")
    model = hf.AutoModelForSequenceClassification.from_pretrained(folder)
    torch.nn.init.constant_(model.score.weight, float("nan"))
    model.save_pretrained(folder)
    with pytest.raises(ScoreError, match="reward of item"):
        values({"model": folder})


def test_identity_covers_what_shapes_a_score() -> None:
    base = {"model": "zoo:reward"}
    same = reward_model.identity(base)
    assert reward_model.identity({**base, "batch_tokens": 7, "device": "cpu"}) == same
    for change in ({"dtype": "bfloat16"}, {"context": 64}, {"overlong": "truncate"}, {"model": "zoo:router"}):
        assert reward_model.identity({**base, **change}) != same
    with pytest.raises(ConfigError, match="has no model"):
        reward_model.identity({})
    with pytest.raises(ConfigError, match="overlong"):
        reward_model.identity({**base, "overlong": "cut"})


def test_order_does_not_matter_and_each_score_comes_after_its_own_pass() -> None:
    with closing(reward_model.create({"model": "zoo:reward"})) as scorer:
        assert score_all(scorer, []) == []
        forward = score_all(scorer, ITEMS)
        backward = score_all(scorer, ITEMS[::-1])
    assert [v.value for v in forward] == pytest.approx([v.value for v in backward][::-1], abs=1e-4)
