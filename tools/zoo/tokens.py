"""The two tokenizers of the zoo, different on purpose.

    A   whole words of the task templates are one token, everything else is characters; its own pad
        token; no BOS
    B   byte-level BPE of 640 tokens, digits apart; pad = EOS; the chat template writes a BOS and the
        tokenizer would add another

Both speak the same chat layout and end a turn with `<|im_end|>`, their EOS.
"""

import string
from collections.abc import Iterable
from typing import Literal

from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from transformers import PreTrainedTokenizerFast

Kind = Literal["A", "B"]

BOS, START, END, PAD, UNKNOWN = "<|bos|>", "<|im_start|>", "<|im_end|>", "<|pad|>", "<|unk|>"
CONTEXT = 256

TURNS = (
    "{% for message in messages %}"
    "{{ '<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>\n' }}"
    "{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)

WORDS = (
    "system user assistant Question Answer "
    "Spell this word backward example sun nus First spell the forward Then "
    "Solve for Find value of in equation Determine that satisfies Move to right Divide by "
    "following problem Provide you answer as separated list words with space after comma Reverse these Start at "
    "end then comes "
    "Greatest Common Divisor GCD numbers Give only your final is and Divisors Largest both "
    "State arithmetic Add ones write carry tens Subtract borrow so larger result negative The "
)
"""Words that the templates of the tasks and of the styles repeat, between spaces."""


def build(kind: Kind, texts: Iterable[str]) -> PreTrainedTokenizerFast:
    """Tokenizer of the given kind; `texts` is what B learns its merges from (A needs none)."""
    return _words() if kind == "A" else _bytes(texts)


def _words() -> PreTrainedTokenizerFast:
    words = sorted({*WORDS.split()}, key=lambda word: (-len(word), word))
    pieces = [UNKNOWN, PAD, START, END, "\n", *string.printable[:95]]
    pieces += [space + word for word in words for space in ("", " ") if len(space + word) > 1]
    tokenizer = Tokenizer(models.WordLevel({piece: i for i, piece in enumerate(pieces)}, unk_token=UNKNOWN))
    whole = rf" ?(?<![A-Za-z])(?:{'|'.join(words)})(?![A-Za-z])"
    tokenizer.pre_tokenizer = pre_tokenizers.Split(Regex(rf"{whole}|[\s\S]"), behavior="isolated")
    tokenizer.decoder = decoders.Fuse()
    return PreTrainedTokenizerFast(  # type: ignore[no-untyped-call]
        tokenizer_object=tokenizer,
        unk_token=UNKNOWN,
        pad_token=PAD,
        eos_token=END,
        additional_special_tokens=[START],
        chat_template=TURNS,
        model_max_length=CONTEXT,
        clean_up_tokenization_spaces=False,
    )


def _bytes(texts: Iterable[str]) -> PreTrainedTokenizerFast:
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.train_from_iterator(
        texts,
        trainers.BpeTrainer(
            vocab_size=640,
            special_tokens=[BOS, START, END],
            show_progress=False,
            initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        ),
    )
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{BOS} $A", pair=f"{BOS} $A $B", special_tokens=[(BOS, tokenizer.token_to_id(BOS))]
    )
    return PreTrainedTokenizerFast(  # type: ignore[no-untyped-call]
        tokenizer_object=tokenizer,
        bos_token=BOS,
        pad_token=END,
        eos_token=END,
        additional_special_tokens=[START],
        chat_template="{{ bos_token }}" + TURNS,
        model_max_length=CONTEXT,
        clean_up_tokenization_spaces=False,
    )
