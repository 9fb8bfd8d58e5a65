"""What a kind of teacher or scorer says of itself: one frozen record, `KIND`, in the kind's own file.

Code outside that file asks the record what a kind can do and never compares its name, so a new kind is one new file.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar

from engine.base.errors import ConfigError
from engine.base.plugins import SCORERS, TEACHERS, Group
from engine.config.paths import RunFolder
from engine.config.section import Section
from storage.records import Model

Located = Callable[[Mapping[str, Any], RunFolder], Mapping[str, Any]]
"""From a kind's settings and where the run file lies: the settings that change, with every local path absolute."""
Settings = Mapping[str, Any]

_Kind = TypeVar("_Kind")


def _as_they_are(settings: Mapping[str, Any], folder: RunFolder) -> Mapping[str, Any]:
    return {}


def _same(model: Model) -> Model:
    return model


def _never(settings: Settings) -> bool:
    return False


@dataclass(frozen=True, slots=True, kw_only=True)
class TeacherKind:
    """What a kind of teacher is and can do."""

    settings: type[Section] = Section
    """The run file's keys that only some kinds have: those that a teacher of this kind may have."""
    about: Mapping[str, str] = field(default_factory=dict)
    """What the app's form says of a key that all kinds have, where the schema's words do not fit this kind."""
    located: Located = _as_they_are
    """Applied to the settings above and `model` when a run file is read."""
    remote: bool = False
    """Runs elsewhere: needs no room on this machine, so it is asked beside other teachers and not in turn."""
    starts_server: bool = False
    """The engine starts a server for it: `create` takes a folder for the log file as its second argument."""
    in_process: bool = False
    """The model is loaded into this process, on the setting `device`."""
    local_files: bool = False
    """`model` is a folder, a GGUF file, a hub id or `zoo:NAME`, and its files are read on this machine."""
    generates: bool = True
    """False: its responses are there already. They take no time, cost nothing, and no sampling setting or system
    prompt changes them."""
    openai_api: bool = False
    """Served at `base_url` by OpenAI's API, which also lists the models there."""
    as_files: Callable[[Model], Model] = _same
    """The model as `backend: transformers` reads it, for its tokenizer and template. Of kinds with local files."""
    impatient: Callable[[Model], Model] = _same
    """The model for a try by hand: a server that fails or asks to wait is given up within seconds. Of remote kinds."""
    ready: Callable[[Model], str] | None = None
    """What the model will run with, in words; raises NotAvailable where this machine has no such thing."""

    @property
    def served(self) -> bool:
        """Whether each response comes from a server by itself when it is ready: paid for, or seconds of work."""
        return self.remote or self.starts_server


@dataclass(frozen=True, slots=True, kw_only=True)
class ScorerKind:
    """What a kind of scorer is and can do."""

    settings: type[Section] = Section
    """The keys of the run file that a scorer of this kind may have beside `scorer` and `weight`."""
    located: Located = _as_they_are
    """Applied to the settings above when a run file is read."""
    costs: bool = False
    """A score may cost dollars and says how many in `detail`, as `cost`; the scorer is `Asking`."""
    compares: Callable[[Settings], bool] = _never
    """Whether, with these settings, a response's score depends on the other responses to its prompt."""
    reads_reasoning: bool = False
    """Reads a response as a person would, so that reasoning may be shown to it."""
    verifies: bool = False
    """Scores 1 for a right response and 0 for a wrong one, by the verifier of its prompt."""
    of_student: bool = False
    """Scores with the student: the other half of the reward, which cannot be a part of quality."""
    local_model: Callable[[Settings], tuple[str, str]] | None = None
    """(reference, revision) of the model that is loaded with these settings; None: none is."""
    endpoint: Callable[[Settings], Model] | None = None
    """The model that is asked with these settings, as a remote teacher's kind describes one; None: none is."""
    trial: Callable[[Settings], Settings] = dict
    """The settings for a try by hand, which scores one response within seconds."""


def teacher_kind(name: str) -> TeacherKind:
    """What a kind of teacher declares.

    Raises:
        ConfigError: there is no such kind, or it declares nothing.
    """
    return _declared(TEACHERS, name, TeacherKind)


def scorer_kind(name: str) -> ScorerKind:
    """What a kind of scorer declares.

    Raises:
        ConfigError: there is no such kind, or it declares nothing.
    """
    return _declared(SCORERS, name, ScorerKind)


def _declared(group: Group, name: str, record: type[_Kind]) -> _Kind:
    module = group.load(name)
    found = getattr(module, "KIND", None)
    if not isinstance(found, record):
        raise ConfigError(
            f"{group.word} {name!r}: {module.__name__} has no `KIND`",
            f"let it declare `KIND = {record.__name__}(…)` of {record.__module__}",
        )
    return found
