"""What a kind of teacher, scorer, source or verifier says of itself: one frozen record, `KIND`, in the kind's own file.

Code outside that file asks the record what a kind can do and never compares its name, so a new kind is one new file.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

from engine.base.errors import ConfigError
from engine.base.plugins import SCORERS, SOURCES, TEACHERS, VERIFIERS, Group
from engine.config.paths import RunFolder
from engine.config.section import Section
from storage.records import Model, Prompt

Located = Callable[[Mapping[str, Any], RunFolder], Mapping[str, Any]]
"""From a kind's settings and where the run file lies: the settings that change, with every local path absolute."""
Settings = Mapping[str, Any]

_Kind = TypeVar("_Kind")


@dataclass(frozen=True, slots=True, kw_only=True)
class TeacherKind:
    """What a kind of teacher is and can do."""

    settings: type[Section] = Section
    """The run file's keys that only some kinds have: those that a teacher of this kind may have."""
    about: Mapping[str, str] = field(default_factory=dict)
    """What the app's form says of a key that all kinds have, where the schema's words do not fit this kind."""
    located: Located = lambda settings, folder: {}
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
    as_files: Callable[[Model], Model] = lambda model: model
    """The model as `backend: transformers` reads it, for its tokenizer and template. Of kinds with local files."""
    impatient: Callable[[Model], Model] = lambda model: model
    """The model for a try by hand: a server that fails or asks to wait is given up within seconds. Of remote kinds."""
    ready: Callable[[Model], str] | None = None
    """What the model will run with, in words; raises NotAvailable where this machine has no such thing, and ConfigError
    where it could not give one response."""
    notes: Callable[[Model], Sequence[str]] = lambda model: ()
    """What a person should know of the model before a run, a line each."""

    @property
    def served(self) -> bool:
        """Whether each response comes from a server by itself when it is ready: paid for, or seconds of work."""
        return self.remote or self.starts_server


@dataclass(frozen=True, slots=True, kw_only=True)
class ScorerKind:
    """What a kind of scorer is and can do."""

    settings: type[Section] = Section
    """The keys of the run file that a scorer of this kind may have beside `scorer` and `weight`."""
    located: Located = lambda settings, folder: {}
    """Applied to the settings above when a run file is read."""
    costs: bool = False
    """A score may cost dollars and says how many in `detail`, as `cost`; the scorer is `Asking`."""
    compares: Callable[[Settings], bool] = lambda settings: False
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


@dataclass(frozen=True, slots=True, kw_only=True)
class SourceKind:
    """What a kind of prompt source is and can do. Each function takes a source: an instance of `settings`."""

    settings: type[Section]
    """The keys of the run file that such a source may have, a subclass of `engine.config.sources.SourceConfig`. One
    without the key `verifier` gives its prompts verifiers of its own, or none."""
    prompts: Callable[[Any], Iterator[tuple[str, Prompt]]]
    """Yields (where it stands, prompt), in the same order each time. Raises ConfigError when there is nothing to read,
    or for a malformed row, with its place."""
    located: Located = lambda settings, folder: {}
    """Applied to the settings above when a run file is read."""
    identity: Callable[[Any], Mapping[str, Any]] = lambda source: source.model_dump(mode="json")
    """Everything that decides which prompts it yields, as JSON: the contents of files rather than their places."""
    count: Callable[[Any], int | None] = lambda source: None
    """How many prompts there are on this machine, quickly and without a network; None: the run file's `size` says."""
    notes: Callable[[Any], Sequence[str]] = lambda source: ()
    """What a person should know of the source before a run, a line each."""
    rows_checked: int | None = 20
    """Prompts that are read before a run, to find malformed ones; None: as many as two seconds allow."""


@dataclass(frozen=True, slots=True, kw_only=True)
class VerifierKind:
    """A way to say whether a response is right. A changed rule needs another name: stored scores are kept by it."""

    verify: Callable[[Mapping[str, Any], Any, str], tuple[float, str] | tuple[float, str, str]]
    """(score, the answer that was read, and where, in words, if it says so) of what is stored with the prompt, its
    reference answer and the response's text; right is a score of 1. Raises UnverifiableError when nothing can be
    compared. Runs in a process of its own, under a time limit."""
    stored: Callable[[Any, Any, str], Mapping[str, Any]] | None = lambda answer, choices, at: {}
    """What is stored with a prompt, from its row's reference answer as text, its choices (None without any) and its
    place in the file; an `answer` in it is compared with in the reference's place. Raises ConfigError for a reference
    that nothing could match. None: not for a run file's `verifier`, only for a source that gives its prompts verifiers
    of its own."""
    takes_lists: bool = False
    """A list is one reference; else each of its members is an answer that is accepted."""
    takes_places: bool = False
    """`stored` gets a number as it is, and not as text: it is a place among the choices."""
    prepare: Callable[[], object] = lambda: None
    """Imports what `verify` needs, so that no response's time limit pays for it."""


def teacher_kind(name: str) -> TeacherKind:
    """What a kind of teacher declares; ConfigError where there is no such kind, or nothing is declared."""
    return _declared(TEACHERS, name, TeacherKind)


def scorer_kind(name: str) -> ScorerKind:
    """The same of a scorer."""
    return _declared(SCORERS, name, ScorerKind)


def source_kind(name: str) -> SourceKind:
    """The same of a prompt source."""
    return _declared(SOURCES, name, SourceKind)


def verifier_kind(name: str) -> VerifierKind:
    """The same of a verifier."""
    return _declared(VERIFIERS, name, VerifierKind)


def verifiers() -> tuple[str, ...]:
    """The names that the run file's `verifier` may have."""
    return tuple(name for name in VERIFIERS.usable() if verifier_kind(name).stored is not None)


def _declared(group: Group, name: str, record: type[_Kind]) -> _Kind:
    module = group.load(name)
    found = getattr(module, "KIND", None)
    if not isinstance(found, record):
        raise ConfigError(
            f"{group.word} {name!r}: {module.__name__} has no `KIND`",
            f"let it declare `KIND = {record.__name__}(…)` of {record.__module__}",
        )
    return found
