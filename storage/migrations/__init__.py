"""The schema's history: append-only revisions, each tested from the one before it."""

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Revisions:
    """An ordered history of revisions."""

    order: tuple[str, ...]
    """Revision ids, oldest first; the last one is what this program reads and writes."""
    folder: Path
    """Alembic's script folder, with `env.py` and `versions`."""

    @property
    def head(self) -> str:
        """The newest revision."""
        return self.order[-1]


SHIPPED = Revisions(order=("0001", "0002", "0003", "0004", "0005"), folder=Path(__file__).parent)
"""Known without importing Alembic, so that opening an up-to-date store costs one query."""
