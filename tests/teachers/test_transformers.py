"""The transformers backend on real, tiny models: greedy answers equal generate's, statuses, batches, seeds."""

from dataclasses import replace
from itertools import count
from threading import Thread

import pytest
import torch
import transformers as hf

from engine.base.errors import ConfigError, ModelError, TemplateError
from engine.models.chat_template import prompt_ids
from engine.teachers import teacher_kinds
from engine.teachers.kinds import transformers
from engine.teachers.local import batches, decode
from storage.records import Model, Request, Sampling
from tools.zoo import tokens

SMALL = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4}
QUESTIONS = [
    "What is 12 + 34?",
    "Spell this word backward: sun",
    "x",
    "Reverse these words: a, b, c, d",
    "7?",
    "hi",
]


def config_of(name: str, vocab: int) -> hf.PreTrainedConfig:
    common = {"vocab_size": vocab, "initializer_range": 0.3}
    window = {"head_dim": 8, "sliding_window": 16, "num_key_value_heads": 2}
    configs = {
        "llama": lambda: hf.LlamaConfig(
            **SMALL, **common, num_key_value_heads=2, max_position_embeddings=256
        ),
        "qwen2": lambda: hf.Qwen2Config(**SMALL, **common, num_key_value_heads=2),
        "gpt2": lambda: hf.GPT2Config(n_embd=32, n_layer=2, n_head=4, n_positions=256, **common),
        "neox": lambda: hf.GPTNeoXConfig(**SMALL, **common, max_position_embeddings=256),
        "gemma2": lambda: hf.Gemma2Config(**SMALL, **common, **window, final_logit_softcapping=2.0),
        "bloom": lambda: hf.BloomConfig(hidden_size=32, n_layer=2, n_head=4, **common),
    }
    return configs[name]()


@pytest.fixture
def save(tmp_path):
    def saved(name: str = "llama", kind: tokens.Kind = "A", **options) -> Model:
        tokenizer = tokens.build(kind, QUESTIONS)
        torch.manual_seed(0)
        model = hf.AutoModelForCausalLM.from_config(config_of(name, len(tokenizer)))
        model.generation_config = hf.GenerationConfig(eos_token_id=tokenizer.eos_token_id)
        model.save_pretrained(tmp_path)
        tokenizer.save_pretrained(tmp_path)
        options.setdefault("device", "cpu")
        return Model(name, "teacher", "transformers", str(tmp_path), options=options)

    return saved


def requests(sampling: Sampling, questions=QUESTIONS) -> list[Request]:
    return [Request(key, [{"role": "user", "content": text}], sampling) for key, text in enumerate(questions)]


def answers(backend, asked) -> dict[int, object]:
    found = {completion.key: completion for completion in backend.generate(asked)}
    assert len(found) == len(asked)
    return found


@pytest.mark.parametrize("name", ["llama", "qwen2", "gpt2", "neox", "gemma2", "bloom"])
def test_greedy_answers_equal_generate_on_single_prompts(save, name: str) -> None:
    model = save(name, "B" if name == "gpt2" else "A")
    backend = teacher_kinds.open_backend(model)
    asked = requests(Sampling(max_tokens=40))
    found = answers(backend, asked)
    tokenizer = hf.AutoTokenizer.from_pretrained(model.model)
    plain = hf.AutoModelForCausalLM.from_pretrained(model.model).eval()
    for request in asked:
        ids = torch.tensor([prompt_ids(tokenizer, request.messages)])
        expected = plain.generate(
            ids, attention_mask=torch.ones_like(ids), max_new_tokens=40, do_sample=False
        )[0, ids.shape[1] :]
        completion = found[request.key]
        assert completion.text == tokenizer.decode(expected, skip_special_tokens=True)
        assert completion.completion_tokens == len(expected)
        assert completion.prompt_tokens == ids.shape[1]
        ended = int(expected[-1]) == tokenizer.eos_token_id
        assert completion.finish_reason == ("stop" if ended else "length")
    backend.close()
    backend.close()


