"""Turns a GGUF file into a plain bfloat16 folder that every loader understands."""

from pathlib import Path

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, GenerationConfig, GgufConfig

from engine.base.errors import ModelError


def convert(weights: Path, folder: Path, chat_template: str = "") -> None:
    """Writes config, bfloat16 safetensors, tokenizer and generation settings to `folder`.

    Args:
        weights: the GGUF file.
        folder: created.
        chat_template: replaces the one in the file; needed where the file has none.
    """
    tokenizer = AutoTokenizer.from_pretrained(weights.parent, gguf_file=weights.name)
    if chat_template:
        tokenizer.chat_template = chat_template
    quantized = AutoModelForCausalLM.from_pretrained(
        weights.parent,
        gguf_file=weights.name,
        quantization_config=GgufConfig(dequantize=True),
        dtype=torch.bfloat16,
    )
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
def check(folder: Path) -> str:
    """A short greedy answer of the model in `folder`.

    Raises:
        ModelError: its logits are not finite, or it answers nothing.
    """
    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.bfloat16).eval()  # type: ignore[no-untyped-call]
    prompt = tokenizer.apply_chat_template(
        [{"role": "user", "content": "What is the capital of France?"}],
        tokenize=False,
        add_generation_prompt=True,
    )
    inputs = tokenizer(prompt, add_special_tokens=False, return_tensors="pt")
    output = model.generate(
        inputs["input_ids"],
        attention_mask=inputs["attention_mask"],
        max_new_tokens=12,
        do_sample=False,
        output_logits=True,
        return_dict_in_generate=True,
    )
    answer = output.sequences[0, inputs["input_ids"].shape[1] :]
    text = str(tokenizer.decode(answer, skip_special_tokens=True)).strip()
    if not all(torch.isfinite(logits).all() for logits in output.logits) or not text:
        raise ModelError(
            f"the model converted to {folder} does not compute", "fetch it again, and report this"
        )
    return text
