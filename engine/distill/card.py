"""The README that lies beside a distilled student: what it is, and how it is loaded."""

import json
import re

from engine.base.sanitize import one_line
from engine.distill.data import Counts
from engine.distill.settings import Settings
from engine.models.nf4 import NF4

_LOADING = "## Load it"
_PLAIN = re.compile(r"[\w./~+-]+(?::[\w./~+-]+)*")
"""What YAML takes as text without quotes."""


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
    tuning = settings.tuning
    adapter, four_bit = tuning.method != "full", tuning.method == "qlora"
    method = f"LoRA, rank {tuning.rank}, alpha {tuning.alpha:g}" if adapter else "full fine-tuning"
    if four_bit:
        method = (
            f"Q{method}: the base's linear layers in 4 bits (nf4, double quantisation), computed in {dtype}"
        )
    about = f"""\
---
base_model: {base if _PLAIN.fullmatch(base) else json.dumps(base)}
library_name: {"peft" if adapter else "transformers"}
---

# A student distilled by PerSyn

- base model: `{one_line(base, 1000).replace("`", "'")}`
- method: {method}
- rows: {counts.kept:,}
- epochs: {settings.epochs:,} ({steps:,} steps of {settings.batch_rows} rows)
- learning rate: {settings.optimizer.learning_rate:g}, {settings.optimizer.schedule}
- loss: {loss:.4f} nats per target token, mean of the last epoch
- seed: {settings.seed}

Which prompts and whose answers it was trained on is kept in the store: `persyn data datasets`.
"""
    return about + _loading(base if adapter else "", dtype, four_bit)


def of_merged(adapter: str, dtype: str) -> str:
    """The README of the merged model, from that of its adapter."""
    return adapter.partition(_LOADING)[0].replace(
        "library_name: peft", "library_name: transformers"
    ) + _loading("", dtype)


def _loading(base: str, dtype: str, four_bit: bool = False) -> str:
    """How to load an adapter over `base`, in 4 bits or as it is, or a whole model when `base` is empty."""
    more = ", quantization_config=nf4" if four_bit else ""
    model = f'AutoModelForCausalLM.from_pretrained({json.dumps(base) if base else "FOLDER"}, dtype="{dtype}"{more})'
    peft = ("from peft import PeftModel\n", "student = PeftModel.from_pretrained(student, FOLDER).eval()\n")
    imported, put_on = peft if base else ("", "")
    classes, nf4 = "AutoModelForCausalLM, AutoTokenizer", ""
    if four_bit:
        classes = f"{classes}, BitsAndBytesConfig"
        chosen = "".join(f", {key}={value!r}" for key, value in NF4.items())
        nf4 = f'nf4 = BitsAndBytesConfig(load_in_4bit=True{chosen}, bnb_4bit_compute_dtype="{dtype}")\n'
    return f"""\
{_LOADING}

`FOLDER` is the folder of this file. In another number format than {dtype} some answers differ.

```python
{imported}from transformers import {classes}

{nf4}student = {model}
{put_on}tokenizer = AutoTokenizer.from_pretrained(FOLDER)
prompt = [{{"role": "user", "content": "…"}}]
inputs = tokenizer.apply_chat_template(
    prompt, add_generation_prompt=True, return_dict=True, return_tensors="pt"
)
print(tokenizer.decode(student.generate(**inputs, max_new_tokens=200)[0]))
```
"""
