"""The README that lies beside a distilled student: what it is, and how it is loaded."""

from typing import Any

from engine.training.data import Counts
from engine.training.settings import Settings


def text(base: str, settings: Settings, counts: Counts, steps: int, loss: float) -> str:
    """Markdown with Hugging Face front matter.

    Args:
        base: folder or hub id of the student before training.
        settings: the training run's.
        counts: of its rows.
        steps: optimizer steps.
        loss: mean of the last epoch, nats per target token.
    """
    adapter = settings.tuning.method != "full"
    front: dict[str, Any] = {"base_model": base, "library_name": "peft" if adapter else "transformers"}
    facts = {
        "base model": f"`{base}`",
        "method": f"LoRA, rank {settings.tuning.rank}, alpha {settings.tuning.alpha:g}"
        if adapter
        else "full fine-tuning",
        "rows": f"{counts.kept:,}",
        "epochs": f"{settings.epochs:,} ({steps:,} steps of {settings.batching.rows} rows)",
        "learning rate": f"{settings.descent.learning_rate:g}, {settings.descent.schedule}",
        "loss": f"{loss:.4f} nats per target token, mean of the last epoch",
        "seed": str(settings.seed),
    }
    load = (
        f'base = AutoModelForCausalLM.from_pretrained("{base}")\nstudent = PeftModel.from_pretrained(base, FOLDER)'
        if adapter
        else "student = AutoModelForCausalLM.from_pretrained(FOLDER)"
    )
    imports = "from peft import PeftModel\n" * adapter + "from transformers import AutoModelForCausalLM\n"
    return "\n".join(
        [
            "---",
            *(f"{key}: {value}" for key, value in front.items()),
            "---",
            "",
            "# A student distilled by PerSyn",
            "",
            *(f"- {key}: {value}" for key, value in facts.items()),
            "",
            "Which prompts and whose answers it was trained on is kept in the store: `persyn data datasets`.",
            "",
            "```python",
            f"{imports}\n{load}",
            "```",
            "",
        ]
    )
