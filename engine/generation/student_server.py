"""The student's answers from a vLLM server of its own, given the token ids that transformers would give it.

The prompt is put into the chat template and tokenized here, the ids that end an answer are those of decoding here, and
so are the bounds of prompt and answer. What differs from transformers is the order of floating-point sums: where two
tokens are nearly equally likely, the other one may be chosen.
"""

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from engine.base import foreign_json
from engine.base.errors import ConfigError, EndpointError
from engine.config.vllm import LORA_RANKS, ServerConfig
from engine.models import adapters, model_info
from engine.models.loading import load_generation_config
from engine.teachers.kinds import transformers, vllm
from engine.teachers.local.encoding import Encoder
from engine.teachers.traffic import Traffic
from engine.teachers.vllm_server import command as _command
from engine.teachers.vllm_server.managed import ManagedBackend
from storage.records import Model, Request, Response

_ADAPTER = "-adapter"
"""Ends the name under which a server offers its model with the adapter."""


class StudentServer:
    """Answers requests; see `engine.teachers.teacher_kinds.Remote`.

    Args:
        student: as `backend: transformers` takes it, its `options` with an `adapter` where it has one.
        name: of the server, for its log file and messages.
        server: how it is started.
        folder: where its log file goes; None: a temporary one.

    Raises:
        NotAvailable: vLLM is not here.
        ModelError: the student's files cannot be used.
    """

    def __init__(self, student: Model, name: str, server: ServerConfig, folder: Path | None = None) -> None:
        self._name = name
        chosen = transformers.options(student)
        own = model_info.check(student.model, revision=student.revision, chat_template=False).context
        self._encoder = Encoder(
            transformers.tokenizer(student),
            chosen["thinking"],
            min(filter(None, (student.context, own)), default=None),
        )
        self._encoder.check(student.system)
        code = bool(chosen["trust_remote_code"])
        ends = self._encoder.ending_ids(load_generation_config(student.model, student.revision, code))
        self._ids: dict[int, Sequence[int]] = {}
        """Of the requests that are not answered, by key."""
        adapter = chosen["adapter"]
        more = _lora(name + _ADAPTER, adapter) if adapter else ()
        options = {
            "dtype": chosen["dtype"],
            "trust_remote_code": code,
            "endpoint": {"extra_body": {"stop_token_ids": sorted(ends)}},
            "server": server.model_copy(update={"args": (*more, *server.args)}).model_dump(),
        }
        model = replace(student, name=name, backend="vllm", options=options)
        self._managed = ManagedBackend(
            model,
            vllm.settings(model),
            _command.find(server.command),
            folder,
            token_ids=lambda request: self._ids[request.key],
            asked=name + _ADAPTER if adapter else "",
        )

    def generate(self, requests: Iterable[Request]) -> Iterator[Response]:
        """One response per request as they finish.

        Raises:
            EndpointError: the server cannot be started or asked, or has no answer to one of them.
        """
        unfit: list[Response] = []

        def fitting() -> Iterator[Request]:
            for request in requests:
                row = self._encoder.row(request)
                if isinstance(row, Response):
                    unfit.append(row)
                    continue
                self._ids[request.key] = row.prompt
                yield replace(request, sampling=replace(request.sampling, max_tokens=row.limit))

        for response in self._managed.generate(fitting()):
            if response.status in ("error", "too_long"):  # it was not heard, which is no wrong answer
                raise EndpointError(
                    f"the student's server `{self._name}` gave no answer: {response.error}",
                    "run the same command again, or set `evaluation: {backend: transformers}`",
                )
            del self._ids[response.key]
            yield response
            yield from _taken(unfit)
        yield from _taken(unfit)

    def close(self) -> None:
        """End the requests and the server; from any thread, and twice is allowed."""
        self._managed.close()

    def traffic(self) -> Traffic:
        """Requests in flight, and what is in their way; may be asked from any thread."""
        return self._managed.traffic()

    def gauges(self) -> Mapping[str, float]:
        """The server's own figures since the last call."""
        return self._managed.gauges()


def _taken(responses: list[Response]) -> list[Response]:
    taken = list(responses)
    responses.clear()
    return taken


def _lora(name: str, folder: str) -> tuple[str, ...]:
    """vLLM's arguments that add an adapter, offered under a name.

    Raises:
        ConfigError: vLLM takes none of its rank, or none on 4-bit weights.
    """
    if adapters.check(folder).quantization:
        raise ConfigError(
            f"adapter {folder!r} belongs to weights in 4 bits, which this vLLM server does not hold",
            "set `evaluation: {backend: transformers}`, or train it merged",
        )
    rank = foreign_json.read(Path(folder) / adapters.CONFIG)["r"].integer()
    return (
        "--enable-lora",
        "--max-lora-rank",
        str(next(most for most in LORA_RANKS if most >= rank)),
        "--lora-modules",
        json.dumps({"name": name, "path": folder}),
    )
