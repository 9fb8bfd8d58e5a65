"""Every error the engine raises on purpose, as one tree.

PersynError (storage.errors)        message + remedy + exit code
├── StoreError                      see storage.errors
├── ConfigError          exit 2     the run file or a command's argument is wrong
│   ├── ModelError                  a model folder, name or template cannot be used
│   │   └── TemplateError           the chat template breaks the prompt/response boundary
│   ├── TeacherMismatch             a router is used with another set or order of teachers
│   └── NotAvailable                a known kind that this version or installation does not have
├── ScoreError           exit 3     a scorer produced NaN, infinity or no usable number
├── TrainingError        exit 3     training cannot go on (non-finite loss, no rows)
├── EndpointError        exit 3     no server of a teacher can be used
│   └── UselessReplies              a judge of which no reply can be read
├── BudgetSpent          exit 3     the run's budget is used up; the job pauses
├── NeedsAttention       exit 3     the job stopped with work undone that a person must look at
└── Cancelled            exit 130   the operator cancelled the job
"""

from typing import Self

from storage.errors import PersynError as PersynError


class ConfigError(PersynError):
    """The run file or a command's argument is wrong."""

    exit_code = 2


class ModelError(ConfigError):
    """A model folder, name or template cannot be used."""


class TemplateError(ModelError):
    """The chat template breaks the prompt/response boundary."""


class TeacherMismatch(ConfigError):
    """A router is used with another set or order of teachers than it was trained on."""


class NotAvailable(ConfigError):
    """A known kind that this version or this installation does not have."""


class ScoreError(PersynError):
    """A scorer produced NaN, infinity or no usable number."""

    exit_code = 3


class TrainingError(PersynError):
    """Training cannot go on: non-finite loss, or no rows."""

    exit_code = 3


class EndpointError(PersynError):
    """No server of a teacher can be used."""

    exit_code = 3


class UselessReplies(EndpointError):
    """A judge answers, and nothing of it can be read: what it has said is not read again."""


class BudgetSpent(PersynError):
    """The run's budget is used up; the job pauses."""

    exit_code = 3


class NeedsAttention(PersynError):
    """The job stopped with work undone that a person must look at."""

    exit_code = 3


class Cancelled(PersynError):
    """The operator cancelled the job."""

    exit_code = 130

    @classmethod
    def between_commits(cls) -> Self:
        """One that loses at most what was being computed."""
        return cls("cancelled; everything committed is kept", "run the same command again to go on")
