"""What a model folder must hold, told apart in milliseconds; and loading."""

import ast
import json
import subprocess
import sys
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from threading import Thread

import pytest
import torch
import transformers as hf
from huggingface_hub import constants

from engine.base.errors import ModelError
from engine.models import loading, model_info
from engine.router.backbone import load_backbone
from tools.zoo import tokens

SMALL = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2}


@pytest.fixture
def folder(tmp_path):
    tokenizer = tokens.build("A", [])
    tokenizer.pad_token = None
    torch.manual_seed(0)
    config = hf.LlamaConfig(**SMALL, vocab_size=len(tokenizer), max_position_embeddings=128)
    hf.LlamaForCausalLM(config).save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    return tmp_path


def test_check_describes_a_model_without_torch(folder) -> None:
    code = (
        "import sys, time, numpy; from engine.models import loading, model_info; start = time.perf_counter();"
        f"found = model_info.check({str(folder)!r}); took = time.perf_counter() - start;"
        "assert not {'torch', 'transformers', 'huggingface_hub'} & set(sys.modules);"
        "assert took < 1; print(found.parameters, found.context, found.family, found.architecture)"
    )
    out = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout
    vocab = len(tokens.build("A", []))
    # Two embeddings, one layer of four 16×16 and three 16×32 matrices, three norms.
    weights = 2 * vocab * 16 + 4 * 256 + 3 * 512 + 3 * 16
    assert out.split() == [str(weights), "128", "llama", "LlamaForCausalLM"]


def remove(name):
    return lambda folder: (folder / name).unlink()


def cut(folder) -> None:
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-1000])


def no_template(folder) -> None:
    (folder / "chat_template.jinja").unlink()


def adapter_only(folder) -> None:
    (folder / "model.safetensors").rename(folder / "adapter_model.safetensors")


def pickles(folder) -> None:
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")


def shard_missing(folder) -> None:
    (folder / "model.safetensors.index.json").write_text(
        json.dumps({"weight_map": {"a": "gone.safetensors"}})
    )


@pytest.mark.parametrize(
    ("damage", "message", "remedy"),
    [
        (remove("config.json"), "config.json does not exist", "save_pretrained"),
        (lambda folder: (folder / "config.json").write_text("{"), "cannot be read", "copy"),
        (
            lambda folder: (folder / "config.json").write_text("{}"),
            "model_type is missing",
            "save_pretrained",
        ),
        (remove("tokenizer.json"), "has no tokenizer", "tokenizer.save_pretrained"),
        (no_template, "no chat template", "instruct model"),
        (remove("model.safetensors"), "no model.safetensors", "copy the weights"),
        (cut, "cannot be used.*not fully covered", "incomplete"),
        (adapter_only, "no model.safetensors", "LoRA adapter"),
        (pickles, "no model.safetensors", "convert the .bin"),
        (shard_missing, "gone.safetensors", "missing or incomplete"),
    ],
)
def test_damaged_folders(folder, damage, message: str, remedy: str) -> None:
    damage(folder)
    with pytest.raises(ModelError, match=message) as caught:
        model_info.check(str(folder))
    assert str(folder) in caught.value.message
    assert remedy in caught.value.remedy


def test_what_is_not_needed_is_not_asked_for(folder) -> None:
    no_template(folder)
    assert not model_info.check(str(folder), chat_template=False).chat_template
    remove("model.safetensors")(folder)
    assert model_info.check(str(folder), chat_template=False, weights=False).parameters is None


def test_paths_that_are_no_folder(folder) -> None:
    with pytest.raises(ModelError, match="does not exist"):
        model_info.check(str(folder / "nothing"))
    with pytest.raises(ModelError, match="is a file"):
        model_info.check(str(folder / "config.json"))
    with pytest.raises(ModelError, match="the zoo has no model"):
        model_info.check("zoo:nothing")


@pytest.mark.parametrize("ref", ["modèle", "-x", "a..b", "x" * 97])
def test_what_is_neither_a_folder_nor_written_like_a_hub_id_is_named(ref: str) -> None:
    with pytest.raises(ModelError, match="does not exist"):
        model_info.check(ref)


def test_hub_id_when_the_hub_is_off(monkeypatch) -> None:
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)  # as HF_HUB_OFFLINE=1 at the start
    with pytest.raises(ModelError, match="the hub is off") as caught:
        model_info.check("no-such-org/no-such-model")
    assert "download the model" in caught.value.remedy


def test_hub_id_when_the_hub_cannot_be_reached(monkeypatch) -> None:
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    # As HF_ENDPOINT at the start; the discard port: nobody listens.
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", "http://127.0.0.1:9/{repo_id}/{filename}")
    with pytest.raises(ModelError, match="out of reach"):
        model_info.check("no-such-org/no-such-model")
    with pytest.raises(ModelError, match="out of reach"):
        loading.load_causal_lm("no-such-org/no-such-model")


@pytest.mark.parametrize(
    ("status", "message"), [(404, "the hub has no model 'org/name'"), (503, "answered 503"), (403, None)]
)
def test_what_the_hub_answers(monkeypatch, status: int, message: str | None) -> None:
    class Hub(BaseHTTPRequestHandler):
        def do_HEAD(self) -> None:
            asked.append(self.path)
            self.send_response(status)
            self.end_headers()

        def log_message(self, *_) -> None:
            pass

    asked: list[str] = []
    server = HTTPServer(("127.0.0.1", 0), Hub)
    Thread(target=server.serve_forever, daemon=True).start()
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    template = f"http://127.0.0.1:{server.server_port}/{{repo_id}}/resolve/{{revision}}/{{filename}}"
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
    try:
        if message:
            with pytest.raises(ModelError, match=message):
                model_info.check("org/name", revision="v1")
        else:  # private or gated: the download knows the token
            assert model_info.check("org/name", revision="v1").folder is None
    finally:
        server.shutdown()
    assert asked == ["/org/name/resolve/v1/config.json"]


