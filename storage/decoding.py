"""Text of a broken or tampered SQLite file that is no UTF-8: read with U+FFFD in its place, instead of not at all.

The drivers decode text in C and refuse such a cell. A function of ours would decode it, and make reading rows of many
texts half as slow again. So it is asked only on a connection that has met one: there the query runs once more, past
the rows that it has given.
"""

import re
from collections.abc import Sequence
from functools import cache
from itertools import islice
from typing import Any

_READS = re.compile(r"\s*(SELECT|WITH)\b", re.IGNORECASE)


def _replacing(raw: bytes) -> str:
    return raw.decode("utf-8", "replace")


@cache
def lenient(driver: Any) -> type[Any]:
    """The driver's connection, whose cursors read any text."""
    refused: type[Exception] = driver.OperationalError
    one = driver.Cursor.fetchone

    class Cursor(driver.Cursor):  # type: ignore[misc]  # the driver is known when the program runs
        """Rows as the driver has them."""

        _query: tuple[str, Any] = "", ()
        _given = 0

        def execute(self, sql: str, parameters: Any = ()) -> Any:
            self._query, self._given = (sql, parameters), 0
            try:
                return super().execute(sql, parameters)
            except refused as problem:
                self._again(problem)
                return self

        def fetchone(self) -> Any:
            try:
                row = one(self)
            except refused as problem:
                self._again(problem)
                row = one(self)
            self._given += 1
            return row

        def fetchmany(self, size: int | None = None) -> Sequence[Any]:
            return self._take(self.arraysize if size is None else size)

        def fetchall(self) -> Sequence[Any]:
            return self._take(None)

        def _take(self, size: int | None) -> list[Any]:
            rows: list[Any] = []
            try:
                # Keeps what came before a failure.
                rows.extend(self if size is None else islice(self, size))
            except refused as problem:
                self._given += len(rows)
                self._again(problem)
                more = list(islice(self, None if size is None else size - len(rows)))
                self._given += len(more)
                return rows + more
            self._given += len(rows)
            return rows

        def _again(self, problem: Exception) -> None:
            """Runs the query once more where it met a text that is no UTF-8, up to the row that held it."""
            sql, parameters = self._query
            known = self.connection.text_factory is _replacing
            if known or "Could not decode to UTF-8" not in str(problem) or not _READS.match(sql):
                raise problem
            self.connection.text_factory = _replacing
            super().execute(sql, parameters)
            for _ in islice(self, self._given):
                pass

    class Connection(driver.Connection):  # type: ignore[misc]  # as above
        """A connection with such cursors."""

        def cursor(self, factory: type[Any] = Cursor) -> Any:
            return super().cursor(factory)

    return Connection
