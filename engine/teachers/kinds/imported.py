"""Answers that a model gave elsewhere, read from files; no model is loaded and nothing is generated.

The model's `model` is its name in the files. A prompt that it has no answer to is an error row: nothing is known
of the teacher there, and the pairs with it drop out.
"""

from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from typing import Any

from engine.base.errors import ConfigError
from engine.config.kinds import TeacherKind
from engine.config.paths import RunFolder
from engine.config.section import Section
from engine.config.sources import ImportedSource
from engine.sources import imported
from engine.teachers.response_status import failed, status
from storage.records import Model, Prompt, Request, Response

VERSION = 1
"""Raised when the same files would give other responses."""

_READ = ("prompt", "messages", "model", "response", "finish_reason")
"""Columns that decide what an answer is."""


class Settings(Section):
    """The run file's keys of such a teacher."""

    responses: tuple[ImportedSource, ...] = ()
    """Where its responses are; empty: in the run's own `imported` prompts."""


def _located(settings: Mapping[str, Any], folder: RunFolder) -> Mapping[str, Any]:
    named = tuple(
        source.model_copy(update={"path": folder.path(source.path)}) for source in settings["responses"]
    )
    return {"responses": named or folder.imported}


def _ready(model: Model) -> str:
    counted = None
    with suppress(ConfigError):  # a file that is damaged is told once, by the prompts that are read from it
        counted = _counted(model)
    if counted is None:
        return "its responses, which are not counted here"
    if not (there := sum(share.responses for share in counted)):
        without = sum(share.textless for share in counted)
        raise ConfigError(
            f"no response of {model.model!r} is in the imported files"
            + (f": none of its {without:,} rows has a text" if without else ""),
            "`model` of the teacher is its name in the files; look at the column that `fields: {response: …}` names",
        )
    return f"{there:,} responses"


def _notes(model: Model) -> list[str]:
    counted = _counted(model) or []
    unknown = [
        f"teacher {model.name}: {count:,} of its rows in {share.file} end with finish_reason {word!r}, which is not "
        f"known, and count as cut off; if they are whole, say `finish_reasons: {{{word}: stop}}` in the source"
        for share in counted
        for word, count in share.unknown_ends.most_common(5)
    ]
    return unknown + [
        f"teacher {model.name}: {share.textless:,} of its {share.responses + share.textless:,} rows in {share.file} "
        f"have no text, the first in line {share.first}: nothing is known of the teacher there"
        for share in counted
        if share.textless
    ]


def _counted(model: Model) -> list[imported.Share] | None:
    """What the files have of the model; None where some are too large to count."""
    counted: list[imported.Share] = []
    for source in imported.named(model.options, f"teacher {model.name!r}"):
        found = imported.shares(source, model.model)
        if found is None:
            return None
        counted += found
    return counted


KIND = TeacherKind(
    settings=Settings,
    about={"model": "Its name in the files.", "family": "Of the model that responded, e.g. qwen2."},
    located=_located,
    generates=False,
    ready=_ready,
    notes=_notes,
)


def identity(model: Model) -> dict[str, Any]:
    """Everything that shapes a response: the files' hashes, the columns read, and the name in them."""
    return {
        "backend": "imported",
        "version": VERSION,
        "model": model.model,
        "files": [
            [
                imported.hashes(source.path),
                {key: getattr(source.fields, key) for key in _READ} | _readings(source),
            ]
            for source in imported.named(model.options, f"teacher {model.name!r}")
        ],
    }


def _readings(source: ImportedSource) -> dict[str, Any]:
    """What of the source's settings says how a response is read; nothing where they are as they ever were."""
    return source.model_dump(mode="json", include={"finish_reasons", "reasoning_marks"})


def create(model: Model) -> "Imported":
    """The backend; files are read when something is asked for."""
    found = imported.named(model.options, f"teacher {model.name!r}")
    for source in found:
        imported.files(source.path)
    return Imported(model.model, found)


class Imported:
    """Answers requests out of files; see `engine.teachers.teacher_kinds.Backend`."""

    def __init__(self, name: str, found: list[ImportedSource]) -> None:
        self._name = name
        self._sources = found
        self._absent = set[int]()

    def generate(self, requests: Iterable[Request]) -> Iterator[Response]:
        """One response per request: the answers in one pass over the files, then what they do not have.

        All requests are read first, and 16 bytes of each are kept.
        """
        wanted: dict[bytes, Request] = {}
        known: list[Request] = []
        for request in requests:
            if request.key in self._absent:
                known.append(request)
            else:
                wanted[imported.prompt_key(Prompt(request.messages))] = request
        names = set[str]()
        for source in self._sources if wanted else ():
            for answer in imported.answers(source):
                names.add(answer.model)
                if answer.model != self._name:
                    continue
                asked = wanted.pop(imported.prompt_key(answer.prompt), None)
                if asked is not None:
                    yield _response(asked, answer)
        if wanted and self._name not in names:
            raise ConfigError(
                f"no row of the imported responses is of the model {self._name!r}",
                f"`model` of the teacher is its name in the files: {', '.join(sorted(names)[:20])}",
            )
        for request in (*known, *wanted.values()):
            self._absent.add(request.key)
            yield failed(request, "error", "the imported responses have no answer to this prompt")

    def close(self) -> None:
        """Nothing is held."""


def _response(request: Request, answer: imported.Answer) -> Response:
    return Response(
        key=request.key,
        text=answer.text,
        status=status(answer.text, answer.finish_reason),
        finish_reason=answer.finish_reason,
        prompt_tokens=0,
        completion_tokens=answer.completion_tokens,
        latency_s=0.0,
        reasoning=answer.reasoning,
        mark=answer.mark if answer.reasoning else "",
    )
