"""Words in responses and in their prompts.

The index is filled by `sync`, outside the write path: an index kept by triggers makes storing responses
forty times slower. SQLite uses FTS5 (words only, the text stays in `responses` and `prompts`); PostgreSQL
tables of tsvectors with a GIN index. Both fold case and match whole words without stemming.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from sqlalchemy import (
    CompoundSelect,
    Connection,
    Select,
    TableClause,
    bindparam,
    column,
    func,
    select,
    table,
    text,
    union,
)
from sqlalchemy.orm import InstrumentedAttribute

from storage import responses
from storage.errors import StoreError
from storage.schema import PromptRow, ResponseRow, SearchMarkRow, SearchQueueRow
from storage.store import Store
from storage.text import clean

_INDEXED_CHARACTERS = 200_000
"""PostgreSQL refuses a tsvector of more than a megabyte: of a longer text its beginning is searched."""

_WALKED_ROWS = 3000
"""How many of the newest rows are read one by one before all matches of a word are sorted."""

_SHOWN_CHARACTERS = 4000
"""Snippets are cut from this much of a response's beginning."""

_ANALYZED_ROWS = 5000
"""A fill of this size renews PostgreSQL's index and statistics at once instead of waiting for autovacuum."""


@dataclass(frozen=True, slots=True)
class _Index:
    """The word index of one table, and how it is filled on each database."""

    words: TableClause
    key: InstrumentedAttribute[int]
    """The id in the table that is indexed."""
    mark: InstrumentedAttribute[int]
    """Up to which id it is filled."""
    sqlite_text: str
    postgresql_text: str

    def fill(self, store: Store) -> str:
        """The SQL that indexes rows; what follows it says which."""
        source, words = self.key.class_.__tablename__, self.words.name
        if store.is_sqlite:
            return f"INSERT INTO {words} (rowid, text) SELECT id, {self.sqlite_text} FROM {source}"
        vector = f"to_tsvector('simple', left({self.postgresql_text}, {_INDEXED_CHARACTERS}))"
        return f"INSERT INTO {words} ({self.mark.key}, words) SELECT id, {vector} FROM {source}"


def _table(name: str, key: str) -> TableClause:
    return table(name, column("rowid"), column(name), column(key), column("words"))


_RESPONSES = _Index(
    _table("response_words", "response_id"), ResponseRow.id, SearchMarkRow.response_id, "text", "text"
)
_PROMPTS = _Index(
    _table("prompt_words", "prompt_id"),
    PromptRow.id,
    SearchMarkRow.prompt_id,
    "CASE WHEN json_valid(messages) THEN (SELECT group_concat(json_extract(value, '$.content'), char(10)) "
    "FROM json_each(messages)) ELSE messages END",
    "(SELECT string_agg(turn ->> 'content', chr(10)) FROM json_array_elements(messages) AS turns (turn))",
)


@dataclass(frozen=True, slots=True)
class Hit:
    """A response that holds the words, or whose prompt does."""

    response_id: int
    prompt_id: int
    teacher_id: int
    found_in: Literal["answer", "prompt"]
    """`answer`, the response itself, where both hold them."""
    snippet: str
    """That text around the first of the words, or its beginning when they come late; without marks."""


def matching(store: Store, words: str) -> CompoundSelect[Any]:
    """A query for the ids of responses that hold every word or whose prompt does, as far as both are indexed.

    Raises:
        StoreError: no word was given.
    """
    asked = select(ResponseRow.id).where(ResponseRow.prompt_id.in_(_holding(store, _PROMPTS, words)))
    return union(_holding(store, _RESPONSES, words), asked)


def _holding(store: Store, index: _Index, words: str) -> Select[Any]:
    """A query for the ids of indexed rows that hold every word."""
    # NUL ends a query string in FTS5 and is refused by PostgreSQL.
    words = clean(words.replace("\x00", " "))
    if not words.split():
        raise StoreError("there is nothing to search for", "Give one or more words.")
    if store.is_sqlite:
        # Every word a quoted string, so nothing in it is an operator.
        quoted = " ".join('"' + part.replace('"', '""') + '"' for part in words.split())
        match = index.words.c[index.words.name].op("MATCH")
        return select(index.words.c.rowid).where(match(bindparam("words", quoted, unique=True)))
    terms = func.plainto_tsquery(text("'simple'"), bindparam("words", words, unique=True))
    return select(index.words.c[index.mark.key]).where(index.words.c.words.op("@@")(terms))


