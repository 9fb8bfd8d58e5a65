"""Doctor's checks of a run file: each of its models is loaded and tried on a real prompt of the run."""

import tempfile
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import psutil
import torch

from engine.base.errors import PersynError
from engine.base.sanitize import strip_control
from engine.config.kinds import teacher_kind
from engine.config.run_file import Run
from engine.distill.data import mask_preview, tokenise
from engine.methods import strategy_kinds
from engine.models import loading
from engine.models.chat_template import encode, end_of_turn_ids, prompt_ids, render_prompt, with_system
from engine.registry import models
from engine.sources import source_kinds
from engine.teachers import teacher_kinds
from engine.teachers.kinds import transformers
from engine.tools import check_endpoint, check_judges
from engine.tools.findings import Finding, attempt
from engine.tools.probe import probe
from storage.records import Messages, Model, Prompt

RESPONSES = ("The answer is 42.", "\n\n42", " 42")
"""Tried at the boundary: plain, and starting with what tokenizers like to merge with the prompt's end."""

_FALLBACK = Prompt(messages=({"role": "user", "content": "What is 2 + 3?"},), answer="5")
_BYTES = {"float32": 4, "bfloat16": 2, "float16": 2}


def findings(run: Run) -> Iterator[Finding]:
    """Every check of the run's prompts and models; a model that several teachers share is loaded once each way."""
    prompt = _FALLBACK
    for source in run.prompts:
        about = f"prompts {source.source}"
        try:
            source_kinds.check(source)
            where, prompt = next(iter(source_kinds.read(source)))
        except PersynError as error:
            yield Finding(about, "failed", error.message, error.remedy)
        else:
            yield Finding(about, "ok", f"readable; first prompt {where}")
    student = models.student(run)
    for config in run.teachers:
        about = f"teacher {config.name}"
        teacher, kind = models.teacher(config, run.generation), teacher_kind(config.backend)
        if kind.openai_api:
            yield from check_endpoint.findings(about, teacher, prompt.messages)
        elif kind.local_files:
            yield from _model(about, teacher, prompt)
        elif kind.generates:
            yield attempt(f"{about}: one token", partial(_token, about, teacher, prompt.messages))
        else:
            yield attempt(about, partial(_responses, about, teacher))
    yield from _model(f"student {student.name}", student, prompt, run)
    yield from check_judges.findings(run, prompt, prompt.answer or RESPONSES[0])
    if strategy_kinds.routed(run.strategies):
        yield attempt("router backbone", partial(_backbone, run, prompt))


def _model(about: str, model: Model, prompt: Prompt, run: Run | None = None) -> Iterator[Finding]:
    """Every check of one model; `run` is given for the student, which is trained."""
    kind = teacher_kind(model.backend)
    read = kind.as_files(model)
    found = attempt(f"{about}: files", partial(_files, about, read))
    yield found
    if found.state == "failed":
        return
    asked = with_system(model.system, prompt.messages)
    yield attempt(f"{about}: tokenizer", partial(_tokenizer, about, read))
    template = attempt(f"{about}: template", partial(_template, about, read, asked))
    yield template
    if template.state == "failed":
        return
    yield attempt(f"{about}: boundary", partial(_boundary, about, read, asked))
    yield attempt(f"{about}: context", partial(_context, about, read, asked))
    if kind.ready is not None:
        label = f"{about}: {model.backend}"
        server = attempt(label, partial(_ready, label, kind.ready, model))
        yield server
        if server.state == "failed":
            return
    if kind.in_process:
        yield attempt(f"{about}: memory", partial(_memory, about, model, run))
    yield attempt(f"{about}: one token", partial(_token, about, model, prompt.messages))
    if run is not None:
        row = (asked, prompt.answer or RESPONSES[0])
        yield attempt(f"{about}: training mask", partial(_mask, about, model, row, run.distill.max_length))


def _responses(about: str, model: Model) -> Finding:
    files = teacher_kinds.identity(model).get("files", ())
    names = [name for hashes, _ in files for name in hashes]
    return Finding(about, "ok", f"answers of {model.model} are imported from {', '.join(names)}")


def _files(about: str, model: Model) -> Finding:
    found = transformers.check(model)
    if found.folder is None:
        message = f"{model.model} is at the hub and not on this machine"
        return Finding(f"{about}: files", "warning", message, "it is downloaded when it is first used")
    return Finding(
        f"{about}: files",
        "ok",
        f"{found.architecture}, {found.parameters or 0:,} parameters, in {Path(found.folder) / found.file}"
        + (f", with adapter {adapter}" if (adapter := model.options.get("adapter")) else ""),
    )


def _tokenizer(about: str, model: Model) -> Finding:
    tokenizer = transformers.tokenizer(model)
    special = {name: getattr(tokenizer, f"{name}_token") for name in ("bos", "eos", "pad")}
    text = f"{len(tokenizer):,} tokens; " + ", ".join(f"{name} {token!r}" for name, token in special.items())
    if special["eos"] is None:
        return Finding(f"{about}: tokenizer", "failed", text, "set `eos_token` in tokenizer_config.json")
    same = (
        "; pad is EOS: padding is masked by position, EOS keeps its loss"
        if special["pad"] == special["eos"]
        else ""
    )
    return Finding(f"{about}: tokenizer", "ok", text + same)


