"""Pooling, batching and truncation against a plain loop; saving and loading with every check that refuses."""

import dataclasses
import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from teachers import gguf_files
from transformers import AutoModel

from engine.base.errors import Cancelled, ConfigError, ModelError, TeacherMismatch
from engine.models.chat_template import prompt_ids
from engine.router import model as router_model
from engine.router.backbone import cut_middle, load_backbone, pool
from engine.router.manifest import MANIFEST, Labelling, Teacher
from engine.router.model import Router

LABELLING = Labelling(alpha=0.4, normalization="zscore", targets="soft", temperature=0.5)


def make_router(ref: str, teachers: list[Teacher], tune: str = "frozen", max_tokens: int = 0) -> Router:
    """Return a router with a random head and, unless frozen, moved weights."""
    torch.manual_seed(1)
    router = Router(load_backbone(ref, device="cpu"), teachers, tune, max_tokens=max_tokens)  # type: ignore[arg-type]
    with torch.no_grad():
        for tensor in (*router.head_state().values(), *router.trained().values()):
            tensor.add_(0.1 * torch.randn(tensor.shape))
        router.deviation.abs_().add_(0.5)
    return router


@pytest.fixture(params=["llama", "gpt2"])
def ref(request: pytest.FixtureRequest) -> str:
    return str(request.getfixturevalue(request.param))


def test_strengths_equal_a_plain_loop_without_padding(
    ref: str, teachers: list[Teacher], make_data: Callable[..., object]
) -> None:
    prompts = make_data(17).prompts  # type: ignore[attr-defined]
    router = make_router(ref, teachers)
    tokenizer = router.source.tokenizer
    assert tokenizer.pad_token_id == tokenizer.eos_token_id
    plain = AutoModel.from_pretrained(ref).eval()
    expected = []
    with torch.no_grad():
        for messages in prompts:
            ids = prompt_ids(tokenizer, messages)
            last = plain(torch.tensor([ids])).last_hidden_state[0, -1]
            expected.append(router.head((last - router.mean) / router.deviation))
    got = router.strengths(prompts)
    assert got.shape == (17, 4)
    np.testing.assert_allclose(got, torch.stack(expected).numpy(), atol=1e-5)
    # Neither the batch nor its padding changes a strength.
    for budget in (1, 64, 100_000):
        np.testing.assert_allclose(router.strengths(prompts, token_budget=budget), got, atol=1e-5)
    turned = router.strengths(prompts[::-1])
    np.testing.assert_allclose(turned[::-1], got, atol=1e-5)


def test_prompts_that_memory_does_not_hold_are_read_in_halves(
    llama: str, teachers: list[Teacher], make_data: Callable[..., object], monkeypatch: pytest.MonkeyPatch
) -> None:
    prompts = make_data(9).prompts  # type: ignore[attr-defined]
    router = make_router(llama, teachers)
    expected, read = router.strengths(prompts), router_model.pool

    def tight(backbone: object, batch: list[list[int]]) -> torch.Tensor:
        if len(batch) > 2:
            raise torch.OutOfMemoryError
        return read(backbone, batch)  # type: ignore[arg-type]

    monkeypatch.setattr(router_model, "pool", tight)
    np.testing.assert_allclose(router.strengths(prompts, token_budget=100_000), expected, atol=1e-5)


def test_a_gguf_file_is_a_backbone_like_its_folder(tmp_path: Path) -> None:
    source = gguf_files.folder(tmp_path / "llama")
    packed = load_backbone(str(gguf_files.convert(source, tmp_path / "packed.gguf")), device="cpu")
    plain = load_backbone(str(source), device="cpu")
    ids = [prompt_ids(plain.tokenizer, [{"role": "user", "content": text}]) for text in ("this", "7 + 5?")]
    assert [prompt_ids(packed.tokenizer, [{"role": "user", "content": "this"}])] == ids[:1]
    with torch.no_grad():
        assert torch.allclose(pool(packed.model, ids), pool(plain.model, ids), atol=1e-4)
    assert (packed.hidden, packed.max_tokens) == (gguf_files.WIDTH, gguf_files.CONTEXT)


