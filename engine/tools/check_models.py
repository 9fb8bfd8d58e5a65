"""Doctor's checks of a run file: each of its models is loaded and tried on a real prompt of the run."""

import tempfile
from collections.abc import Callable, Iterator
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path

from engine.base.errors import PersynError
from engine.base.sanitize import strip_control
from engine.config.kinds import teacher_kind
from engine.config.run_file import Run
from engine.distill.data import mask_preview, tokenise
from engine.methods import strategy_kinds
from engine.models import loading, quantization
from engine.models.chat_template import encode, end_of_turn_ids, prompt_ids, render_prompt, with_system
from engine.registry import models
from engine.report import memory
from engine.router.backbone import load_backbone, pool
from engine.sources import source_kinds
from engine.teachers import teacher_kinds
from engine.teachers.kinds import transformers
from engine.tools import check_endpoint, check_judges
from engine.tools.findings import Finding, check, failed, model_files, ok, warning
from engine.tools.probe import probe
from storage.records import Messages, Model, Prompt

RESPONSES = ("The answer is 42.", "\n\n42", " 42")
"""Tried at the boundary: plain, and starting with what tokenizers like to merge with the prompt's end."""

_FALLBACK = Prompt(messages=({"role": "user", "content": "What is 2 + 3?"},), answer="5")


def findings(run: Run) -> Iterator[Finding]:
    """Every check of the run's prompts and models; a model that several teachers share is loaded once each way."""
    prompt = _FALLBACK
    for source in run.prompts:
        try:
            source_kinds.check(source)
            where, prompt = next(iter(source_kinds.read(source)))
            found = ok(f"readable; first prompt {where}")
        except PersynError as error:
            found = failed(error.message, error.remedy)
        yield replace(found, about=f"prompts {source.source}")
        for note in source_kinds.notes(source):
            yield replace(warning(note, "leave it so if it is meant"), about=f"prompts {source.source}")
    for need in memory.of_run(run):
        found = ok(str(need)) if need.fits else failed(str(need), need.remedy)
        yield replace(found, about=f"{need.about}: memory")
    student = models.student(run)
    for config in run.teachers:
        about = f"teacher {config.name}"
        teacher, kind = models.teacher(config, run.generation), teacher_kind(config.backend)
        if kind.openai_api:
            yield from check_endpoint.findings(about, teacher, prompt.messages)
        elif kind.local_files:
            yield from _model(about, teacher, prompt)
        elif kind.generates:
            yield check(f"{about}: one token", _token, teacher, prompt.messages)
        else:
            yield check(about, _responses, teacher)
    yield from _model(f"student {student.name}", student, prompt, run)
    yield from check_judges.findings(run, prompt, prompt.answer or RESPONSES[0])
    if strategy_kinds.routed(run.strategies):
        yield check("router backbone", _backbone, run, prompt)


def _model(about: str, model: Model, prompt: Prompt, run: Run | None = None) -> Iterator[Finding]:
    """Every check of one model; `run` is given for the student, which is trained."""
    kind = teacher_kind(model.backend)
    read = kind.as_files(model)
    files = check(f"{about}: files", _files, read)
    yield files
    if not files.usable:
        return
    asked = with_system(model.system, prompt.messages)
    yield check(f"{about}: tokenizer", _tokenizer, read)
    template = check(f"{about}: template", _template, read, asked)
    yield template
    if not template.usable:
        return
    yield check(f"{about}: boundary", _boundary, read, asked)
    yield check(f"{about}: context", _context, read, asked)
    if kind.ready is not None:
        server = check(f"{about}: {model.backend}", _ready, kind.ready, model)
        yield server
        if not server.usable:
            return
    yield check(f"{about}: one token", _token, model, prompt.messages)
    if run is not None:
        row = (asked, prompt.answer or RESPONSES[0])
        yield check(f"{about}: training mask", _mask, model, row, run.distill.max_length)
        if run.distill.method == "qlora":
            yield check(f"{about}: 4 bits", _four_bit, model, run.distill.dtype)


def _responses(model: Model) -> Finding:
    files = teacher_kinds.identity(model).get("files", ())
    names = [name for hashes, _ in files for name in hashes]
    return ok(f"responses of {model.model} are imported from {', '.join(names)}")


def _files(model: Model) -> Finding:
    adapter = model.options.get("adapter")
    return model_files(transformers.check(model), f", with adapter {adapter}" if adapter else "")


