"""Learnability against a plain loop over single examples, and the traps of METHOD §6."""

import inspect
import math
from contextlib import closing

import pytest
import torch
import transformers as hf

from engine.base.errors import ConfigError, ScoreError
from engine.models.chat_template import encode
from engine.models.forward import SplitModel
from engine.scorers.kinds import learnability
from engine.scorers.kinds.learnability import Options, score
from engine.scorers.likelihood_forward import StudentForward
from engine.scorers.scorer_kinds import score_all
from storage.records import Prompt
from tools.zoo import tokens

SMALL = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4}
TEXTS = [
    "Spell this word backward: sun",
    "Solve for x in the equation: 3*x + 4 = 10",
    "What is 12 + 34?",
    "x",
]
ANSWERS = ["nus", "The answer is 2", "12 + 34 = 46\n46", "First spell the word forward, then backward: s u n"]


def tokenizer_of(kind: tokens.Kind, side: str = "right") -> hf.PreTrainedTokenizerFast:
    tokenizer = tokens.build(kind, TEXTS + ANSWERS)
    tokenizer.padding_side = side
    return tokenizer


def config_of(name: str, vocab: int) -> hf.PreTrainedConfig:
    common = {"vocab_size": vocab, "initializer_range": 0.3, "pad_token_id": 0}
    window = {"head_dim": 8, "sliding_window": 8, "num_key_value_heads": 2}
    configs = {
        "llama": lambda: hf.LlamaConfig(**SMALL, **common, num_key_value_heads=2),
        "qwen2": lambda: hf.Qwen2Config(**SMALL, **common, num_key_value_heads=2, tie_word_embeddings=True),
        "gpt2": lambda: hf.GPT2Config(n_embd=32, n_layer=2, n_head=4, n_positions=256, **common),
        "neox": lambda: hf.GPTNeoXConfig(**SMALL, **common, max_position_embeddings=256),
        "gemma2": lambda: hf.Gemma2Config(**SMALL, **common, **window, final_logit_softcapping=2.0),
        "mistral": lambda: hf.MistralConfig(**SMALL, **common, **window),
        "granite": lambda: hf.GraniteConfig(**SMALL, **common, num_key_value_heads=2, logits_scaling=3.0),
        "cohere": lambda: hf.CohereConfig(**SMALL, **common, num_key_value_heads=4, logit_scale=0.5),
        "bloom": lambda: hf.BloomConfig(hidden_size=32, n_layer=2, n_head=4, **common),
    }
    return configs[name]()


def model_of(name: str, tokenizer: hf.PreTrainedTokenizerFast) -> hf.PreTrainedModel:
    torch.manual_seed(0)
    config = config_of(name, len(tokenizer))
    kind = "eager" if name == "gemma2" else "sdpa" if name != "bloom" else "eager"
    return hf.AutoModelForCausalLM.from_config(config, attn_implementation=kind).eval()


def items_of(copies: int) -> list[tuple[list[dict[str, str]], str]]:
    """Every prompt with `copies` different answers, so that prompts are shared when copies > 1."""
    return [
        ([{"role": "user", "content": text}], ANSWERS[(index + shift) % 4] + " 7" * shift)
        for index, text in enumerate(TEXTS)
        for shift in range(copies)
    ]


@torch.inference_mode()
def plain(model, tokenizer, items, count_end_of_turn=True) -> list[tuple[float, int]]:
    """The definition, one example at a time, without padding: Σ log softmax over the response's tokens."""
    found = []
    for messages, text in items:
        encoded = encode(tokenizer, messages, text, count_end_of_turn)
        ids = torch.tensor([encoded.ids])
        logs = torch.log_softmax(model(input_ids=ids, use_cache=False).logits[0].float(), -1)
        positions = range(encoded.boundary, len(encoded.ids))
        found.append((sum(logs[t - 1, encoded.ids[t]].item() for t in positions), len(positions)))
    return found


def agree(found, expected) -> None:
    assert [one.tokens for one in found] == [tokens for _, tokens in expected]
    assert all(one.status == "ok" for one in found)
    assert [one.sum for one in found] == pytest.approx([total for total, _ in expected], abs=1e-4, rel=1e-6)


ARCHITECTURES = ["llama", "qwen2", "gpt2", "neox", "gemma2", "mistral", "granite", "cohere", "bloom"]


@pytest.mark.parametrize("name", ARCHITECTURES)
@pytest.mark.parametrize("copies", [1, 5])
def test_agrees_with_the_plain_loop(name: str, copies: int) -> None:
    tokenizer = tokenizer_of("B")
    model, items = model_of(name, tokenizer), items_of(copies)
    agree(score(model, tokenizer, items), plain(model, tokenizer, items))


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_fast_ways_are_taken_where_the_model_allows(name: str) -> None:
    tokenizer = tokenizer_of("B")
    forward = StudentForward(model_of(name, tokenizer), encode(tokenizer, *items_of(1)[0]).ids)
    assert forward.split
    assert forward.shares_prompts is (name != "bloom")  # ALiBi takes no positions


