import pytest
import torch
from peft import LoraConfig, get_peft_model

from engine.base.errors import TrainingError
from engine.distill.data import Rows
from engine.distill.loop import train
from engine.distill.lora import Tuning, make_trainable, trainable
from engine.distill.merge import Base, merge
from engine.distill.optimizer import OptimizerConfig
from engine.distill.settings import Settings
from engine.models.checkpoint import write_sealed
from engine.models.loading import load_causal_lm

PROBES = [[0, 3, 5, 6, 1, 0, 4, 9], [0, 3, 20, 1]]


@pytest.fixture
def trained(student_folder, make, tmp_path):
    student, tokenizer = load_causal_lm(str(student_folder))
    settings = Settings(batch_rows=4, optimizer=OptimizerConfig(learning_rate=3e-2), epochs=3)
    return train(student, tokenizer, Rows(make.rows(32)), tmp_path / "run", settings)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_merged_and_reloaded_equals_the_live_student(trained, student_folder, tmp_path, dtype):
    base = Base(str(student_folder), dtype=dtype)
    merged = merge(base, trained.path, tmp_path / "merged", PROBES)
    model, tokenizer = load_causal_lm(str(merged.path))
    assert model.get_output_embeddings().weight is model.get_input_embeddings().weight
    assert tokenizer.chat_template
    with torch.no_grad():
        ids = torch.tensor(PROBES[:1])
        live, plain = trained.model(input_ids=ids).logits, load_causal_lm(str(student_folder))[0](ids).logits
        again = model(input_ids=ids).logits
    assert (live - plain).abs().max() > 0.1  # the adapter does something
    assert torch.allclose(live, again, atol=1e-4 if dtype == "float32" else 0.1)
    assert merged.largest_difference <= (1e-4 if dtype == "float32" else 5e-2) * merged.largest_logit


def test_a_tied_head_gets_no_adapter(make):
    adapted = make_trainable(make.student(), Tuning(), 0)
    assert not any("lm_head" in name or "embed" in name for name in trainable(adapted))


@pytest.mark.filterwarnings("ignore:Model with")
def test_a_merge_that_changes_a_tied_embedding_is_an_error(student_folder, tmp_path):
    student, _ = load_causal_lm(str(student_folder))
    torch.manual_seed(0)
    live = get_peft_model(student, LoraConfig(r=4, target_modules=["lm_head"], init_lora_weights=False))
    write_sealed(tmp_path / "adapter", live.save_pretrained, {})
    with pytest.raises(TrainingError, match="logits differ") as caught:
        merge(Base(str(student_folder)), tmp_path / "adapter", tmp_path / "merged", PROBES)
    assert "tied" in caught.value.remedy
    assert not (tmp_path / "merged").exists()
    assert (tmp_path / "adapter").is_dir()


def test_a_damaged_adapter_is_named(trained, student_folder, tmp_path):
    path = trained.path / "adapter_model.safetensors"
    path.write_bytes(path.read_bytes()[:-10])
    with pytest.raises(TrainingError, match=r"adapter_model\.safetensors is damaged"):
        merge(Base(str(student_folder)), trained.path, tmp_path / "merged", PROBES)