def test_prompts_of_one_backbone_end_in_the_pad_token(llama: str, teachers: list[Teacher]) -> None:
    # Else the test above would not show that pooling goes by length.
    tokenizer = make_router(llama, teachers).source.tokenizer
    assert prompt_ids(tokenizer, [{"role": "user", "content": "hi"}])[-1] == tokenizer.pad_token_id


def test_cut_middle_by_hand() -> None:
    assert cut_middle([1, 2, 3], 3) == [1, 2, 3]
    assert cut_middle([1, 2, 3, 4, 5, 6, 7], 4) == [1, 2, 6, 7]
    assert cut_middle([1, 2, 3, 4, 5, 6, 7], 3) == [1, 6, 7]


def test_long_prompts_are_cut_and_counted(gpt2: str, teachers: list[Teacher]) -> None:
    router = make_router(gpt2, teachers)
    assert router.max_tokens == 96
    long, short = ({"role": "user", "content": text} for text in ("9" * 500, "9"))
    assert np.isfinite(router.strengths([[long], [short], [long]])).all()
    assert router.truncated == 2
    assert len(router.encode([[long]])[0]) == 96
    assert make_router(gpt2, teachers, max_tokens=10_000).max_tokens == 96
    assert make_router(gpt2, teachers, max_tokens=50).max_tokens == 50


def test_no_prompts_and_stopping(llama: str, teachers: list[Teacher]) -> None:
    router = make_router(llama, teachers)
    assert router.strengths([]).shape == (0, 4)
    with pytest.raises(Cancelled):
        router.strengths([[{"role": "user", "content": "add 1"}]], should_stop=lambda: True)


@pytest.mark.parametrize("tune", ["frozen", "lora", "full"])
def test_a_saved_router_is_the_same_router(
    tune: str, ref: str, teachers: list[Teacher], make_data: Callable[..., object], tmp_path: Path
) -> None:
    prompts = make_data(9).prompts  # type: ignore[attr-defined]
    router = make_router(ref, teachers, tune, max_tokens=60)
    router.save(tmp_path / "r", LABELLING, {"hit_at_1": 0.5})
    loaded = Router.load(tmp_path / "r", teachers, device="cpu")
    np.testing.assert_array_equal(loaded.strengths(prompts), router.strengths(prompts))
    manifest = loaded.manifest
    assert manifest is not None
    assert manifest == router.manifest
    assert manifest.labelling == LABELLING
    assert manifest.teachers == tuple(teachers)
    assert (manifest.tune, manifest.max_tokens, manifest.backbone) == (tune, 60, ref)
    assert manifest.notes == {"hit_at_1": 0.5}
    assert set(manifest.files) == ({"head"} if tune == "frozen" else {"head", "weights"})
    # Nothing but the manifest and its files is left behind.
    assert {p.name for p in (tmp_path / "r").iterdir()} == {
        "manifest.json",
        *(entry["name"] for entry in manifest.files.values()),
    }


def test_only_what_is_tuned_is_trained(llama: str, teachers: list[Teacher]) -> None:
    trainable = {
        tune: [name for name, p in make_router(llama, teachers, tune).named_parameters() if p.requires_grad]
        for tune in ("frozen", "lora", "full")
    }
    assert trainable["frozen"] == ["head.weight", "head.bias"]
    assert all("lora_" in name or name.startswith("head.") for name in trainable["lora"])
    assert sum("lora_" in name for name in trainable["lora"]) == 2 * 2 * 7  # A and B, 2 layers, 7 linear maps
    assert "backbone.embed_tokens.weight" in trainable["full"]