def _template(about: str, model: Model, asked: Messages) -> Finding:
    tokenizer = transformers.tokenizer(model)
    rendered = render_prompt(tokenizer, asked)
    shown = (
        strip_control(rendered)
        if len(rendered) <= 400
        else strip_control(f"{rendered[:300]} … {rendered[-100:]}")
    )
    ids = prompt_ids(tokenizer, asked)
    if tokenizer.bos_token_id is not None and ids[:2] == [tokenizer.bos_token_id] * 2:
        return Finding(
            f"{about}: template", "failed", f"BOS stands twice: {shown!r}", "take it out of the template"
        )
    if not end_of_turn_ids(tokenizer):
        return Finding(
            f"{about}: template",
            "warning",
            f"puts no special token after an answer: {shown!r}",
            "training appends EOS; a teacher must stop by EOS or by `sampling: {stop: [...]}`",
        )
    return Finding(f"{about}: template", "ok", repr(shown))


def _boundary(about: str, model: Model, asked: Messages) -> Finding:
    tokenizer = transformers.tokenizer(model)
    lengths = []
    for response in RESPONSES:
        encoded = encode(tokenizer, asked, response)
        lengths.append(len(encoded.ids) - encoded.boundary)
    counts = ", ".join(map(str, lengths))
    message = (
        f"the prompt's ids are a prefix of prompt + answer, for {len(RESPONSES)} answers ({counts} tokens)"
    )
    return Finding(f"{about}: boundary", "ok", message)


def _context(about: str, model: Model, asked: Messages) -> Finding:
    tokenizer = transformers.tokenizer(model)
    context = model.context or transformers.check(model).context
    prompt = len(prompt_ids(tokenizer, asked))
    needed = prompt + model.sampling.max_tokens
    text = f"{prompt:,} prompt tokens + {model.sampling.max_tokens:,} for the answer"
    if context is None:
        return Finding(
            f"{about}: context", "warning", f"{text}; the config names no context", "set `context`"
        )
    if needed > context:
        return Finding(
            f"{about}: context",
            "failed" if prompt >= context else "warning",
            f"{text} are more than its context of {context:,}",
            "lower `max_tokens` of generation or of the teacher's sampling; longer answers are cut",
        )
    return Finding(f"{about}: context", "ok", f"{text}, of {context:,}")


def _memory(about: str, model: Model, run: Run | None) -> Finding:
    parameters = model.parameters or transformers.check(model).parameters
    if parameters is None:
        return Finding(f"{about}: memory", "warning", "its size is not known", "set `parameters`")
    weights = parameters * _BYTES[model.options.get("dtype", "float32")]
    needed = weights
    text = f"weights {weights / 2**30:.2f} GiB"
    if run is not None and run.distill.method == "full":
        # Weights, gradient and Adam's two moments, all in float32.
        needed = parameters * 16
        text += f", {needed / 2**30:.2f} GiB while training in full, activations on top"
    device = loading.pick_device(model.options.get("device", "auto"))
    free = torch.cuda.mem_get_info()[0] if device.startswith("cuda") else psutil.virtual_memory().available
    text += f"; {free / 2**30:.2f} GiB free on {device}"
    if needed > free:
        return Finding(
            f"{about}: memory", "failed", text, "use a smaller model, `dtype: bfloat16`, or another device"
        )
    return Finding(f"{about}: memory", "ok", text)


def _ready(about: str, ready: Callable[[Model], str], model: Model) -> Finding:
    return Finding(about, "ok", ready(model))


def _token(about: str, model: Model, messages: Messages) -> Finding:
    found = probe(model, messages)
    return Finding(
        f"{about}: one token",
        "ok",
        f"{found.token!r} after {found.latency_s * 1000:,.0f} ms (loaded in {found.load_s:.1f} s)",
    )


def _mask(about: str, model: Model, row: tuple[Messages, str], max_length: int) -> Finding:
    tokenizer = transformers.tokenizer(model)
    with tempfile.TemporaryDirectory() as folder:
        rows = tokenise(tokenizer, [row], Path(folder), max_length)
        mask = tuple(mask_preview(tokenizer, rows[0]))
    trained = sum(flag for _, flag in mask)
    appended = "; EOS appended, the template has no end of turn" if rows.eos_appended else ""
    return Finding(
        f"{about}: training mask", "ok", f"loss on {trained} of {len(mask)} tokens{appended}", mask=mask
    )


def _backbone(run: Run, prompt: Prompt) -> Finding:
    from engine.router.backbone import load_backbone, pool

    config = run.router
    backbone = load_backbone(
        config.backbone, revision=config.revision, dtype=config.dtype, device=config.device
    )
    pooled = pool(backbone.model, [prompt_ids(backbone.tokenizer, prompt.messages)])
    return Finding(
        "router backbone",
        "ok",
        f"{config.backbone}: a prompt becomes {pooled.shape[1]} numbers, up to {backbone.max_tokens:,} tokens",
    )
