"""The interface of a teacher's kind: a module that turns requests into responses.

A kind is the name of its file in `engine.teachers.kinds`, or of an entry point `persyn.teachers` of another package.
Its module offers

- `KIND`: what it is and can do, an `engine.config.kinds.TeacherKind`;
- `identity(model) -> dict`: everything of the kind that shapes a response, as JSON, without loading a model;
- `create(model) -> Backend`: the backend, ready to generate; a kind that starts a server also takes the folder for its
  log file;
- `check(model) -> ModelCheck`, where it reads the model's files on this machine: what they say, without torch.

Listing kinds imports nothing; using one imports exactly that one.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, Protocol, TypeVar, cast, runtime_checkable

from engine.base.plugins import TEACHERS
from engine.config import section
from engine.config.kinds import teacher_kind
from engine.config.section import Section
from engine.models.model_info import ModelCheck
from engine.teachers.traffic import Traffic
from storage.records import Model, Request, Response


class Backend(Protocol):
    """A model that gives responses."""

    def generate(self, requests: Iterable[Request]) -> Iterator[Response]:
        """One response per request, in any order, as they finish.

        Requests are read as they are needed, a bounded number ahead, so an endless stream may be given. What
        goes wrong with one request becomes its response's status; the others go on.

        Raises:
            PersynError: the model or the endpoint as a whole is unusable.
        """
        ...

    def close(self) -> None:
        """Free the model and its memory. Closing twice is allowed."""
        ...


@runtime_checkable
class Interruptible(Backend, Protocol):
    """A local backend that can be told to stop in the middle of a batch."""

    def interrupt(self) -> None:
        """Ends `generate` at its next token, without the answers it was at; from any thread."""
        ...


@runtime_checkable
class Observable(Interruptible, Protocol):
    """A local backend that tells of each of its forward passes: whole responses come late."""

    def observe(self, made: Callable[[int], None], should_stop: Callable[[], bool]) -> None:
        """From now on `made` is called after each pass, in the thread of `generate`, with the tokens that it made.

        `should_stop` is asked before each layer of a pass; True is an `interrupt`.
        """
        ...


@runtime_checkable
class Remote(Backend, Protocol):
    """A backend whose model runs in other processes, here or elsewhere; `close` ends it from any thread."""

    def traffic(self) -> Traffic:
        """Where its requests are."""
        ...


@runtime_checkable
class Draining(Remote, Protocol):
    """A backend whose requests may be billed once they are sent, so that it can be let end with what is in flight."""

    def drain(self) -> None:
        """Sends nothing more: `generate` ends once what is in flight has been answered. From any thread."""
        ...


@runtime_checkable
class Paced(Remote, Protocol):
    """A backend of which an operator may ask more or less at a time."""

    def pace(self, allowed: int, *, keep: bool) -> None:
        """From now on so many requests may be in flight, 1 at least and what its settings allow at most.

        Args:
            allowed: requests at all its servers together.
            keep: whether that is the most from now on; else the limit goes on to find its own way.
        """
        ...


@runtime_checkable
class Lasting(Remote, Protocol):
    """A backend with a server of its own, which may stay between two uses."""

    @property
    def warm(self) -> bool:
        """Whether the server is well, so that the next request needs no new start."""
        ...

    @property
    def gpus(self) -> frozenset[int]:
        """The GPUs that it is on; none: it is on the CPU."""
        ...


@runtime_checkable
class Metered(Backend, Protocol):
    """A backend whose server measures itself."""

    def gauges(self) -> Mapping[str, float]:
        """Its readings since the last call, by name; may be asked from any thread."""
        ...


class BackendModule(Protocol):
    """What a backend's file must offer."""

    def identity(self, model: Model) -> dict[str, Any]:
        """Everything of the backend that shapes a response, as JSON, without loading the model.

        Raises:
            ConfigError: an option is unknown or wrong, or what it names is not there.
            ModelError: the model cannot be used.
        """
        ...

    def create(self, model: Model) -> Backend:
        """The backend, ready to generate. Raises as `identity` does, and NotAvailable for what is not installed."""
        ...


class ServingModule(Protocol):
    """What the file of a backend that starts a server offers instead."""

    def create(self, model: Model, folder: Path | None = None) -> Backend:
        """The backend; its server is started with the first request, its log file is in `folder`."""
        ...


_Settings = TypeVar("_Settings", bound=Section)


def load(kind: str) -> BackendModule:
    """The module of one kind.

    Raises:
        ConfigError: an unknown kind, with the nearest known one.
    """
    return cast(BackendModule, TEACHERS.load(kind))


def options(model: Model, settings: type[_Settings]) -> _Settings:
    """The model's options as the settings of its kind.

    Raises:
        ConfigError: an unknown option, with the nearest known one, or a wrong one.
    """
    whose = f"model {model.name!r}: backend {model.backend!r}"
    return section.checked(settings, model.options, whose, "option", "mend it in the run file")


def files(model: Model) -> ModelCheck | None:
    """What the model's files say, its options checked as well, without torch; None where it is not read here.

    Raises:
        ConfigError: an option is wrong, or the files cannot be used.
    """
    check = getattr(load(model.backend), "check", None)
    return None if check is None else cast(ModelCheck, check(model))


def open_backend(model: Model, folder: Path | None = None) -> Backend:
    """The backend of a model, ready to generate.

    Args:
        model: of any kind.
        folder: where a server that it starts keeps its log file; None: with the temporary files.

    Raises:
        ConfigError: unknown or missing kind, unusable model; see `load`.
    """
    module = load(model.backend)
    if teacher_kind(model.backend).starts_server:
        return cast(ServingModule, module).create(model, folder)
    return module.create(model)


def identity(model: Model) -> dict[str, Any]:
    """Everything of the backend that shapes this model's answers, as JSON: weights, template, number format.

    The system prompt and the sampling come on top: they travel with each request.
    """
    return load(model.backend).identity(model)
