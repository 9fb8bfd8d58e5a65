"""Turns a GGUF file into a plain bfloat16 folder that every loader understands."""

from pathlib import Path
from typing import Any

import torch
from transformers import GenerationConfig

from engine.base.errors import ModelError
from engine.models.chat_template import prompt_ids
from engine.models.loading import load_causal_lm, load_tokenizer, load_weights
from engine.models.model_info import check


def convert(weights: Path, folder: Path, chat_template: str = "") -> None:
    """Writes config, bfloat16 safetensors, tokenizer and generation settings to `folder`.

    Args:
        weights: the GGUF file.
        folder: created.
        chat_template: replaces the one in the file; needed where the file has none.
    """
    tokenizer = load_tokenizer(str(weights), chat_template=not chat_template)
    if chat_template:
        tokenizer.chat_template = chat_template
    found = check(str(weights), chat_template=not chat_template)
    quantized = load_weights(found, "AutoModelForCausalLM", "bfloat16", "cpu")
    config = quantized.config
    config._name_or_path = ""
    # Left in, it would have every loader look for the GGUF file again, and save_pretrained refuses.
    if hasattr(config, "quantization_config"):
        del config.quantization_config
    config.bos_token_id, config.eos_token_id = tokenizer.bos_token_id, tokenizer.eos_token_id
    config.pad_token_id = tokenizer.pad_token_id
    with torch.device("meta"):
        plain = type(quantized)(config)
    plain.load_state_dict(quantized.state_dict(), assign=True)
    plain.tie_weights()
    plain.generation_config = GenerationConfig(  # type: ignore[no-untyped-call]
        do_sample=False,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    plain.save_pretrained(folder)
    tokenizer.save_pretrained(folder)


@torch.inference_mode()
def sample_answer(folder: Path) -> str:
    """A short greedy answer of the model in `folder`.

    Raises:
        ModelError: its logits are not finite, or it answers nothing.
    """
    loaded, tokenizer = load_causal_lm(str(folder), dtype="bfloat16", device="cpu")
    ids = torch.tensor(
        [prompt_ids(tokenizer, [{"role": "user", "content": "What is the capital of France?"}])]
    )
    model: Any = loaded
    output = model.generate(
        ids,
        attention_mask=torch.ones_like(ids),
        max_new_tokens=12,
        do_sample=False,
        output_logits=True,
        return_dict_in_generate=True,
    )
    text = str(tokenizer.decode(output.sequences[0, ids.shape[1] :], skip_special_tokens=True)).strip()
    if not all(torch.isfinite(logits).all() for logits in output.logits) or not text:
        raise ModelError(
            f"the model converted to {folder} does not compute", "fetch it again, and report this"
        )
    return text