@pytest.fixture
def ends_early(save):
    """A model with many ids that end an answer: rows of one batch finish at different times."""
    model = save()
    loaded = hf.AutoModelForCausalLM.from_pretrained(model.model)
    loaded.generation_config.eos_token_id = list(range(20, 60))
    with torch.no_grad():
        loaded.lm_head.weight.mul_(0.3)
    loaded.save_pretrained(model.model)
    return model


@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_answers_do_not_depend_on_the_batch(ends_early, temperature: float) -> None:
    sampling = Sampling(temperature=temperature, max_tokens=40, seed=5)
    asked = requests(sampling, [f"{text} {n}" for n in range(6) for text in QUESTIONS])
    texts = []
    for budget in (None, 500, 1):
        backend = teacher_kinds.open_backend(
            replace(ends_early, options={"device": "cpu", "batch_tokens": budget})
        )
        found = answers(backend, asked)
        texts.append(
            {key: (one.text, one.finish_reason, one.completion_tokens) for key, one in found.items()}
        )
    assert texts[0] == texts[1] == texts[2]
    if temperature:
        assert len({length for _, _, length in texts[0].values()}) > 5  # rows did leave the batch early


def test_seed_and_prompt_choose_the_answer_and_nothing_else(ends_early) -> None:
    backend = teacher_kinds.open_backend(ends_early)
    sampling = Sampling(temperature=1.0, max_tokens=20, seed=1)
    first = answers(backend, requests(sampling))
    assert {key: one.text for key, one in first.items()} == {
        key: one.text for key, one in answers(backend, requests(sampling)).items()
    }
    other_keys = [replace(request, key=request.key + 100) for request in reversed(requests(sampling))]
    shifted = answers(backend, other_keys)
    assert all(shifted[key + 100].text == one.text for key, one in first.items())
    reseeded = answers(backend, requests(replace(sampling, seed=2)))
    assert any(reseeded[key].text != one.text for key, one in first.items())


def test_length_and_context_truncate(save) -> None:
    backend = teacher_kinds.open_backend(replace(save(), context=40))
    (short,) = answers(backend, requests(Sampling(max_tokens=3), ["x"])).values()
    assert (short.status, short.finish_reason, short.completion_tokens) == ("truncated", "length", 3)
    (capped,) = answers(backend, requests(Sampling(max_tokens=500), ["x"])).values()
    assert capped.status == "truncated"
    assert capped.prompt_tokens + capped.completion_tokens == 40


def test_too_long_prompts_are_marked_and_the_rest_go_on(save) -> None:
    backend = teacher_kinds.open_backend(save())
    found = answers(backend, requests(Sampling(max_tokens=4), ["x", "y" * 400, "z"]))
    late = found[1]
    assert (late.status, late.finish_reason, late.text) == ("too_long", "too_long", "")
    assert late.prompt_tokens > 400
    assert "context is 256" in late.error
    assert found[0].completion_tokens == found[2].completion_tokens == 4


def test_stop_strings_end_the_answer_and_are_not_part_of_it(save) -> None:
    backend = teacher_kinds.open_backend(save())
    (whole,) = answers(backend, requests(Sampling(max_tokens=30), ["x"])).values()
    stop = whole.text[10:13]
    (found,) = answers(backend, requests(Sampling(max_tokens=30, stop=(stop, "never")), ["x"])).values()
    assert found.text == whole.text[: whole.text.index(stop)]
    assert (found.status, found.finish_reason) == ("ok", "stop")
    assert found.completion_tokens < whole.completion_tokens


