"""The README that lies beside a distilled student: what it is, and how it is loaded."""

import json
from typing import Any

from engine.distill.data import Counts
from engine.distill.settings import Settings

_LOADING = "## Load it"


def text(base: str, dtype: str, settings: Settings, counts: Counts, steps: int, loss: float) -> str:
    """Markdown with Hugging Face front matter.

    Args:
        base: folder or hub id of the student before training.
        dtype: of the weights it was trained and is measured with.
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
    lines = [
        "---",
        *(f"{key}: {value}" for key, value in front.items()),
        "---",
        "",
        "# A student distilled by PerSyn",
        "",
    ]
    lines += [f"- {key}: {value}" for key, value in facts.items()]
    lines += [
        "",
        "Which prompts and whose answers it was trained on is kept in the store: `persyn data datasets`.",
        "",
    ]
    return "\n".join(lines) + _loading(base if adapter else "", dtype)


def of_merged(adapter: str, dtype: str) -> str:
    """The README of the merged model, from that of its adapter."""
    return adapter.partition(_LOADING)[0].replace(
        "library_name: peft", "library_name: transformers"
    ) + _loading("", dtype)


def _loading(base: str, dtype: str) -> str:
    """How to load an adapter over `base`, or a whole model when `base` is empty."""
    model = f'AutoModelForCausalLM.from_pretrained({json.dumps(base) if base else "FOLDER"}, dtype="{dtype}")'
    return "\n".join(
        [
            _LOADING,
            "",
            f"`FOLDER` is the folder of this file. In another number format than {dtype} some answers differ.",
            "",
            "```python",
            *(["from peft import PeftModel"] if base else []),
            "from transformers import AutoModelForCausalLM, AutoTokenizer",
            "",
            f"student = {model}",
            *(["student = PeftModel.from_pretrained(student, FOLDER).eval()"] if base else []),
            "tokenizer = AutoTokenizer.from_pretrained(FOLDER)",
            'prompt = [{"role": "user", "content": "…"}]',
            "inputs = tokenizer.apply_chat_template(",
            '    prompt, add_generation_prompt=True, return_dict=True, return_tensors="pt"',
            ")",
            "print(tokenizer.decode(student.generate(**inputs, max_new_tokens=200)[0]))",
            "```",
            "",
        ]
    )