def sync(store: Store, limit: int = 20_000) -> int:
    """How many responses and prompts were added to the word index; 0 when it is up to date.

    Args:
        limit: most of either to look at in one transaction, so that it stays short; call again until 0.

    Raises:
        StoreError: the index is not up to date, and the store may only be read.
    """
    if store.read_only:
        mark, last = reached(store)
        if mark < last:
            raise StoreError(
                f"the word index of {store.name} ends at answer {mark:,} of {last:,}, and the store may only be read",
                "search a copy of it: --store PATH",
            )
        return 0
    return _prompt_step(store, limit) + _response_step(store, limit)


def _response_step(store: Store, limit: int) -> int:
    """Index the next responses, at least one where one is missing."""
    bound = _bound(store, ResponseRow.id)
    while True:
        queued = store.scalars(select(SearchQueueRow.response_id).limit(1))
        if store.number(select(SearchMarkRow.response_id)) >= bound and not queued:
            return 0
        # A stretch that holds nothing but errors adds nothing: go on to the next.
        if added := _step(store, _RESPONSES, bound, limit):
            return added


def _prompt_step(store: Store, limit: int) -> int:
    """Index the next prompts."""
    marked = select(SearchMarkRow.prompt_id).scalar_subquery()
    if not store.scalars(select(PromptRow.id).where(PromptRow.id > marked).limit(1)):
        return 0
    return _step(store, _PROMPTS, _bound(store, PromptRow.id), limit)


def reached(store: Store) -> tuple[int, int]:
    """(the response id up to which the index is filled, the highest response id); prompts come before."""
    return store.number(select(SearchMarkRow.response_id)), responses.newest_id(store)


def _step(store: Store, index: _Index, bound: int, limit: int) -> int:
    """Index the next stretch of at most `limit` rows up to `bound`; of responses also those queued below the mark."""
    lock, again = ("", "") if store.is_sqlite else (" FOR UPDATE", " ON CONFLICT DO NOTHING")
    mark_column, key = index.mark.key, index.key
    fill = index.fill(store)
    with store.write() as connection:
        # Read inside the transaction: another program may have synced in between.
        marked = text(f"SELECT {mark_column} FROM search_marks WHERE id = 1{lock}")
        mark = connection.execute(marked).scalar_one()
        stretch = select(key).where(key > mark, key <= bound).order_by(key).limit(limit).subquery()
        until = connection.execute(select(func.max(stretch.c.id))).scalar()
        span = {"mark": mark, "until": mark if until is None else until}
        usable = " AND status <> 'error'" if index is _RESPONSES else ""
        stretched = text(f"{fill} WHERE id > :mark AND id <= :until{usable}{again}")
        added = connection.execute(stretched, span).rowcount
        if index is _RESPONSES:
            # A retry below the mark has not been indexed; one above it will be, or was just now, by its id.
            queued = "SELECT response_id FROM search_queue WHERE response_id <= :mark"
            added += connection.execute(text(f"{fill} WHERE id IN ({queued}){usable}{again}"), span).rowcount
            connection.execute(text("DELETE FROM search_queue WHERE response_id <= :until"), span)
        connection.execute(text(f"UPDATE search_marks SET {mark_column} = :until WHERE id = 1"), span)
        if not store.is_sqlite and added >= _ANALYZED_ROWS:
            # Otherwise every search reads the list of entries not yet merged into the index, and the planner
            # walks the key for a word that few responses hold, until autovacuum comes by.
            connection.execute(text(f"SELECT gin_clean_pending_list('ix_{index.words.name}_words')"))
            connection.execute(text(f"ANALYZE {index.words.name}"))
    return added


def _bound(store: Store, key: InstrumentedAttribute[int]) -> int:
    """The highest id, of a response or a prompt, below which no writer can still commit."""
    query = select(func.coalesce(func.max(key), 0))
    if store.is_sqlite:
        return store.number(query)
    with store.write() as connection:
        # Ids are drawn before commit: wait for the writers that have drawn some.
        connection.execute(text(f"LOCK TABLE {key.class_.__tablename__} IN SHARE ROW EXCLUSIVE MODE"))
        return int(connection.execute(query).scalar_one())


