"""QLoRA on SmolLM2-135M: its loss falls as LoRA's does, from weights of a third of the memory."""

import pytest
import reasoning_gym

from engine.distill.data import Rows
from engine.distill.loop import train
from engine.distill.lora import Tuning
from engine.distill.merge import Base, merge
from engine.distill.optimizer import OptimizerConfig
from engine.distill.settings import Hooks, Settings
from engine.models.chat_template import encode
from engine.models.loading import load_causal_lm
from engine.models.quantization import weight_bytes
from engine.zoo import resolve

pytestmark = [pytest.mark.real, pytest.mark.timeout(1800)]


@pytest.fixture(scope="module")
def smollm2() -> str:
    folder = resolve.fetched_folder("smollm2-135m")
    if not folder.exists():
        pytest.skip(f"{folder} is missing: persyn zoo fetch smollm2")
    return str(folder)


def test_the_loss_falls_as_far_as_loras_within_a_tenth_and_the_merged_student_is_the_live_one(
    smollm2, tmp_path
):
    tasks = reasoning_gym.create_dataset("word_sequence_reversal", size=48, seed=5)
    rows = [([{"role": "user", "content": row["question"]}], str(row["answer"])) for row in tasks]
    learned, held_out = rows[:40], rows[40:]
    fallen, sizes, adapters = {}, {}, {}
    for method in ("lora", "qlora"):
        model, tokenizer = load_causal_lm(smollm2, four_bit=method == "qlora")
        sizes[method] = weight_bytes(model)
        losses = []
        result = train(
            model,
            tokenizer,
            Rows(learned, held_out),
            tmp_path / method,
            Settings(
                tuning=Tuning(method=method),
                optimizer=OptimizerConfig(learning_rate=5e-4),
                epochs=2,
                checkpoint_every=0,
            ),
            Hooks(on_progress=lambda report, losses=losses: losses.append(report["loss"])),
        )
        fallen[method] = losses[0] - result.eval_loss
        adapters[method] = result.path
        print(method, losses, result.eval_loss, sizes[method], result.tokens_per_second)
    assert fallen["lora"] > 0.3
    assert fallen["qlora"] == pytest.approx(fallen["lora"], rel=0.1)
    assert sizes["qlora"] < 0.35 * sizes["lora"]
    probes = [encode(tokenizer, messages, response).ids for messages, response in held_out[:3]]
    merged = merge(Base(smollm2), adapters["qlora"], tmp_path / "merged", probes)
    assert merged.largest_difference <= 1e-4 * merged.largest_logit