@pytest.mark.parametrize("side", ["left", "right"])
@pytest.mark.parametrize("kind", ["A", "B"])  # B: pad = EOS
@pytest.mark.parametrize("batch_tokens", [1, 70, 100_000])
def test_batch_size_padding_side_and_pad_token_change_nothing(kind, side, batch_tokens) -> None:
    tokenizer = tokenizer_of(kind, side)
    model, items = model_of("llama", tokenizer), items_of(3) + items_of(1)[:1]
    expected = plain(model, tokenizer, items)
    for share in (True, False):
        agree(
            score(model, tokenizer, items, Options(batch_tokens=batch_tokens, share_prompts=share)), expected
        )


def test_uniform_model_gives_minus_log_vocabulary_per_token() -> None:
    tokenizer = tokenizer_of("A")
    model = model_of("llama", tokenizer)
    torch.nn.init.zeros_(model.lm_head.weight)
    (found,) = score(model, tokenizer, [([{"role": "user", "content": "x"}], "abc")])
    assert found.tokens == 4  # a, b, c, end of turn
    assert found.sum == pytest.approx(-4 * math.log(len(tokenizer)), abs=1e-4)


def test_end_of_turn_counts_only_when_asked() -> None:
    tokenizer = tokenizer_of("A")
    model, items = model_of("llama", tokenizer), items_of(2)
    without = score(model, tokenizer, items, Options(count_end_of_turn=False))
    agree(without, plain(model, tokenizer, items, count_end_of_turn=False))
    assert [one.tokens + 1 for one in without] == [one.tokens for one in score(model, tokenizer, items)]


def test_over_long_items_are_marked_and_the_rest_is_scored() -> None:
    tokenizer = tokenizer_of("A")
    model, items = model_of("llama", tokenizer), items_of(2)
    length = max(len(encode(tokenizer, *item).ids) for item in items)
    seen = []
    found = score(model, tokenizer, items, Options(max_length=length - 1), progress=lambda *n: seen.append(n))
    late = [one for one in found if one.status == "too_long"]
    assert late
    assert all(one.sum == 0.0 and one.tokens > 0 for one in late)
    kept = [index for index, one in enumerate(found) if one.status == "ok"]
    agree([found[i] for i in kept], plain(model, tokenizer, [items[i] for i in kept]))
    assert seen[-1] == (len(items), len(items))


def test_context_of_the_model_is_the_default_limit() -> None:
    tokenizer = tokenizer_of("A")
    model = model_of("gpt2", tokenizer)
    (found,) = score(model, tokenizer, [([{"role": "user", "content": "x"}], "y" * 300)])
    assert (found.status, found.tokens) == ("too_long", 301)


def test_empty_response_has_nothing_to_score_without_end_of_turn() -> None:
    tokenizer = tokenizer_of("A")
    model = model_of("llama", tokenizer)
    item = ([{"role": "user", "content": "x"}], "")
    assert score(model, tokenizer, [item], Options(count_end_of_turn=False))[0].status == "empty"
    assert score(model, tokenizer, [item])[0].tokens == 1
    assert score(model, tokenizer, []) == []


def test_nan_names_the_item() -> None:
    tokenizer = tokenizer_of("A")
    model = model_of("llama", tokenizer)
    with torch.no_grad():
        model.lm_head.weight[tokenizer.convert_tokens_to_ids("7")] = float("nan")
    with pytest.raises(ScoreError, match="item 0 is nan"):
        score(model, tokenizer, [([{"role": "user", "content": "x"}], "7")])


class Shifted(hf.LlamaForCausalLM):
    """A model that changes its logits in a way no config key tells."""

    def forward(self, *args, **kwargs):
        out = super().forward(*args, **kwargs)
        out.logits = out.logits * 2.0
        return out


def test_unknown_logit_changes_are_noticed_and_honoured(caplog) -> None:
    tokenizer = tokenizer_of("A")
    torch.manual_seed(0)
    model = Shifted(config_of("llama", len(tokenizer))).eval()
    items = items_of(2)
    agree(score(model, tokenizer, items), plain(model, tokenizer, items))
    assert "full logits" in caplog.text


def test_logits_are_made_for_response_positions_only_and_a_few_at_a_time(monkeypatch) -> None:
    tokenizer = tokenizer_of("A")
    model, items = model_of("llama", tokenizer), items_of(3)
    expected = plain(model, tokenizer, items)
    score(model, tokenizer, items)  # what the model allows has been found out, with logits of a few tokens
    made, capped, most = [], SplitModel._capped, 3 * len(tokenizer)

    def counted(split, values):
        made.append(values.numel())
        return capped(split, values)

    monkeypatch.setattr(SplitModel, "_capped", counted)
    monkeypatch.setattr("engine.models.forward.LEAST_BLOCK", 1)
    monkeypatch.setattr("engine.scorers.likelihood_forward._LOGITS_BYTES", {"cpu": 4 * most})
    for share in (True, False):
        made.clear()
        agree(score(model, tokenizer, items, Options(share_prompts=share)), expected)
        assert 0.8 * most < max(made) <= most
        assert sum(made) == len(tokenizer) * sum(tokens for _, tokens in expected)


