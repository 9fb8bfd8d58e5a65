"""The router: a small language model with one output per teacher instead of its LM head.

Zhang et al., arXiv 2510.10925, §3.2, after Prompt-to-Leaderboard (Frick et al., arXiv 2502.14855): the M
outputs on a prompt are the Bradley–Terry coefficients of the teachers for it.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, get_args

import numpy as np
import torch
from numpy.typing import NDArray
from peft import LoraConfig, inject_adapter_in_model
from peft.tuners.tuners_utils import cast_adapter_dtype
from torch import Tensor, nn
from transformers.pytorch_utils import Conv1D

from engine.base.errors import ConfigError, ModelError
from engine.models.batching import cut, shuffled
from engine.models.chat_template import prompt_ids
from engine.models.memory import batch_tokens, halving
from engine.models.stoppable import stoppable
from engine.router import manifest as manifests
from engine.router import saved
from engine.router.backbone import Backbone, cut_middle, load_backbone, pool
from engine.router.kept_states import KeptStates
from engine.router.manifest import Labelling, Manifest, Teacher
from engine.router.settings import CPU_TOKENS, Tune
from storage.hashing import sha
from storage.records import Messages


class Router(nn.Module):
    """Backbone, linear head and the order of its teachers.

    Args:
        backbone: from `load_backbone`; with `lora` or `full` it is trained in place.
        teachers: M teachers, in the order of the outputs.
        tune: which weights of the backbone are trained: none, an adapter, or all.
        lora_rank, lora_alpha: of the adapter on every linear layer.
        max_tokens: longer prompts are cut in the middle; 0 takes the backbone's context.
    """

    mean: Tensor
    deviation: Tensor

    def __init__(
        self,
        backbone: Backbone,
        teachers: Sequence[Teacher],
        tune: Tune = "frozen",
        *,
        lora_rank: int = 16,
        lora_alpha: float = 32.0,
        max_tokens: int = 0,
    ) -> None:
        super().__init__()
        if tune not in get_args(Tune):
            raise ConfigError(f"router.tune is {tune!r}", f"use one of: {', '.join(get_args(Tune))}")
        names = [teacher.name for teacher in teachers]
        if len(names) < 2 or len(set(names)) != len(names):
            raise ConfigError(
                f"a router needs two or more teachers of different names; got: {', '.join(names) or 'none'}",
                "correct `teachers` in the run file",
            )
        self.teachers = tuple(teachers)
        self.tune: Tune = tune
        self.source = backbone
        self.lora: Mapping[str, Any] | None = None
        self.max_tokens = min(max_tokens or backbone.max_tokens, backbone.max_tokens)
        self.truncated = 0
        """Prompts cut in the middle since this object was made."""
        self.manifest: Manifest | None = None
        """Of the folder it was loaded from or saved to last."""
        self.backbone = backbone.model.requires_grad_(tune == "full")
        if tune == "lora":
            self.lora = {"rank": lora_rank, "alpha": lora_alpha}
            config = LoraConfig(
                r=lora_rank,
                lora_alpha=lora_alpha,
                target_modules="all-linear",
                fan_in_fan_out=any(isinstance(module, Conv1D) for module in self.backbone.modules()),
            )
            inject_adapter_in_model(config, self.backbone)
            cast_adapter_dtype(self.backbone, "default")  # to float32: steps vanish in 16 bits
        device = backbone.model.device
        self.head = nn.Linear(backbone.hidden, len(names), device=device)
        # Zero: an untrained router prefers nobody.
        nn.init.zeros_(self.head.weight)
        nn.init.zeros_(self.head.bias)
        self.register_buffer("mean", torch.zeros(backbone.hidden, device=device))
        self.register_buffer("deviation", torch.ones(backbone.hidden, device=device))

    def encode(self, prompts: Sequence[Messages]) -> list[list[int]]:
        """Return the token ids of each prompt, at most `max_tokens`; `truncated` counts those cut."""
        encoded = []
        for messages in prompts:
            ids = prompt_ids(self.source.tokenizer, messages)
            self.truncated += len(ids) > self.max_tokens
            encoded.append(cut_middle(ids, self.max_tokens))
        return encoded

    def forward(self, batch: Sequence[Sequence[int]]) -> Tensor:
        """Return strengths (B, M) of encoded prompts, with gradients."""
        return self.read(pool(self.backbone, batch))

    def read(self, pooled: Tensor) -> Tensor:
        """Return strengths (B, M) of pooled hidden states (B, H)."""
        strengths: Tensor = self.head((pooled - self.mean) / self.deviation)
        return strengths

    def passes(
        self,
        encoded: Sequence[Sequence[int]],
        should_stop: Callable[[], bool] = lambda: False,
        token_budget: int = 0,
        kept: KeptStates | None = None,
    ) -> Iterator[tuple[list[int], Tensor]]:
        """Yield (places in `encoded`, their pooled hidden states (b, H)) after every forward pass, without gradients.

        Equal prompts are read once. Passes are of prompts of like length, long and short ones mixed; one that memory
        does not hold is made in halves. Which prompts share a pass depends on `encoded` alone, so that a reading
        which goes on gives the same bits.

        Args:
            encoded: token ids of each prompt.
            should_stop: asked before every layer.
            token_budget: padded tokens per pass; 0 takes what suits the device.
            kept: gets what is read. A pass all of whose prompts it holds is not made, and not yielded.

        Raises:
            Cancelled: `should_stop` said so.
        """
        places: dict[tuple[int, ...], list[int]] = {}
        for place, ids in enumerate(encoded):
            places.setdefault(tuple(ids), []).append(place)

        def read(part: list[tuple[int, ...]]) -> Iterator[tuple[list[int], Tensor]]:
            with torch.no_grad(), stoppable(self.backbone, should_stop):
                states = pool(self.backbone, part)
            if kept is not None:
                kept.add(part, states)
            rows = [row for row, ids in enumerate(part) for _ in places[ids]]
            yield [place for ids in part for place in places[ids]], states[rows]

        budget = token_budget or batch_tokens(self.backbone, CPU_TOKENS)
        longest_first = sorted(places, key=len, reverse=True)
        try:
            for batch in shuffled(cut(longest_first, len, budget, similar=True)):
                if kept is None or not all(ids in kept for ids in batch):
                    yield from halving(batch, read)
        finally:
            if kept is not None:
                kept.flush()

    def pooled(
        self,
        encoded: Sequence[Sequence[int]],
        should_stop: Callable[[], bool] = lambda: False,
        token_budget: int = 0,
        keep_in: Path | None = None,
        on_read: Callable[[int, int], None] = lambda done, total: None,
    ) -> Tensor:
        """Return the pooled hidden states (B, H) of encoded prompts, without gradients, in their order.

        Args:
            encoded: token ids of B prompts.
            should_stop: asked before every layer.
            token_budget: padded tokens per pass; 0 takes what suits the device.
            keep_in: folder where states are kept while they are read, and found again by the next call; see
                `KeptStates`.
            on_read: called with (prompts read, B) before the first pass and after each.

        Raises:
            Cancelled: `should_stop` said so.
        """
        kept = None if keep_in is None else KeptStates(keep_in, self._reader(), self.source.hidden)
        out = torch.empty(len(encoded), self.source.hidden, device=self.backbone.device)
        read = np.zeros(len(encoded), dtype=bool)
        for place, ids in enumerate(encoded):
            if kept is not None and ids in kept:
                out[place], read[place] = kept[ids], True
        on_read(int(read.sum()), len(encoded))
        for places, states in self.passes(encoded, should_stop, token_budget, kept):
            out[places], read[places] = states, True
            on_read(int(read.sum()), len(encoded))
        return out

    def _reader(self) -> str:
        """Return what identifies everything that pooled states depend on beside the prompt."""
        weights = {
            name: torch.hash_tensor(tensor if tensor.device.type in ("cpu", "cuda") else tensor.cpu())
            for name, tensor in self.trained().items()
        }
        hashes = {name: int(value.view(torch.int64)) for name, value in weights.items()}
        return sha([self.source.sha, self.source.dtype, self.max_tokens, hashes])

    def strengths(
        self,
        prompts: Sequence[Messages],
        should_stop: Callable[[], bool] = lambda: False,
        token_budget: int = 0,
        keep_in: Path | None = None,
        on_read: Callable[[int, int], None] = lambda done, total: None,
    ) -> NDArray[np.float32]:
        """Return the strengths (B, M) of the teachers on each prompt, in the order of `teachers`.

        Args:
            prompts: B conversations.
            should_stop, token_budget, keep_in, on_read: as of `pooled`.

        Raises:
            TemplateError: a prompt does not fit the backbone's chat template.
            Cancelled: `should_stop` said so.
        """
        if not prompts:
            return np.zeros((0, len(self.teachers)), dtype=np.float32)
        return self._numbers(self.pooled(self.encode(prompts), should_stop, token_budget, keep_in, on_read))

    def strengths_by_pass(
        self, prompts: Sequence[Messages], should_stop: Callable[[], bool] = lambda: False
    ) -> Iterator[tuple[list[int], NDArray[np.float32]]]:
        """Yield (places in `prompts`, strengths (b, M)) after every forward pass; see `passes` and `strengths`."""
        for places, states in self.passes(self.encode(prompts), should_stop):
            yield places, self._numbers(states)

    @torch.no_grad()
    def _numbers(self, pooled: Tensor) -> NDArray[np.float32]:
        return np.asarray(self.read(pooled).cpu().numpy(), dtype=np.float32)

    def trained(self) -> dict[str, Tensor]:
        """Return the backbone's own trained tensors by name: none, the adapter's, or all."""
        if self.tune == "frozen":
            return {}
        state: dict[str, Tensor] = self.backbone.state_dict()
        return {name: tensor for name, tensor in state.items() if self.tune == "full" or "lora_" in name}

    def head_state(self) -> dict[str, Tensor]:
        """Return the head's tensors: `weight` (M, H), `bias` (M,), `mean` and `deviation` (H,)."""
        return {
            "weight": self.head.weight,
            "bias": self.head.bias,
            "mean": self.mean,
            "deviation": self.deviation,
        }

    def restore(self, head: Mapping[str, Tensor], trained: Mapping[str, Tensor]) -> None:
        """Put back what `head_state` and `trained` returned.

        Raises:
            ModelError: names or shapes do not fit this router.
        """
        own = {"head": self.head_state(), "weights": self.trained()}
        for kind, given in (("head", head), ("weights", trained)):
            wanted = {name: tuple(tensor.shape) for name, tensor in own[kind].items()}
            if {name: tuple(tensor.shape) for name, tensor in given.items()} != wanted:
                raise ModelError(f"the saved router's {kind} do not fit its backbone", manifests.RETRAIN)
            with torch.no_grad():
                for name, tensor in own[kind].items():
                    tensor.copy_(given[name])

    def save(self, folder: Path, labelling: Labelling, notes: Mapping[str, Any] | None = None) -> Manifest:
        """Return the manifest once the router is on disk, whole.

        Args:
            folder: made if need be; a router that it already holds is replaced atomically.
            labelling: how the rewards were derived.
            notes: small JSON to keep with it, such as measures.
        """
        manifest = Manifest(
            teachers=self.teachers,
            labelling=labelling,
            tune=self.tune,
            backbone=self.source.ref,
            revision=self.source.revision,
            backbone_sha=self.source.sha,
            max_tokens=self.max_tokens,
            dtype=self.source.dtype,
            lora=self.lora,
            notes=notes or {},
        )
        tensors: dict[str, Mapping[str, Tensor]] = {"head": self.head_state()}
        if self.tune != "frozen":
            tensors["weights"] = self.trained()
        self.manifest = saved.write(folder, manifest, tensors)
        return self.manifest

    @classmethod
    def load(
        cls,
        folder: Path,
        expected_teachers: Sequence[Teacher] | None = None,
        *,
        device: str = "auto",
        trust_remote_code: bool = False,
    ) -> "Router":
        """Return a saved router in eval mode; its `manifest` says what it was trained on.

        Args:
            folder: where `save` put it.
            expected_teachers: the teachers that its outputs will be taken for, in order; None takes its own.
            device: see `load_backbone`.
            trust_remote_code: see `load_backbone`.

        Raises:
            TeacherMismatch: it was trained on other teachers, or on the same in another order.
            ModelError: a file is missing or damaged, or the backbone is not the one it was trained on.
        """
        manifest = manifests.read(folder)
        if expected_teachers is not None:
            manifests.check_teachers(manifest.teachers, expected_teachers)
        manifest, tensors = saved.read(folder)
        backbone = load_backbone(
            manifest.backbone,
            revision=manifest.revision,
            dtype=manifest.dtype,
            device=device,
            trust_remote_code=trust_remote_code,
        )
        if backbone.sha != manifest.backbone_sha:
            raise ModelError(
                f"the backbone {manifest.backbone!r} has changed since the router in {folder} was trained",
                f"put the old backbone back, or {manifests.RETRAIN}",
            )
        lora = manifest.lora or {}
        router = cls(
            backbone,
            manifest.teachers,
            manifest.tune,  # type: ignore[arg-type]  # checked by the constructor
            max_tokens=manifest.max_tokens,
            **{f"lora_{key}": value for key, value in lora.items()},
        )
        router.restore(tensors.get("head", {}), tensors.get("weights", {}))
        router.manifest = manifest
        return router.eval()
