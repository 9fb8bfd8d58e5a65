"""GGUF files and adapters as models of the transformers backend, and memory that runs out for real."""

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import gguf
import peft
import pytest
import torch
import transformers as hf
from teachers import gguf_files

from engine.base.errors import ConfigError, ModelError
from engine.config import run_file
from engine.models import adapters, model_info
from engine.models import gguf_files as ggufs
from engine.teachers import teacher_kinds
from engine.zoo import resolve
from storage.records import Model, Request, Sampling

QUESTIONS = ("What is 2 + 3?", "Spell this word backward: sun", "é 7")


def teacher(ref: str | Path, **options: Any) -> Model:
    return Model("m", "teacher", "transformers", str(ref), options={"device": "cpu", **options})


def answers(model: Model) -> list[str]:
    backend = teacher_kinds.open_backend(model)
    asked = [
        Request(key, ({"role": "user", "content": text},), Sampling(max_tokens=12))
        for key, text in enumerate(QUESTIONS)
    ]
    try:
        return [one.text for one in sorted(backend.generate(asked), key=lambda one: one.key)]
    finally:
        backend.close()


@pytest.fixture(scope="module")
def llama(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return gguf_files.folder(tmp_path_factory.mktemp("llama"))


@pytest.fixture(scope="module")
def file(llama: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return gguf_files.convert(llama, tmp_path_factory.mktemp("gguf") / "small.gguf")


def test_a_gguf_file_answers_as_the_folder_it_was_made_from(llama: Path, file: Path) -> None:
    expected = answers(teacher(llama))
    assert all(expected)
    assert answers(teacher(file)) == expected


def test_a_quantized_file_is_another_model_that_answers(llama: Path, file: Path, tmp_path: Path) -> None:
    packed = gguf_files.convert(llama, tmp_path / "q8.gguf", gguf.GGMLQuantizationType.Q8_0)
    assert packed.stat().st_size < file.stat().st_size / 2
    assert all(answers(teacher(packed)))
    assert model_info.check(str(packed)).parameters == model_info.check(str(file)).parameters
    assert teacher_kinds.identity(teacher(packed)) != teacher_kinds.identity(teacher(file))


def test_what_a_gguf_file_says_without_loading_it(llama: Path, file: Path) -> None:
    found = model_info.check(str(file))
    plain = model_info.check(str(llama))
    assert (found.parameters, found.context, found.vocabulary) == (
        plain.parameters,
        gguf_files.CONTEXT,
        plain.vocabulary,
    )
    assert (found.family, found.file, found.chat_template) == ("llama", "small.gguf", True)


def test_the_identity_of_a_gguf_file_is_its_content(file: Path, tmp_path: Path) -> None:
    copy = tmp_path / "other-name.gguf"
    copy.write_bytes(file.read_bytes())
    same = teacher_kinds.identity(teacher(file))
    assert teacher_kinds.identity(teacher(copy)) == same
    changed = bytearray(copy.read_bytes())
    changed[-100] ^= 1
    copy.write_bytes(changed)
    assert teacher_kinds.identity(teacher(copy)) != same


def test_a_gguf_file_that_cannot_be_used_is_named_with_a_remedy(file: Path, tmp_path: Path) -> None:
    whole = file.read_bytes()
    bad = tmp_path / "bad.gguf"
    for content, message in (
        (whole[:-1000], "its header promises"),
        (whole[:200], "cannot be used"),
        (b"not a model" * 10, "not a GGUF file"),
        (b"", "cannot be used"),
        (whole[:4] + b"\x09" + whole[5:], "version 9"),
    ):
        bad.write_bytes(content)
        with pytest.raises(ModelError, match=message) as caught:
            teacher_kinds.files(teacher(bad))
        assert caught.value.remedy
    with pytest.raises(ModelError, match="does not exist"):
        teacher_kinds.files(teacher(tmp_path / "none.gguf"))
    bare = gguf.GGUFWriter(str(bad), "llama")
    bare.write_header_to_file()
    bare.write_kv_data_to_file()
    bare.write_tensors_to_file()
    bare.close()
    with pytest.raises(ModelError, match="no chat template"):
        teacher_kinds.files(teacher(bad))
    assert ggufs.read(bad).parameters == 0


@pytest.fixture(scope="module")
def adapter(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return gguf_files.adapted(resolve.resolve("zoo:brief"), tmp_path_factory.mktemp("adapter"))


def test_an_adapter_changes_the_answers_as_peft_says(adapter: Path) -> None:
    plain = answers(teacher("zoo:brief"))
    found = answers(teacher("zoo:brief", adapter=str(adapter)))
    assert found != plain
    tokenizer = hf.AutoTokenizer.from_pretrained(resolve.resolve("zoo:brief"))
    model = peft.PeftModel.from_pretrained(
        hf.AutoModelForCausalLM.from_pretrained(resolve.resolve("zoo:brief"), dtype=torch.float32), adapter
    ).eval()
    for question, text in zip(QUESTIONS, found, strict=True):
        turns = [{"role": "user", "content": question}]
        ids = tokenizer.apply_chat_template(
            turns, add_generation_prompt=True, return_tensors="pt", return_dict=True
        )
        made = model.generate(**ids, max_new_tokens=12, do_sample=False)[0, ids["input_ids"].shape[1] :]
        assert tokenizer.decode(made, skip_special_tokens=True) == text


def test_the_identity_of_an_adapter_is_its_content_and_its_base(adapter: Path, tmp_path: Path) -> None:
    base = teacher_kinds.identity(teacher("zoo:brief"))
    same = teacher_kinds.identity(teacher("zoo:brief", adapter=str(adapter)))
    assert same != base
    copy = tmp_path / "copy"
    copy.mkdir()
    for entry in adapter.iterdir():
        (copy / entry.name).write_bytes(entry.read_bytes())
    assert teacher_kinds.identity(teacher("zoo:brief", adapter=str(copy))) == same
    assert teacher_kinds.identity(teacher("zoo:student", adapter=str(copy))) != same
    settings = json.loads((copy / "adapter_config.json").read_text())
    (copy / "adapter_config.json").write_text(json.dumps({**settings, "lora_alpha": 99}))
    assert teacher_kinds.identity(teacher("zoo:brief", adapter=str(copy))) != same


def test_an_adapter_of_another_base_is_refused_in_words(adapter: Path) -> None:
    with pytest.raises(ModelError, match="does not fit model 'zoo:scholar'"):
        teacher_kinds.open_backend(teacher("zoo:scholar", adapter=str(adapter)))


def test_an_adapter_with_weights_missing_is_refused(adapter: Path, tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    weights = load_file(adapter / adapters.WEIGHTS)
    del weights[next(iter(weights))]
    save_file(weights, tmp_path / adapters.WEIGHTS)
    (tmp_path / adapters.CONFIG).write_bytes((adapter / adapters.CONFIG).read_bytes())
    with pytest.raises(ModelError, match="missing adapter keys"):
        teacher_kinds.open_backend(teacher("zoo:brief", adapter=str(tmp_path)))


def test_a_tokenizer_in_the_adapters_folder_is_used(adapter: Path, tmp_path: Path) -> None:
    for entry in adapter.iterdir():
        (tmp_path / entry.name).write_bytes(entry.read_bytes())
    tokenizer = hf.AutoTokenizer.from_pretrained(resolve.resolve("zoo:brief"))
    tokenizer.chat_template = "{% for m in messages %}{{ m['content'] }}{% endfor %}<|im_end|>"
    tokenizer.save_pretrained(tmp_path)
    model = teacher("zoo:brief", adapter=str(tmp_path))
    assert teacher_kinds.open_backend(model)._tokenizer.chat_template == tokenizer.chat_template
    assert teacher_kinds.identity(model) != teacher_kinds.identity(teacher("zoo:brief", adapter=str(adapter)))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda folder: (folder / adapters.CONFIG).unlink(), "has no adapter_config.json"),
        (lambda folder: (folder / adapters.CONFIG).write_text("[1]"), "cannot be read"),
        (
            lambda folder: (folder / adapters.CONFIG).write_text('{"peft_type": "PREFIX_TUNING"}'),
            "of type PREFIX",
        ),
        (lambda folder: (folder / adapters.WEIGHTS).unlink(), "has no adapter_model.safetensors"),
        (lambda folder: (folder / adapters.WEIGHTS).write_bytes(b"x" * 20), "cannot be used"),
    ],
)
def test_an_adapter_that_cannot_be_used_is_named(
    adapter: Path, tmp_path: Path, change: Any, message: str
) -> None:
    for entry in adapter.iterdir():
        (tmp_path / entry.name).write_bytes(entry.read_bytes())
    change(tmp_path)
    with pytest.raises(ModelError, match=message):
        teacher_kinds.files(teacher("zoo:brief", adapter=str(tmp_path)))


RUN = """
student: {{name: s, model: "zoo:student"}}
teachers:
  - {{name: tuned, adapter: {adapter}}}
  - {{name: packed, model: ./small.gguf}}
prompts: [{{source: reasoning_gym, task: gcd, size: 9, seed: 1}}]
"""


def test_a_run_file_finds_the_base_that_an_adapter_names(adapter: Path, file: Path) -> None:
    run = run_file.parse(RUN.format(adapter=adapter), base=file.parent)
    assert run.teachers[0].model == resolve.resolve("zoo:brief")
    assert run.teachers[1].model == str(file)
    with pytest.raises(ConfigError, match="`model` is missing"):
        run_file.parse(RUN.format(adapter="''"), base=file.parent)


def test_wrong_options_are_named_before_anything_is_loaded() -> None:
    for options, message in (({"device": "gpu"}, "unknown device"), ({"dtype": "int4"}, "unknown dtype")):
        with pytest.raises(ConfigError, match=message):
            teacher_kinds.files(teacher("zoo:brief", **options))
    with pytest.raises(ModelError, match="does not exist"):
        teacher_kinds.files(teacher("zoo:brief", adapter="/nowhere"))
    with pytest.raises(ConfigError, match="has no option 'adapter'"):
        teacher_kinds.identity(
            replace(
                teacher("m"), backend="openai", options={"adapter": "x", "base_url": "http://127.0.0.1:1/v1"}
            )
        )


def test_memory_that_runs_out_halves_the_batch_until_it_fits(llama: Path, tmp_path: Path) -> None:
    tokenizer = hf.AutoTokenizer.from_pretrained(llama)
    torch.manual_seed(0)
    # 16 kB of keys and values for each token: 64 prompts of 100 tokens do not fit 48 MiB by far.
    wide = hf.LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=256,
        intermediate_size=64,
        num_hidden_layers=8,
        num_attention_heads=8,
        max_position_embeddings=256,
    )
    hf.LlamaForCausalLM(wide).save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    child = Path(__file__).with_name("small_memory.py")
    ran = subprocess.run(
        [sys.executable, str(child), str(tmp_path)], capture_output=True, text=True, timeout=300
    )
    assert ran.returncode == 0, ran.stderr
    found = json.loads(ran.stdout.splitlines()[-1])
    assert len(found["statuses"]) == 64
    assert "error" not in found["statuses"]
    assert found["budget"] < 10**6