def test_end_of_turn_of_the_template_ends_an_answer(save) -> None:
    """The model's own generation_config names another EOS, as base models do."""
    model = save()
    loaded = hf.AutoModelForCausalLM.from_pretrained(model.model)
    tokenizer = hf.AutoTokenizer.from_pretrained(model.model)
    end = tokenizer.convert_tokens_to_ids("<|im_end|>")
    with torch.no_grad():
        loaded.model.norm.weight.zero_()
        loaded.lm_head.weight.zero_()
        loaded.lm_head.weight[:, 0] = 0
    loaded.lm_head.weight.data[end] = 0
    loaded.generation_config.eos_token_id = tokenizer.convert_tokens_to_ids("a")
    tokenizer.eos_token = "b"
    loaded.save_pretrained(model.model)
    tokenizer.save_pretrained(model.model)
    backend = teacher_kinds.open_backend(model)
    assert set(backend._ends) == {end, *tokenizer.convert_tokens_to_ids(["a", "b"])}


def always(model: Model, ids: list[int]) -> None:
    """Makes a saved model say exactly these ids, whatever it is asked: position decides the next token."""
    loaded = hf.AutoModelForCausalLM.from_pretrained(model.model)
    with torch.no_grad():
        for parameter in loaded.parameters():
            parameter.zero_()
        loaded.transformer.ln_f.weight.fill_(1)
        width = loaded.config.n_embd
        table = torch.eye(width)
        for position in range(loaded.config.n_positions):
            loaded.transformer.wpe.weight[position] = table[position % width] * 10
        tokenizer = hf.AutoTokenizer.from_pretrained(model.model)
        start = len(prompt_ids(tokenizer, [{"role": "user", "content": "x"}])) - 1
        loaded.config.tie_word_embeddings = False
        head = torch.zeros_like(loaded.lm_head.weight)
        for step, token in enumerate(ids):
            head[token] += table[(start + step) % width]
        loaded.lm_head.weight = torch.nn.Parameter(head)
    loaded.save_pretrained(model.model)


@pytest.mark.parametrize(
    ("text", "status", "reasoning", "kept"),
    [
        ("two", "ok", "", "two"),
        ("", "empty", "", ""),
        ("  ", "empty", "", "  "),
        ("I'm sorry, but I can't help", "refused", "", "I'm sorry, but I can't help"),
        ("<think>1+1</think>2", "ok", "1+1", "2"),
        ("<think>1+1", "empty", "1+1", ""),
    ],
)
def test_statuses(save, text: str, status: str, reasoning: str, kept: str) -> None:
    model = save("gpt2")
    tokenizer = hf.AutoTokenizer.from_pretrained(model.model)
    ids = tokenizer(text, add_special_tokens=False)["input_ids"] if text else []
    always(model, [*ids, tokenizer.eos_token_id])
    (found,) = answers(teacher_kinds.open_backend(model), requests(Sampling(max_tokens=30), ["x"])).values()
    assert (found.status, found.reasoning, found.text) == (status, reasoning, kept)
    assert (found.finish_reason, found.completion_tokens) == ("stop", len(ids) + 1)


def test_requests_are_read_a_window_at_a_time(save, monkeypatch) -> None:
    monkeypatch.setattr(batches, "WINDOW", 3)
    backend = teacher_kinds.open_backend(save())
    taken = []

    def endless():
        for key in count():
            taken.append(key)
            yield Request(key, [{"role": "user", "content": "x"}], Sampling(max_tokens=2))

    stream = backend.generate(endless())
    assert {next(stream).key for _ in range(3)} == {0, 1, 2}
    assert taken == [0, 1, 2]


def test_mixed_sampling_in_one_stream(save) -> None:
    backend = teacher_kinds.open_backend(save())
    asked = [
        replace(request, sampling=Sampling(max_tokens=2 + request.key % 3, temperature=request.key % 2))
        for request in requests(Sampling())
    ]
    found = answers(backend, asked)
    assert [found[key].completion_tokens for key in range(6)] == [2, 3, 4, 2, 3, 4]


