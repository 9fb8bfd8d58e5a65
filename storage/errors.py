"""The root of every error this project raises on purpose.

PersynError                 message + remedy + exit code
└── StoreError              the database refuses or cannot be used
    ├── StoreMissingError   there is no database where one is to be read
    ├── StoreVersionError   the database is newer than this program
    ├── StoreBusyError      another writer kept the lock beyond the bounded retries
    ├── StoreLostError      the database server went away in the middle
    ├── DiskFullError       no space left; the job pauses
    └── FencedError         another owner took the job; this one must stop writing

The engine's own branch of the tree is in `engine.base.errors`.
"""


class PersynError(Exception):
    """An error with a remedy.

    Args:
        message: what is wrong, naming the file, key or object.
        remedy: what the operator can do about it, as an instruction; empty when nothing can be said.
    """

    exit_code = 1

    def __init__(self, message: str, remedy: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.remedy = remedy

    def __str__(self) -> str:
        return f"{self.message}\n  → {self.remedy}" if self.remedy else self.message


class StoreError(PersynError):
    """The database refuses or cannot be used."""

    exit_code = 2


class StoreMissingError(StoreError):
    """There is no database where one is to be read."""


class StoreVersionError(StoreError):
    """The database was written by a newer version of this program."""


class StoreBusyError(StoreError):
    """Another writer kept the lock beyond the bounded retries."""

    exit_code = 3


class StoreLostError(StoreError):
    """The database server went away, and what was being done there is not done; it may be back by now."""

    exit_code = 3


class DiskFullError(StoreError):
    """No space is left on the device; what was committed is intact."""

    exit_code = 3


class FencedError(StoreError):
    """Another owner has claimed the job: writes of this one are refused."""

    exit_code = 3