def search(store: Store, words: str, limit: int = 50, after: int | None = None) -> list[Hit]:
    """The newest responses that hold every word or whose prompt does, as far as both are indexed.

    Each word is taken literally, there are no operators. `after` is the `response_id` of the last hit seen.

    Raises:
        StoreError: no word was given.
    """
    with store.read() as connection:
        ids, holding = _both(store, connection, words, limit, after)
        rows = connection.execute(
            select(
                ResponseRow.id,
                ResponseRow.prompt_id,
                ResponseRow.teacher_id,
                func.substr(ResponseRow.text, 1, _SHOWN_CHARACTERS).label("text"),
                PromptRow.messages,
            )
            .join(PromptRow, PromptRow.id == ResponseRow.prompt_id)
            .where(ResponseRow.id.in_(ids))
            .order_by(ResponseRow.id.desc())
        ).all()
    hits = []
    for row in rows:
        own = row.id in holding
        body = row.text if own else "\n".join(turn["content"] for turn in row.messages)
        snippet = _snippet(body[:_SHOWN_CHARACTERS], words)
        hits.append(Hit(row.id, row.prompt_id, row.teacher_id, "answer" if own else "prompt", snippet))
    return hits


def newest_holding(store: Store, words: str, limit: int, after: int | None = None) -> Sequence[int]:
    """Ids of the responses that `search` finds, highest first."""
    with store.read() as connection:
        return _both(store, connection, words, limit, after)[0]


def _both(
    store: Store, connection: Connection, words: str, limit: int, after: int | None
) -> tuple[Sequence[int], set[int]]:
    """(ids of the newest matches, highest first; those of them that hold the words themselves)."""
    own = _newest(store, connection, words, limit, after)
    asked = _newest_asked(store, connection, words, limit, after)
    return sorted({*own, *asked}, reverse=True)[:limit], set(own)


def _newest(store: Store, connection: Connection, words: str, limit: int, after: int | None) -> Sequence[int]:
    """Ids of the newest responses that hold the words, highest first."""
    found = _holding(store, _RESPONSES, words)
    key = found.selected_columns[0]
    if store.is_sqlite:
        found = found if after is None else found.where(key < after)
        return connection.execute(found.order_by(key.desc()).limit(limit)).scalars().all()
    return _walked(connection, key, found, found, limit, after)


def _newest_asked(
    store: Store, connection: Connection, words: str, limit: int, after: int | None
) -> Sequence[int]:
    """Ids of the newest responses whose prompt holds the words, highest first."""
    prompts = _holding(store, _PROMPTS, words)
    # With + 0 the walk uses no index of prompts.
    walked = select(ResponseRow.id).where((ResponseRow.prompt_id + 0).in_(prompts))
    found = select(ResponseRow.id).where(ResponseRow.prompt_id.in_(prompts))
    return _walked(connection, ResponseRow.id, walked, found, limit, after)


def _walked(
    connection: Connection, key: Any, walked: Select[Any], found: Select[Any], limit: int, after: int | None
) -> Sequence[int]:
    """The highest ids that two forms of one query find: `walked` along the key, and `found` with a sort.

    A GIN index has no order, and the planner knows too little of words to choose between walking the key and
    sorting the matches. Walk a stretch of it: a common word fills the page there, a rare one is sorted.
    """
    stretch = select(key).order_by(key.desc()).offset(_WALKED_ROWS).limit(1)
    if after is not None:
        stretch, walked, found = (query.where(key < after) for query in (stretch, walked, found))
    floor = connection.execute(stretch).scalar()
    if floor is not None:
        ids = connection.execute(walked.where(key > floor).order_by(key.desc()).limit(limit)).scalars().all()
        if len(ids) == limit:
            return ids
    return connection.execute(found.order_by((key + 0).desc()).limit(limit)).scalars().all()


def _snippet(body: str, words: str, width: int = 160) -> str:
    folded = body.casefold()
    places = [place for part in words.split() if (place := folded.find(part.casefold())) >= 0]
    start = max(0, min(places, default=0) - width // 4)
    piece = body[start : start + width]
    return ("…" if start else "") + piece + ("…" if start + width < len(body) else "")
