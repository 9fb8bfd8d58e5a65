"""A tiny llama as a folder, as the GGUF file that llama.cpp's converter would make of it, and LoRA adapters."""

from pathlib import Path

import gguf
import numpy as np
import peft
import torch
import transformers as hf
from tokenizers import Tokenizer, decoders, models, pre_tokenizers

TEMPLATE = (
    "{% for m in messages %}{{ '<|im_start|>' + m['role'] + '\n' + m['content'] + '<|im_end|>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
SPECIAL = ("<|pad|>", "<|im_start|>", "<|im_end|>")
HEADS, WIDTH, LAYERS, CONTEXT = 4, 64, 2, 512


def folder(place: Path) -> Path:
    """A byte-level llama with random weights, as save_pretrained writes it."""
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {token: index for index, token in enumerate([*letters, "is"])}
    tokenizer = Tokenizer(models.BPE(vocabulary, [("i", "s")]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer.decoder = decoders.ByteLevel()
    wrapped = hf.PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token=SPECIAL[0],
        eos_token=SPECIAL[2],
        additional_special_tokens=[SPECIAL[1]],
        chat_template=TEMPLATE,
    )
    torch.manual_seed(0)
    config = hf.LlamaConfig(
        vocab_size=len(wrapped),
        hidden_size=WIDTH,
        intermediate_size=128,
        num_hidden_layers=LAYERS,
        num_attention_heads=HEADS,
        num_key_value_heads=2,
        max_position_embeddings=CONTEXT,
        initializer_range=0.3,
        tie_word_embeddings=False,
        bos_token_id=None,
        eos_token_id=wrapped.eos_token_id,
        pad_token_id=wrapped.pad_token_id,
    )
    hf.LlamaForCausalLM(config).save_pretrained(place)
    wrapped.save_pretrained(place)
    return place


def convert(source: Path, target: Path, quantization: gguf.GGMLQuantizationType | None = None) -> Path:
    """The GGUF file of a folder; matrices are quantized as asked, else they stay float32."""
    model = hf.AutoModelForCausalLM.from_pretrained(source, dtype=torch.float32)
    tokenizer = hf.AutoTokenizer.from_pretrained(source)
    config = model.config
    writer = gguf.GGUFWriter(str(target), "llama")
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_block_count(config.num_hidden_layers)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(config.num_attention_heads)
    writer.add_head_count_kv(config.num_key_value_heads)
    writer.add_rope_dimension_count(config.head_dim)
    writer.add_rope_freq_base(10000.0)
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_vocab_size(config.vocab_size)
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("default")
    names = tokenizer.convert_ids_to_tokens(range(len(tokenizer)))
    writer.add_token_list(names)
    writer.add_token_types([3 if name in SPECIAL else 1 for name in names])
    writer.add_token_merges(["i s"])
    writer.add_eos_token_id(tokenizer.eos_token_id)
    writer.add_pad_token_id(tokenizer.pad_token_id)
    writer.add_chat_template(tokenizer.chat_template)
    tensors = gguf.get_tensor_name_map(gguf.MODEL_ARCH.LLAMA, config.num_hidden_layers)
    for name, weight in model.state_dict().items():
        values = weight.numpy()
        if "q_proj" in name or "k_proj" in name:
            heads = config.num_attention_heads if "q_proj" in name else config.num_key_value_heads
            # llama.cpp keeps the two halves of a rotation next to each other.
            values = values.reshape(heads, 2, -1, values.shape[1]).swapaxes(1, 2).reshape(values.shape)
        label = tensors.get_name(name, try_suffixes=(".weight",))
        if quantization is not None and values.ndim == 2:
            writer.add_tensor(label, gguf.quantize(values, quantization), raw_dtype=quantization)
        else:
            writer.add_tensor(label, np.ascontiguousarray(values))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return target


def adapted(base: str, folder: Path, seed: int = 0) -> Path:
    """A LoRA adapter by peft whose update is not zero."""
    model = hf.AutoModelForCausalLM.from_pretrained(base)
    torch.manual_seed(seed)
    made = peft.get_peft_model(
        model,
        peft.LoraConfig(r=4, target_modules="all-linear", init_lora_weights=False, task_type="CAUSAL_LM"),
    )
    made.save_pretrained(folder)
    return folder
