"""Words in responses.

The index is filled by `sync`, outside the write path: an index kept by triggers makes storing responses
forty times slower. SQLite uses FTS5 (words only, the text stays in `responses`); PostgreSQL a table of
tsvectors with a GIN index. Both fold case and match whole words without stemming.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, Select, bindparam, column, func, select, table, text

from storage.errors import StoreError
from storage.schema import ResponseRow, SearchMarkRow
from storage.store import Store
from storage.text import clean

_WORDS = table(
    "response_words", column("rowid"), column("response_words"), column("response_id"), column("words")
)

_INDEXED_CHARACTERS = 200_000
"""PostgreSQL refuses a tsvector of more than a megabyte: of a longer text its beginning is searched."""

_WALKED_ROWS = 3000
"""How many of the newest rows PostgreSQL reads one by one before it sorts all matches of a word."""

_SHOWN_CHARACTERS = 4000
"""Snippets are cut from this much of a response's beginning."""

_ANALYZED_ROWS = 5000
"""A fill of this size renews PostgreSQL's index and statistics at once instead of waiting for autovacuum."""


@dataclass(frozen=True, slots=True)
class Hit:
    """A response that holds the words."""

    response_id: int
    prompt_id: int
    teacher_id: int
    snippet: str
    """The text around the first of the words, or the beginning when they come late; without marks."""


def _quoted(words: str) -> str:
    """The words as an FTS5 query: every word a quoted string, so nothing in it is an operator."""
    parts = words.split()
    if not parts:
        raise StoreError("there is nothing to search for", "Give one or more words.")
    return " ".join('"' + part.replace('"', '""') + '"' for part in parts)


def matching(store: Store, words: str) -> Select[Any]:
    """A query for the ids of indexed responses that hold every word.

    Raises:
        StoreError: no word was given.
    """
    # NUL ends a query string in FTS5 and is refused by PostgreSQL.
    words = clean(words.replace("\x00", " "))
    quoted = _quoted(words)
    if store.is_sqlite:
        return select(_WORDS.c.rowid).where(_WORDS.c.response_words.op("MATCH")(bindparam("words", quoted)))
    terms = func.plainto_tsquery(text("'simple'"), bindparam("words", words))
    return select(_WORDS.c.response_id).where(_WORDS.c.words.op("@@")(terms))


def sync(store: Store, limit: int = 20_000) -> int:
    """How many responses were added to the word index; 0 when it is up to date.

    Args:
        store: an open store.
        limit: most responses to look at in one transaction, so that it stays short; call again until 0.
    """
    bound = _bound(store)
    while True:
        with store.read() as connection:
            mark = connection.execute(select(SearchMarkRow.response_id)).scalar_one()
            queued = connection.execute(text("SELECT 1 FROM search_queue LIMIT 1")).first()
        if mark >= bound and queued is None:
            return 0
        # A stretch that holds nothing but errors adds nothing: go on to the next.
        if added := _step(store, bound, limit):
            return added


def reached(store: Store) -> tuple[int, int]:
    """(the response id up to which the index is filled, the highest response id)."""
    with store.read() as connection:
        mark = connection.execute(select(SearchMarkRow.response_id)).scalar_one()
        last = connection.execute(select(func.coalesce(func.max(ResponseRow.id), 0))).scalar_one()
    return mark, last