def test_bfloat16_sums_are_not_rounded_to_bfloat16() -> None:
    tokenizer = tokenizer_of("A")
    model = model_of("llama", tokenizer).to(torch.bfloat16)
    sums = [one.sum for one in score(model, tokenizer, items_of(3))]
    assert any(torch.tensor(value).bfloat16().item() != value for value in sums)


def test_the_choice_of_attention_is_undone_and_changes_nothing(monkeypatch) -> None:
    tokenizer = tokenizer_of("A")
    model, items = model_of("llama", tokenizer).to(torch.bfloat16), items_of(3)
    used = set()
    model.model.layers[0].register_forward_pre_hook(lambda *_: used.add(model.config._attn_implementation))
    eager = [one.sum for one in score(model, tokenizer, items)]
    assert (used, model.config._attn_implementation) == ({"eager"}, "sdpa")
    monkeypatch.setattr("engine.scorers.likelihood_forward._EAGER_BYTES", 0)
    assert [one.sum for one in score(model, tokenizer, items)] == pytest.approx(eager, rel=0.02)
    assert used == {"eager", "sdpa"}


def test_out_of_memory_halves_the_batch(monkeypatch) -> None:
    tokenizer = tokenizer_of("A")
    model, items = model_of("llama", tokenizer), items_of(3)
    expected = plain(model, tokenizer, items)
    forward = model.model.forward

    def tight(input_ids, **kwargs):
        if len(input_ids) > 2:
            raise torch.OutOfMemoryError
        return forward(input_ids=input_ids, **kwargs)

    tight.__signature__ = inspect.signature(forward)
    monkeypatch.setattr(model.model, "forward", tight)
    agree(score(model, tokenizer, items), expected)
    agree(score(model, tokenizer, items, Options(share_prompts=False)), expected)


@pytest.fixture
def folder(tmp_path):
    tokenizer = tokenizer_of("B")
    model_of("llama", tokenizer).save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    return str(tmp_path)


def test_scorer_gives_verdicts(folder: str) -> None:
    scorer = learnability.create({"model": folder, "device": "cpu", "context": 80})
    prompt = Prompt(messages=[{"role": "user", "content": "x"}])
    good, late = score_all(scorer, [(prompt, "sun"), (prompt, "n u s " * 80)])
    scorer.close()
    model, tokenizer = hf.AutoModelForCausalLM.from_pretrained(folder).eval(), tokenizer_of("B")
    ((total, count),) = plain(model, tokenizer, [(prompt.messages, "sun")])
    assert (good.status, good.count) == ("ok", count)
    assert good.value == pytest.approx(total / count, abs=1e-5)
    assert good.sum == pytest.approx(total, abs=1e-4)
    assert (late.status, late.value, late.sum) == ("too_long", None, None)


@pytest.mark.parametrize(("own", "joined"), [("", "Be brief."), ("Add.", "Be brief.\n\nAdd.")])
def test_system_prompt_of_the_student_comes_first(folder: str, own: str, joined: str) -> None:
    user = {"role": "user", "content": "x"}
    item = (Prompt(messages=[*([{"role": "system", "content": own}] if own else []), user]), "sun")
    with closing(learnability.create({"model": folder, "system": "Be brief.", "device": "cpu"})) as scorer:
        (found,) = score_all(scorer, [item])
    messages = [{"role": "system", "content": joined}, user]
    model = hf.AutoModelForCausalLM.from_pretrained(folder).eval()
    ((total, _),) = plain(model, tokenizer_of("B"), [(messages, "sun")])
    assert found.sum == pytest.approx(total, abs=1e-4)


def test_identity_follows_what_shapes_a_score(folder: str, tmp_path) -> None:
    base = learnability.identity({"model": folder})
    assert base == learnability.identity({"model": folder, "batch_tokens": 1, "device": "cpu"})
    assert base != learnability.identity({"model": folder, "count_end_of_turn": False})
    assert base != learnability.identity({"model": folder, "dtype": "bfloat16"})
    torch.manual_seed(1)
    other = model_of("llama", tokenizer_of("B"))
    with torch.no_grad():
        other.lm_head.weight += 1
    other.save_pretrained(tmp_path)
    assert base != learnability.identity({"model": folder})


@pytest.mark.parametrize("version", ["VERSION", "BOUNDARY_VERSION"])
def test_scores_of_another_rule_are_other_scores(folder: str, monkeypatch, version: str) -> None:
    base = learnability.identity({"model": folder})
    monkeypatch.setattr(learnability, version, getattr(learnability, version) + 1)
    assert learnability.identity({"model": folder}) != base


def test_settings_are_checked() -> None:
    with pytest.raises(ConfigError, match="no setting 'modle'"):
        learnability.create({"modle": "x"})
    assert learnability.identity({"student": {"model": "x"}})["student"] == {"model": "x"}
    with pytest.raises(ConfigError, match="no student"):
        learnability.create({})
    with pytest.raises(ConfigError, match="unknown dtype 'fp8'"):
        learnability.create({"model": "x", "dtype": "fp8"})
