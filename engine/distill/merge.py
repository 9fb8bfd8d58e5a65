"""A LoRA adapter becomes part of the student's weights, and the saved result is proven against the live one.

Merging is W ← W + (alpha / rank)·B·A. It goes wrong silently where two layers share a weight (tied
embeddings), where weights are rounded (bfloat16), or where a save forgets a tensor. So the merged folder is
loaded again from disk and its logits are compared with those of student + adapter, position by position.

An adapter trained on 4-bit weights is added to the values that these stand for, which are not those the student had
before: its B·A has learned to mend what quantisation changed. PEFT would round the sum to 4 bits again.
"""

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from engine.base.errors import TrainingError
from engine.distill import card
from engine.models import adapters
from engine.models.checkpoint import partial, verify, write_sealed
from engine.models.loading import attach_adapter, load_causal_lm
from engine.models.quantization import dequantised

SHARD = "2GB"
"""Of a file of weights: a stop is heard between two."""
TOLERANCES: Mapping[torch.dtype, float] = {torch.float32: 1e-4, torch.bfloat16: 5e-2, torch.float16: 1e-2}
"""Largest accepted |merged − live| as a share of the largest |live logit|, by the dtype that is saved."""


@dataclass(frozen=True, slots=True)
class Base:
    """The student that an adapter was trained on; see `engine.models.loading.load_causal_lm`."""

    ref: str
    revision: str = ""
    dtype: str = "float32"
    """Of the saved weights, too: float32 or bfloat16."""
    device: str = "auto"


@dataclass(frozen=True, slots=True)
class Merged:
    """A merged student on disk."""

    path: Path
    largest_difference: float
    """max |merged − live| over all positions and the whole vocabulary, in logits."""
    largest_logit: float
    """max |live|, what the difference is to be compared with."""


def merge(base: Base, adapter: Path, folder: Path, probes: Sequence[Sequence[int]]) -> Merged:
    """Return the merged student, saved whole in `folder` with its tokenizer, after checking its logits.

    Args:
        base: the student as it was trained.
        adapter: folder written by `train`.
        folder: replaced when it exists.
        probes: token ids of a few texts; those of training rows show what the adapter changes most.

    Raises:
        TrainingError: the adapter's folder is damaged, or the reloaded student differs from the live one; then
            `folder` is removed.
        ModelError: `base` cannot be loaded.
    """
    try:
        verify(adapter)
    except ValueError as error:
        raise TrainingError(
            f"the adapter in {adapter} cannot be merged: {error}",
            "train again: the run resumes from its last checkpoint",
        ) from error
    four_bit = bool(adapters.check(str(adapter)).quantization)
    student, tokenizer = load_causal_lm(
        base.ref, dtype=base.dtype, device=base.device, revision=base.revision, four_bit=four_bit
    )
    live = attach_adapter(student, base.ref, str(adapter))
    before = _logits(live, probes)
    if four_bit:
        live = attach_adapter(dequantised(live.unload()), base.ref, str(adapter))
    merged = live.merge_and_unload()

    def fill(temporary: Path) -> None:
        merged.save_pretrained(temporary, max_shard_size=SHARD)
        tokenizer.save_pretrained(temporary)
        if (readme := adapter / "README.md").exists():
            text = card.of_merged(readme.read_text(encoding="utf-8"), base.dtype)
            (temporary / "README.md").write_text(text, encoding="utf-8")

    write_sealed(folder, fill, {"base": base.ref, "adapter": str(adapter)})
    try:
        return _check(folder, before, probes, base)
    except BaseException:
        # Whoever finds the folder takes it for a checked one.
        shutil.rmtree(folder, ignore_errors=True)
        raise


def discard(folder: Path) -> None:
    """Removes what a `merge` into this folder that was stopped has written."""
    for path in (folder, partial(folder)):
        shutil.rmtree(path, ignore_errors=True)


def _check(folder: Path, live: Sequence[Tensor], probes: Sequence[Sequence[int]], base: Base) -> Merged:
    """How far the student in `folder` is from the live logits, one (T, V) per probe; too far is an error."""
    reloaded, _ = load_causal_lm(str(folder), dtype=base.dtype, device=base.device)
    after = _logits(reloaded, probes)
    difference = max(float((a - b).abs().max()) for a, b in zip(after, live, strict=True))
    largest = max(float(values.abs().max()) for values in live)
    allowed = TOLERANCES[getattr(torch, base.dtype)] * largest
    if not difference <= allowed:
        raise TrainingError(
            f"the merged student in {folder} is not the trained one: logits differ by {difference:.3g}, "
            f"more than {allowed:.3g}",
            "keep the adapter apart (it is intact); an adapter on tied embeddings is the usual cause",
        )
    return Merged(folder, difference, largest)


@torch.no_grad()
def _logits(model: Any, probes: Sequence[Sequence[int]]) -> list[Tensor]:
    device = next(model.parameters()).device
    return [
        model(input_ids=torch.tensor([list(ids)], device=device), use_cache=False).logits[0].float().cpu()
        for ids in probes
    ]