def test_conversations_that_the_template_refuses_are_error_rows(save) -> None:
    model = save()
    tokenizer = hf.AutoTokenizer.from_pretrained(model.model)
    tokenizer.chat_template = (
        "{% if messages[0]['role'] != 'user' %}{{ raise_exception('user first') }}{% endif %}"
        + tokenizer.chat_template
    )
    tokenizer.save_pretrained(model.model)
    backend = teacher_kinds.open_backend(model)
    bad = Request(9, [{"role": "assistant", "content": "x"}], Sampling(max_tokens=2))
    found = answers(backend, [bad, *requests(Sampling(max_tokens=2), ["x"])])
    assert (found[9].status, found[9].text) == ("error", "")
    assert "user first" in found[9].error
    assert found[0].completion_tokens == 2
    with pytest.raises(TemplateError):
        teacher_kinds.open_backend(replace(model, system="Be brief."))


def test_out_of_memory_halves_the_batch_and_then_gives_error_rows(save) -> None:
    backend = teacher_kinds.open_backend(save())
    forward, most = backend._model.model.forward, 2

    def tight(input_ids, **kwargs):
        if len(input_ids) > most:
            raise torch.OutOfMemoryError
        return forward(input_ids=input_ids, **kwargs)

    backend._model.model.forward = tight
    found = answers(backend, requests(Sampling(max_tokens=2)))
    assert all(one.status == "truncated" for one in found.values())
    most = 0
    found = answers(backend, requests(Sampling(max_tokens=2)))
    assert all(one.status == "error" and "out of memory" in one.error for one in found.values())


def test_identity_follows_what_shapes_an_answer(save) -> None:
    model = save()
    base = teacher_kinds.identity(model)
    assert base == teacher_kinds.identity(
        replace(model, name="other", options={"device": "cpu", "batch_tokens": 5})
    )
    assert base != teacher_kinds.identity(replace(model, options={"dtype": "bfloat16"}))
    assert base != teacher_kinds.identity(replace(model, options={"thinking": False}))
    for version in ("VERSION", "BOUNDARY_VERSION"):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(transformers, version, getattr(transformers, version) + 1)
            assert base != teacher_kinds.identity(model)
    tokenizer = hf.AutoTokenizer.from_pretrained(model.model)
    tokenizer.chat_template += " "
    tokenizer.save_pretrained(model.model)
    assert base != teacher_kinds.identity(model)


def test_bad_options_and_models(save) -> None:
    model = save()
    with pytest.raises(ConfigError, match="no option 'dtyp'") as caught:
        teacher_kinds.open_backend(replace(model, options={"dtyp": "float32"}))
    assert "dtype" in caught.value.remedy
    with pytest.raises(ModelError, match="unknown dtype"):
        teacher_kinds.identity(replace(model, options={"dtype": "int4"}))
    with pytest.raises(ModelError, match="does not exist"):
        teacher_kinds.open_backend(replace(model, model="/no/such/folder"))


def test_a_model_that_computes_nan_is_refused_rather_than_heard(save) -> None:
    backend = teacher_kinds.open_backend(save())
    with torch.no_grad():
        for weights in backend._model.parameters():
            weights.fill_(float("nan"))
    with pytest.raises(ModelError, match="computes NaN in float32") as caught:
        answers(backend, requests(Sampling(max_tokens=4)))
    assert "broken" in caught.value.remedy


def test_an_interrupt_ends_a_batch_at_its_next_token(save, monkeypatch):
    sampling = Sampling(temperature=0.0, max_tokens=200)
    backend = teacher_kinds.open_backend(save())
    steps = count()
    real = decode.draw

    def draw(*arguments):
        if next(steps) == 3:
            Thread(target=backend.interrupt).run()
        return real(*arguments)

    monkeypatch.setattr(decode, "draw", draw)
    monkeypatch.setattr(backend, "_ends", [])  # nothing ends by itself
    assert list(backend.generate(requests(sampling))) == []
    assert next(steps) == 4