def _tokenizer(model: Model) -> Finding:
    tokenizer = transformers.tokenizer(model)
    special = {name: getattr(tokenizer, f"{name}_token") for name in ("bos", "eos", "pad")}
    text = f"{len(tokenizer):,} tokens; " + ", ".join(f"{name} {token!r}" for name, token in special.items())
    if special["eos"] is None:
        return failed(text, "set `eos_token` in tokenizer_config.json")
    if special["pad"] == special["eos"]:
        text += "; pad is EOS: padding is masked by position, EOS keeps its loss"
    return ok(text)


def _template(model: Model, asked: Messages) -> Finding:
    tokenizer = transformers.tokenizer(model)
    rendered = render_prompt(tokenizer, asked)
    shown = strip_control(rendered if len(rendered) <= 400 else f"{rendered[:300]} … {rendered[-100:]}")
    ids = prompt_ids(tokenizer, asked)
    if tokenizer.bos_token_id is not None and ids[:2] == [tokenizer.bos_token_id] * 2:
        return failed(f"BOS stands twice: {shown!r}", "take it out of the template")
    if not end_of_turn_ids(tokenizer):
        return warning(
            f"puts no special token after a response: {shown!r}",
            "training appends EOS; a teacher must stop by EOS or by `sampling: {stop: [...]}`",
        )
    return ok(repr(shown))


def _boundary(model: Model, asked: Messages) -> Finding:
    tokenizer = transformers.tokenizer(model)
    tried = [encode(tokenizer, asked, response) for response in RESPONSES]
    counts = ", ".join(str(len(encoded.ids) - encoded.boundary) for encoded in tried)
    return ok(
        f"the prompt's ids are a prefix of prompt + response, for {len(tried)} responses ({counts} tokens)"
    )


def _context(model: Model, asked: Messages) -> Finding:
    tokenizer = transformers.tokenizer(model)
    context = model.context or transformers.check(model).context
    prompt = len(prompt_ids(tokenizer, asked))
    needed = prompt + model.sampling.max_tokens
    text = f"{prompt:,} prompt tokens + {model.sampling.max_tokens:,} for the response"
    if context is None:
        return warning(f"{text}; the config names no context", "set `context`")
    if needed > context:
        return (failed if prompt >= context else warning)(
            f"{text} are more than its context of {context:,}",
            "lower `max_tokens` of generation or of the teacher's sampling; longer responses are cut",
        )
    return ok(f"{text}, of {context:,}")


def _ready(ready: Callable[[Model], str], model: Model) -> Finding:
    return ok(ready(model))


def _token(model: Model, messages: Messages) -> Finding:
    found = probe(model, messages)
    return ok(
        f"{found.token!r} after {found.latency_s * 1000:,.0f} ms (loaded in {found.load_s:.1f} s)",
    )


def _four_bit(model: Model, dtype: str | None) -> Finding:
    dtype = dtype or model.options.get("dtype", "float32")
    device = model.options.get("device", "auto")
    student, _ = loading.load_causal_lm(model.model, dtype, device, model.revision, four_bit=True)
    return ok(
        f"bitsandbytes {version('bitsandbytes')}, on {student.device}, computed in {dtype}: its weights take "
        f"{quantization.weight_bytes(student) / 2**30:.2f} GiB while it is trained"
    )


def _mask(model: Model, row: tuple[Messages, str], max_length: int) -> Finding:
    tokenizer = transformers.tokenizer(model)
    with tempfile.TemporaryDirectory() as folder:
        rows = tokenise(tokenizer, [row], Path(folder), max_length)
        mask = tuple(mask_preview(tokenizer, rows[0]))
    trained = sum(flag for _, flag in mask)
    appended = "; EOS appended, the template has no end of turn" if rows.eos_appended else ""
    return replace(ok(f"loss on {trained} of {len(mask)} tokens{appended}"), mask=mask)


def _backbone(run: Run, prompt: Prompt) -> Finding:
    config = run.router
    backbone = load_backbone(
        config.backbone, revision=config.revision, dtype=config.dtype or "float32", device=config.device
    )
    pooled = pool(backbone.model, [prompt_ids(backbone.tokenizer, prompt.messages)])
    return ok(
        f"{config.backbone}: a prompt becomes {pooled.shape[1]} numbers, up to {backbone.max_tokens:,} tokens",
    )