def test_remote_code_of_the_hub_needs_a_pinned_revision(monkeypatch, folder) -> None:
    monkeypatch.setattr(model_info, "_ask_hub", lambda *_: None)
    for load in (loading.load_causal_lm, loading.load_reward_model, load_backbone):
        with pytest.raises(ModelError, match="pinned `revision`"):
            load("org/name", trust_remote_code=True)
    loading.load_causal_lm(
        str(folder), device="cpu", trust_remote_code=True
    )  # what lies here does not change


def test_models_are_loaded_in_one_place() -> None:
    """One loader: GGUF, adapters, remote code, offline and the texts of errors are the same for every model."""
    engine = Path(loading.__file__).parents[1]
    for path in engine.rglob("*.py"):
        calls = (node for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Attribute))
        assert path == Path(loading.__file__) or "from_pretrained" not in {call.attr for call in calls}, path


def test_load_gives_an_eval_model_with_a_pad_token(folder) -> None:
    model, tokenizer = loading.load_causal_lm(str(folder), dtype="bfloat16", device="cpu")
    assert not model.training
    assert model.dtype == torch.bfloat16
    assert tokenizer.pad_token_id == tokenizer.eos_token_id
    assert len(tokenizer) == model.get_input_embeddings().weight.shape[0]
    assert model_info.context_length(model) == model_info.context_length(model.config) == 128
    assert model.config._attn_implementation == "sdpa"


def test_capped_attention_is_not_left_to_sdpa(folder) -> None:
    tokenizer = tokens.build("A", [])
    config = hf.Gemma2Config(**SMALL, vocab_size=len(tokenizer), head_dim=8, num_key_value_heads=1)
    hf.Gemma2ForCausalLM(config).save_pretrained(folder)
    model, _ = loading.load_causal_lm(str(folder), device="cpu")
    assert model.config._attn_implementation == "eager"


def test_weights_that_would_be_random_are_refused(folder) -> None:
    tokenizer = tokens.build("A", [])
    config = hf.LlamaConfig(**{**SMALL, "num_hidden_layers": 2}, vocab_size=len(tokenizer))
    config.architectures = ["LlamaForCausalLM"]
    config.save_pretrained(folder)
    with pytest.raises(ModelError, match="would be random"):
        loading.load_causal_lm(str(folder), device="cpu")


@pytest.mark.parametrize(
    "settings",
    [{"eos_token_id": ["x"]}, {"num_attention_heads": 0}, {"dtype": "float3"}, {"quantization_config": "x"}],
)
def test_a_config_that_transformers_stumbles_over_is_an_error_of_the_model(folder, settings) -> None:
    path = folder / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **settings}))
    with pytest.raises(ModelError, match="cannot be loaded"):
        loading.load_causal_lm(str(folder), "float32", "cpu")


def test_tokenizer_larger_than_the_embedding_is_refused(folder) -> None:
    tokenizer = hf.AutoTokenizer.from_pretrained(folder)
    tokenizer.add_tokens(["<extra>"])
    tokenizer.save_pretrained(folder)
    with pytest.raises(ModelError, match="embedding only"):
        loading.load_causal_lm(str(folder), device="cpu")


def test_tokenizer_without_end_is_refused(folder) -> None:
    tokenizer = hf.AutoTokenizer.from_pretrained(folder)
    tokenizer.eos_token = None
    tokenizer.save_pretrained(folder)
    with pytest.raises(ModelError, match="neither a pad nor an EOS"):
        loading.load_tokenizer(str(folder))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"dtype": "fp8"}, "unknown dtype"),
        ({"device": "tpu"}, "unknown device"),
        ({"device": "cuda:99"}, "not there"),
    ],
)
def test_bad_dtype_and_device(folder, options, message: str) -> None:
    with pytest.raises(ModelError, match=message):
        loading.load_causal_lm(str(folder), **options)


def test_context_length_of_nested_and_silent_configs() -> None:
    assert model_info.context_length({"text_config": {"max_position_embeddings": 77}}) == 77
    assert model_info.context_length({"n_positions": 1024}) == 1024
    assert model_info.context_length({}) is None


def test_fingerprint_follows_content_not_place(folder, tmp_path_factory, monkeypatch) -> None:
    before = model_info.fingerprint(str(folder))
    moved = tmp_path_factory.mktemp("moved") / "model"
    folder.rename(moved)
    assert model_info.fingerprint(str(moved)) == before
    data = bytearray((moved / "model.safetensors").read_bytes())
    data[-1] ^= 1
    (moved / "model.safetensors").write_bytes(data)
    changed = model_info.fingerprint(str(moved))
    assert changed != before
    (moved / "chat_template.jinja").write_text("{{ messages }}")
    assert model_info.fingerprint(str(moved)) != changed
    assert model_info.fingerprint("org/name") != model_info.fingerprint("org/name", "v2")


def test_large_weight_files_count_by_samples(folder, monkeypatch) -> None:
    monkeypatch.setattr(model_info, "_SAMPLE_BYTES", 16)
    monkeypatch.setattr(model_info, "_SAMPLE_BLOCKS", 8)
    before = model_info.fingerprint(str(folder))
    data = bytearray((folder / "model.safetensors").read_bytes())
    data[-8] ^= 1
    (folder / "model.safetensors").write_bytes(data)
    assert model_info.fingerprint(str(folder)) != before