def test_other_teachers_are_refused(llama: str, teachers: list[Teacher], tmp_path: Path) -> None:
    make_router(llama, teachers).save(tmp_path, LABELLING)

    def refusal(expected: list[Teacher]) -> str:
        with pytest.raises(TeacherMismatch) as caught:
            Router.load(tmp_path, expected)
        assert caught.value.remedy
        return caught.value.message

    moved = refusal([teachers[1], teachers[0], *teachers[2:]])
    assert "order" in moved
    assert "given teacher-sort, teacher-add" in moved
    assert "not given now: teacher-count" in refusal(teachers[:-1])
    assert "unknown to the router: new" in refusal([*teachers, Teacher("new", "x")])
    changed = refusal([Teacher(teachers[0].name, "other"), *teachers[1:]])
    assert "changed since" in changed
    assert "teacher-add" in changed
    assert Router.load(tmp_path, device="cpu").teachers == tuple(teachers)


def test_damage_is_found(llama: str, teachers: list[Teacher], tmp_path: Path) -> None:
    manifest = make_router(llama, teachers).save(tmp_path, LABELLING)
    head = tmp_path / manifest.files["head"]["name"]
    whole = head.read_bytes()
    head.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    with pytest.raises(ModelError, match="damaged"):
        Router.load(tmp_path)
    head.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ModelError, match="damaged"):
        Router.load(tmp_path)
    head.unlink()
    with pytest.raises(ModelError, match="is missing"):
        Router.load(tmp_path)
    for text in ("{", "[]", "{}", json.dumps({"format": 99})):
        (tmp_path / MANIFEST).write_text(text)
        with pytest.raises(ModelError):
            Router.load(tmp_path)
    with pytest.raises(ModelError, match=r"manifest\.json is missing"):
        Router.load(tmp_path / "nowhere")


def test_saving_again_replaces_and_a_failed_save_leaves_the_old_one(
    llama: str, teachers: list[Teacher], tmp_path: Path
) -> None:
    router = make_router(llama, teachers)
    first = router.save(tmp_path, LABELLING)
    with torch.no_grad():
        router.head.bias.add_(1.0)
    with pytest.raises(ValueError, match="not JSON compliant"):
        router.save(tmp_path, LABELLING, {"regret": float("nan")})
    assert Router.load(tmp_path, device="cpu").manifest == first
    second = router.save(tmp_path, LABELLING)
    assert second.files != first.files
    assert torch.equal(Router.load(tmp_path, device="cpu").head.bias, router.head.bias)
    assert len(list(tmp_path.iterdir())) == 2


def test_a_changed_backbone_is_refused(llama: str, teachers: list[Teacher], tmp_path: Path) -> None:
    copy = tmp_path / "backbone"
    shutil.copytree(llama, copy)
    make_router(str(copy), teachers).save(tmp_path / "router", LABELLING)
    model = AutoModel.from_pretrained(copy)
    with torch.no_grad():
        model.norm.weight.mul_(1.01)
    model.save_pretrained(copy)
    with pytest.raises(ModelError, match="has changed"):
        Router.load(tmp_path / "router")


def test_a_head_that_does_not_fit_is_refused(llama: str, teachers: list[Teacher]) -> None:
    router = make_router(llama, teachers)
    state = {name: tensor.detach().clone() for name, tensor in router.head_state().items()}
    with pytest.raises(ModelError, match="do not fit"):
        router.restore({**state, "bias": torch.zeros(3)}, {})


def test_bad_settings(llama: str, teachers: list[Teacher], tmp_path: Path) -> None:
    backbone = load_backbone(llama, device="cpu")
    with pytest.raises(ConfigError, match="two or more"):
        Router(backbone, teachers[:1])
    with pytest.raises(ConfigError, match="different names"):
        Router(backbone, [teachers[0], dataclasses.replace(teachers[1], name=teachers[0].name)])
    with pytest.raises(ConfigError, match="qlora"):
        Router(backbone, teachers, "qlora")  # type: ignore[arg-type]
    with pytest.raises(ModelError):
        load_backbone(str(tmp_path))
