"""One clock for leases: the database server's where there is one, else this machine's."""

import time
from typing import TYPE_CHECKING

from sqlalchemy import Float, cast, func, literal
from sqlalchemy.sql.elements import ColumnElement

if TYPE_CHECKING:
    from storage.store import Store


def now(store: "Store") -> ColumnElement[float]:
    """An SQL expression: seconds since the epoch, at the moment the statement runs."""
    if store.is_sqlite:
        return literal(time.time(), Float)
    return cast(func.extract("epoch", func.clock_timestamp()), Float)
