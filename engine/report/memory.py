"""Whether each local model of a run fits its device, from its files alone and before anything is loaded. No torch.

Models are loaded one after the other, so each is held against what is free now.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

from engine.base.errors import ModelError
from engine.config.kinds import scorer_kind, teacher_kind
from engine.config.run_file import Run
from engine.job.stage_names import STAGES
from engine.methods import strategy_kinds
from engine.models import footprint
from engine.models.devices import Device, Machine, this_machine
from engine.models.footprint import Shape
from engine.models.precision import AUTO
from engine.router.settings import TUNE_CPU_TOKENS

_SMALL_PASS = 1024
"""Tokens of a training pass that is tried where the usual one does not fit."""
_OF_CUDA = 5 * 10**8
"""Bytes that CUDA takes in a process for its context and libraries, about."""

_Parts = Callable[[Shape, str, Device], Mapping[str, int]]
"""From shape, number format and device of a model: what it is for → bytes, without the weights."""


@dataclass(frozen=True, slots=True)
class _Use:
    """One use of a model in a run."""

    about: str
    ref: str
    revision: str
    device: str | None
    dtype: str | None
    """None: float32."""
    parts: _Parts
    parameters: float | None = None
    """As the run file has it; of a model whose files are not here."""
    instead: Mapping[str, _Parts] = field(default_factory=dict)
    """Settings as words → the same with them, where there are any that take less."""
    copied: bool = False
    """Whether it has a copy on each of several devices, or a part."""
    cut: bool = False
    """Whether it is a part."""
    stage: str = "score"
    """The first that loads it."""


@dataclass(frozen=True, slots=True)
class Need:
    """What one use of a model takes."""

    about: str
    """`teacher NAME`, `student NAME`, `training`, `router`, or the name of a scorer."""
    dtype: str
    device: str
    parameters: float | None
    """None where its files are not on this machine, or do not say."""
    parts: Mapping[str, int]
    """What it is for → bytes; empty where `parameters` is None."""
    free: int
    """Bytes that are free on the device now."""
    would: tuple[str, ...] = ()
    """Settings that would fit, any one of them; empty where it fits, or where none would."""
    copies: int = 1
    """Devices that take this much each; `device` is the fullest of them, and copies on a CPU share what is free."""
    cut: bool = False
    """Whether each of these devices has a part of the model."""

    @property
    def total(self) -> int:
        """Bytes of all parts."""
        return sum(self.parts.values())

    @property
    def fits(self) -> bool:
        """Whether it fits, as far as is known."""
        return self.total <= self.free

    @property
    def remedy(self) -> str:
        """What to do where it does not fit; empty where it does."""
        if self.fits:
            return ""
        if not self.would:
            return "use a smaller model, or a device with more memory"
        return f"{' or '.join(self.would)} would fit, by estimate"

    def __str__(self) -> str:
        where = f"free {_gb(self.free)} on {self.device}"
        if self.copies > 1:
            where += f", the least of {self.copies} that hold a {'part' if self.cut else 'copy'} each"
        if self.parameters is None:
            return f"{self.dtype} on {self.device}; its size is not known before its files are here"
        parts = ", ".join(f"{name} {_gb(count)}" for name, count in self.parts.items())
        return f"{_count(self.parameters)} in {self.dtype} needs {_gb(self.total)} ({parts}); {where}"


def of_run(run: Run, machine: Machine | None = None, until: str = STAGES[-1]) -> tuple[Need, ...]:
    """What each local model of a settled run takes; those on a device that is not there are left out.

    Args:
        run: its models' files are read where they are on this machine.
        machine: where it will run; None: this one.
        until: the last stage that is run; what only later ones load is left out.
    """
    here, stages = (machine or this_machine()).among(run.devices), STAGES[: STAGES.index(until) + 1]
    needs = (_need(use, here) for use in _uses(run, here) if use.stage in stages)
    return tuple(need for need in needs if need is not None)


def _uses(run: Run, machine: Machine) -> Iterator[_Use]:
    student, router, distill = run.student, run.router, run.distill
    for one in run.teachers:
        if teacher_kind(one.backend).in_process:
            tokens = run.estimate.prompt_tokens + (one.sampling.max_tokens or run.generation.max_tokens)
            parts = _generation(one.batch_tokens or tokens)
            yield _Use(
                f"teacher {one.name}",
                one.model,
                one.revision,
                one.device,
                one.dtype,
                parts,
                one.parameters,
                stage="calibrate",
            )
    for name, config in run.quality.named.items():
        if (local := scorer_kind(config.scorer).local_model) is not None:
            given = config.settings
            batch: int | None = given.get("batch_tokens")
            yield _Use(
                name,
                *local(given),
                given.get("device"),
                given.get("dtype"),
                _scoring(batch),
                instead=_smaller(batch),
                copied=True,
            )
    yield _Use(
        f"student {student.name}",
        student.model,
        student.revision,
        student.device,
        student.dtype,
        _scoring(student.batch_tokens),
        student.parameters,
        _smaller(student.batch_tokens),
        copied=True,
    )
    if strategy_kinds.routed(run.strategies):
        reads = router.tune == "frozen"
        parts = _scoring(None) if reads else _training(router.tune, router.rank, None, recomputed=False)
        instead = {} if reads else {"`router: {tune: frozen}`": _scoring(None)}
        yield _Use(
            "router",
            router.backbone,
            router.revision,
            router.device,
            router.dtype,
            parts,
            instead=instead,
            stage="train_router",
        )

    def training(
        method: str = distill.method,
        tokens: int = distill.pass_tokens,
        recomputed: bool = distill.gradient_checkpointing,
    ) -> _Parts:
        parts = _training(method, distill.rank, tokens, recomputed=recomputed)
        return _cut(parts, places) if method == "full" and len(places) > 1 else parts

    places = machine.places(student.device)[: distill.batch_size]
    less = {}
    if distill.method == "full":
        less["`distill: {method: lora}`"] = training("lora")
    if distill.method != "qlora":
        less["`distill: {method: qlora}`"] = training("qlora")
    if not distill.gradient_checkpointing:
        less["`distill: {gradient_checkpointing: true}`"] = training(recomputed=True)
    if distill.pass_tokens > _SMALL_PASS:
        less[f"`distill: {{pass_tokens: {_SMALL_PASS}}}`"] = training(tokens=_SMALL_PASS)
        both = f"`distill: {{gradient_checkpointing: true, pass_tokens: {_SMALL_PASS}}}`"
        less[both] = training(tokens=_SMALL_PASS, recomputed=True)
    dtype = distill.dtype or student.dtype
    yield _Use(
        "training",
        student.model,
        student.revision,
        student.device,
        dtype,
        training(),
        student.parameters,
        less,
        copied=True,
        stage="distill",
        cut=distill.method == "full",
    )


def _generation(positions: int) -> _Parts:
    """One response at least; how many are generated side by side is fitted to what is free."""
    return lambda shape, dtype, device: {
        "keys and values": positions * footprint.cache(shape, dtype),
        "batch": positions * footprint.forward(shape, dtype),
    }


def _scoring(tokens: int | None) -> _Parts:
    return lambda shape, dtype, device: {
        "batch": (tokens or footprint.CPU_TOKENS) * footprint.forward(shape, dtype)
    }


def _smaller(tokens: int | None) -> dict[str, _Parts]:
    """What takes less than batches of so many tokens, where they were set."""
    return {"no `batch_tokens`": _scoring(None)} if tokens else {}


def _training(method: str, rank: int, tokens: int | None, *, recomputed: bool) -> _Parts:
    def parts(shape: Shape, dtype: str, device: Device) -> dict[str, int]:
        count = shape.parameters if method == "full" else footprint.adapter(shape, rank)
        added = 0 if method == "full" else footprint.weights(count, dtype)
        batch = tokens or (TUNE_CPU_TOKENS if device.type == "cpu" else footprint.LEAST_TOKENS)
        packed = {"weights": footprint.weights_in_4_bits(shape, dtype)} if method == "qlora" else {}
        return {
            **packed,
            "gradients and optimizer": added + footprint.trained(count, dtype),
            "batch": batch * footprint.backward(shape, dtype, recomputed=recomputed),
        }

    return parts


def _cut(parts: _Parts, places: Sequence[str]) -> _Parts:
    """The same where each of the places, which are of one kind, has a part of the student."""

    def of_each(shape: Shape, dtype: str, device: Device) -> Mapping[str, int]:
        whole = parts(shape, dtype, device)
        if device.type != places[0].partition(":")[0]:
            return whole
        return {**whole, **footprint.sharded(shape, dtype, len(places))}

    return of_each


def _need(use: _Use, machine: Machine) -> Need | None:
    dtype = "float32" if use.dtype in (None, AUTO) else str(use.dtype)
    try:
        device, copies = _fullest(use, machine)
    except ModelError:
        return None
    try:
        shape = footprint.of_files(use.ref, use.revision)
    except ModelError:
        shape = None
    if shape is None:
        parts = {} if use.parameters is None else _weights(use.parameters, dtype, device)
        return Need(
            use.about, dtype, str(device), use.parameters, parts, device.free, copies=copies, cut=use.cut
        )

    def all_parts(dtype: str, device: Device, more: _Parts) -> dict[str, int]:
        return {**_weights(shape.parameters, dtype, device), **more(shape, dtype, device)}

    parts, would = all_parts(dtype, device, use.parts), []
    if sum(parts.values()) > device.free:
        tried: list[tuple[str, str, Device, _Parts]] = []
        if dtype == "float32" and device.bfloat16:
            tried.append(("`dtype: bfloat16`", "bfloat16", device, use.parts))
        tried += [(words, dtype, device, less) for words, less in use.instead.items()]
        if device.type == "cuda":
            tried.append(("`device: cpu`", dtype, machine.cpu, use.parts))
        would = _fitting(tried, all_parts)
    return Need(
        use.about, dtype, str(device), shape.parameters, parts, device.free, tuple(would), copies, use.cut
    )


def _fullest(use: _Use, machine: Machine) -> tuple[Device, int]:
    """(the device with the least memory for it, how many have a copy of it)."""
    if not use.copied:
        return machine.device(use.device or AUTO), 1
    places = [machine.device(name) for name in machine.places(use.device)]
    shared = [replace(one, free=one.free // places.count(one)) for one in places]
    return min(shared, key=lambda one: one.free), len(places)


def _fitting(
    tried: Sequence[tuple[str, str, Device, _Parts]],
    parts: Callable[[str, Device, _Parts], Mapping[str, int]],
) -> list[str]:
    return [
        words
        for words, dtype, device, less in tried
        if sum(parts(dtype, device, less).values()) <= device.free
    ]


def _weights(parameters: float, dtype: str, device: Device) -> dict[str, int]:
    found = {"weights": footprint.weights(parameters, dtype)}
    return {**found, "CUDA": _OF_CUDA} if device.type == "cuda" else found


def _gb(count: float) -> str:
    """Bytes as `15.2 GB`."""
    return f"{count / 1e9:,.1f} GB" if count >= 1e8 else f"{count / 1e6:,.1f} MB"


def _count(parameters: float) -> str:
    """`7.6B`, `135M`, `0.2M` weights."""
    if parameters >= 1e9:
        return f"{parameters / 1e9:.1f}B"
    return f"{parameters / 1e6:.0f}M" if parameters >= 1e7 else f"{parameters / 1e6:.1f}M"
