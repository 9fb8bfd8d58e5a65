"""The backend of kind `transformers`: batches, statuses, texts.

Requests are read a window at a time, sorted by length, and answered in batches that fit a budget, the longest
first. A sampled answer depends on its prompt, its sampling and its seed, not on its batch: each row draws from
its own stream of random numbers. What remains is floating point: a matrix product of another size may round
differently and, where two tokens are nearly equally likely, choose the other one.

The model's generation_config gives the ids that end an answer and nothing else: sampling is the request's.
"""

import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from threading import Event
from typing import TYPE_CHECKING, Any

import psutil
import torch

from engine.models.batching import cut
from engine.models.loading import load_causal_lm
from engine.models.memory import halving, ran_out
from engine.models.model_info import context_length
from engine.models.reasoning import is_mark, said
from engine.teachers.local.decode import Answer, Row, StopTest, decode
from engine.teachers.local.encoding import Encoder
from engine.teachers.response_status import failed, status
from storage.records import Model, Request, Response, Sampling

if TYPE_CHECKING:
    from transformers import PreTrainedModel

WINDOW = 2048
"""Requests read ahead, to be sorted by length."""

MAX_ROWS = {"cpu": 128}
"""Rows in one batch at most, by type of device, beyond which a batch gains nothing (measured on zoo models)."""

_MAX_ROWS_ELSEWHERE = 512

_CPU_CACHE_BYTES = 2**30


@dataclass(frozen=True, slots=True)
class _Job:
    """A request that fits the model, with its prompt as token ids."""

    request: Request
    row: Row


class TransformersBackend:
    """Answers requests with one local model; see `engine.teachers.teacher_kinds.Backend`."""

    def __init__(self, model: Model, options: Mapping[str, Any]) -> None:
        self._model, self._tokenizer = load_causal_lm(
            model.model,
            dtype=options["dtype"],
            device=options["device"],
            revision=model.revision,
            trust_remote_code=options["trust_remote_code"],
            adapter=options["adapter"],
        )
        self._marks = options["reasoning_marks"]
        self._special_marks = {
            token
            for token, added in self._tokenizer.added_tokens_decoder.items()
            if added.special and is_mark(added.content, self._marks)
        }
        """Reasoning's marks that decoding would leave out with the other special tokens."""
        self._interrupted = Event()
        self._made: Callable[[int], None] = lambda tokens: None
        self._should_stop: Callable[[], bool] = lambda: False
        context = min(filter(None, (model.context, context_length(self._model))), default=None)
        self._encoder = Encoder(self._tokenizer, options["thinking"], context)
        self._ends = self._encoder.ending_ids(self._model.generation_config)
        self._budget = options["batch_tokens"] or _affordable_tokens(self._model)
        self._encoder.check(model.system)  # better to fail now than once per prompt

    def generate(self, requests: Iterable[Request]) -> Iterator[Response]:
        """One completion per request as they finish; see `engine.teachers.teacher_kinds.Backend`."""
        source = iter(requests)
        while window := list(islice(source, WINDOW)):
            jobs: dict[Sampling, list[_Job]] = {}
            for request in window:
                found = self._encoder.row(request)
                if isinstance(found, Response):
                    yield found
                else:
                    jobs.setdefault(replace(request.sampling, seed=0), []).append(_Job(request, found))
            for sampling, group in jobs.items():
                group.sort(key=lambda job: -len(job.row.prompt))
                most = MAX_ROWS.get(self._model.device.type, _MAX_ROWS_ELSEWHERE)
                while group:
                    # One at a time: the budget shrinks when memory runs out.
                    batch = next(cut(group, _positions, self._budget, most=most))
                    group = group[len(batch) :]
                    yield from self._answer(batch, sampling)
                    if self._interrupted.is_set():
                        return

    def interrupt(self) -> None:
        """Ends `generate` within a layer; see `engine.teachers.teacher_kinds.Interruptible`."""
        self._interrupted.set()

    def observe(self, made: Callable[[int], None], should_stop: Callable[[], bool]) -> None:
        """Tells `made` of each pass; see `engine.teachers.teacher_kinds.Observable`."""
        self._made, self._should_stop = made, should_stop

    def _stops(self) -> bool:
        if self._should_stop():
            self._interrupted.set()
        return self._interrupted.is_set()

    def close(self) -> None:
        """Let go of the model."""
        self._model = self._tokenizer = None  # type: ignore[assignment]
        if torch.cuda.is_available():
            torch.cuda.empty_cache()

    def _answer(self, jobs: list[_Job], sampling: Sampling) -> Iterator[Response]:
        """Responses of one batch; in halves when memory does not hold it."""

        def run(left: list[_Job]) -> Iterator[Response]:
            rows, begun = list(left), time.monotonic()
            stop = self._stop_test(sampling.stop)
            try:
                for answer in decode(
                    self._model,
                    [job.row for job in rows],
                    self._ends,
                    stop,
                    self._stops,
                    self._made,
                ):
                    left.remove(rows[answer.row])
                    yield self._response(rows[answer.row], answer, sampling, time.monotonic() - begun)
                return
            except (RuntimeError, MemoryError) as error:
                if not ran_out(error):
                    raise
                self._budget = max(1, self._budget // 2)
                if len(left) > 1:
                    raise
                reason = f"out of memory: {error}"
            yield failed(left[0].request, "error", reason)

        yield from halving(jobs, run)

    def _stop_test(self, stops: Sequence[str]) -> StopTest | None:
        """How to find the stop strings among generated ids; None when there are none."""
        if not stops:
            return None
        # A token holds at least one byte; a few more cover characters cut in two.
        span = max(len(stop.encode()) for stop in stops) + 4

        def hit(ids: list[int]) -> bool:
            text = self._decode(ids)
            return any(stop in text for stop in stops)

        return StopTest(span, hit)

    def _decode(self, ids: list[int], *, marks: bool = False) -> str:
        """The ids' text, without special tokens unless some of them are marks of reasoning."""
        return str(
            self._tokenizer.decode(ids, skip_special_tokens=not marks, clean_up_tokenization_spaces=False)
        )

    def _response(self, job: _Job, answer: Answer, sampling: Sampling, latency_s: float) -> Response:
        text = self._decode(answer.ids, marks=not self._special_marks.isdisjoint(answer.ids))
        starts = [text.find(stop) for stop in sampling.stop if stop in text]
        if starts:
            text = text[: min(starts)]
        found = said(text, self._marks)
        return Response(
            key=job.request.key,
            text=found.answer,
            status=status(found.answer, answer.finish_reason),
            finish_reason=answer.finish_reason,
            prompt_tokens=len(job.row.prompt),
            completion_tokens=len(answer.ids),
            latency_s=latency_s,
            reasoning=found.reasoning,
            mark=found.mark if found.reasoning else "",
        )


def _positions(job: _Job) -> int:
    """Token positions of keys and values that a request takes until its response is complete."""
    return len(job.row.prompt) + job.row.limit


def _affordable_tokens(model: "PreTrainedModel") -> int:
    """Token positions whose keys and values fit half of the free memory; on a CPU, at most 1 GiB.

    On a CPU too much is no error that could be caught: the system ends the process.
    """
    config = model.config.get_text_config(decoder=True)
    heads = getattr(config, "num_key_value_heads", None) or config.num_attention_heads
    width = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    position: int = 2 * config.num_hidden_layers * heads * width * model.dtype.itemsize
    memory = min(_CPU_CACHE_BYTES, psutil.virtual_memory().available // 2)
    if model.device.type == "cuda":
        memory = torch.cuda.mem_get_info(model.device)[0] // 2
    return max(1, memory // position)