def _step(store: Store, bound: int, limit: int) -> int:
    """Index the next stretch of at most `limit` responses up to `bound`, and what is queued below the mark."""
    if store.is_sqlite:
        lock, again = "", ""
        fill = "INSERT INTO response_words (rowid, text) SELECT id, text FROM responses"
    else:
        lock, again = " FOR UPDATE", " ON CONFLICT DO NOTHING"
        fill = (
            "INSERT INTO response_words (response_id, words) "
            f"SELECT id, to_tsvector('simple', left(text, {_INDEXED_CHARACTERS})) FROM responses"
        )
    with store.write() as connection:
        # Read inside the transaction: another program may have synced in between.
        mark = connection.execute(
            text(f"SELECT response_id FROM search_marks WHERE id = 1{lock}")
        ).scalar_one()
        stretch = (
            select(ResponseRow.id)
            .where(ResponseRow.id > mark, ResponseRow.id <= bound)
            .order_by(ResponseRow.id)
            .limit(limit)
            .subquery()
        )
        until = connection.execute(select(func.max(stretch.c.id))).scalar()
        span = {"mark": mark, "until": mark if until is None else until}
        added = connection.execute(
            text(f"{fill} WHERE id > :mark AND id <= :until AND status <> 'error'{again}"), span
        ).rowcount
        # A retry below the mark has not been indexed; one above it will be, or was just now, by its id.
        added += connection.execute(
            text(
                f"{fill} WHERE status <> 'error' AND id IN "
                f"(SELECT response_id FROM search_queue WHERE response_id <= :mark){again}"
            ),
            span,
        ).rowcount
        connection.execute(text("DELETE FROM search_queue WHERE response_id <= :until"), span)
        connection.execute(text("UPDATE search_marks SET response_id = :until WHERE id = 1"), span)
        if not store.is_sqlite and added >= _ANALYZED_ROWS:
            # Otherwise every search reads the list of entries not yet merged into the index, and the planner
            # walks the key for a word that few responses hold, until autovacuum comes by.
            connection.execute(text("SELECT gin_clean_pending_list('ix_response_words_words')"))
            connection.execute(text("ANALYZE response_words"))
    return added


def _bound(store: Store) -> int:
    """The highest response id below which no writer can still commit."""
    query = select(func.coalesce(func.max(ResponseRow.id), 0))
    if store.is_sqlite:
        with store.read() as connection:
            return int(connection.execute(query).scalar_one())
    with store.write() as connection:
        # Ids are drawn before commit: wait for the writers that have drawn some.
        connection.execute(text("LOCK TABLE responses IN SHARE ROW EXCLUSIVE MODE"))
        return int(connection.execute(query).scalar_one())


def search(store: Store, words: str, limit: int = 50, after: int | None = None) -> list[Hit]:
    """The newest indexed responses that hold every word.

    Args:
        store: an open store.
        words: words to find; each is taken literally, there are no operators.
        limit: how many at most.
        after: the `response_id` of the last hit already seen; None for the first page.

    Raises:
        StoreError: no word was given.
    """
    with store.read() as connection:
        ids = _newest(store, connection, words, limit, after)
        rows = connection.execute(
            select(
                ResponseRow.id,
                ResponseRow.prompt_id,
                ResponseRow.teacher_id,
                func.substr(ResponseRow.text, 1, _SHOWN_CHARACTERS),
            )
            .where(ResponseRow.id.in_(ids))
            .order_by(ResponseRow.id.desc())
        ).all()
    return [Hit(row[0], row[1], row[2], _snippet(row[3], words)) for row in rows]


def _newest(store: Store, connection: Connection, words: str, limit: int, after: int | None) -> Sequence[int]:
    """Ids of the newest matches, highest first."""
    found = matching(store, words)
    key = found.selected_columns[0]
    if after is not None:
        found = found.where(key < after)
    if store.is_sqlite:
        return connection.execute(found.order_by(key.desc()).limit(limit)).scalars().all()
    # A GIN index has no order, and the planner knows too little of words to choose between walking the key
    # and sorting the matches. Walk a stretch of it: a common word fills the page there, a rare one is sorted.
    stretch = select(key).order_by(key.desc()).offset(_WALKED_ROWS).limit(1)
    if after is not None:
        stretch = stretch.where(key < after)
    floor = connection.execute(stretch).scalar()
    if floor is not None:
        walked = found.where(key > floor).order_by(key.desc()).limit(limit)
        ids = connection.execute(walked).scalars().all()
        if len(ids) == limit:
            return ids
    return connection.execute(found.order_by((key + 0).desc()).limit(limit)).scalars().all()


def _snippet(body: str, words: str, width: int = 160) -> str:
    folded = body.casefold()
    places = [place for part in words.split() if (place := folded.find(part.casefold())) >= 0]
    start = max(0, min(places, default=0) - width // 4)
    piece = body[start : start + width]
    return ("…" if start else "") + piece + ("…" if start + width < len(body) else "")
