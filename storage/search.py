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

from storage.errors import StoreError
from storage.schema import PromptRow, ResponseRow, SearchMarkRow
from storage.store import Store
from storage.text import clean

_WORDS = table(
    "response_words", column("rowid"), column("response_words"), column("response_id"), column("words")
)

_PROMPT_WORDS = table(
    "prompt_words", column("rowid"), column("prompt_words"), column("prompt_id"), column("words")
)

_INDEXED_CHARACTERS = 200_000
"""PostgreSQL refuses a tsvector of more than a megabyte: of a longer text its beginning is searched."""

_WALKED_ROWS = 3000
"""How many of the newest rows are read one by one before all matches of a word are sorted."""

_SHOWN_CHARACTERS = 4000
"""Snippets are cut from this much of a response's beginning."""

_ANALYZED_ROWS = 5000
"""A fill of this size renews PostgreSQL's index and statistics at once instead of waiting for autovacuum."""


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


def _quoted(words: str) -> str:
    """The words as an FTS5 query: every word a quoted string, so nothing in it is an operator."""
    parts = words.split()
    if not parts:
        raise StoreError("there is nothing to search for", "Give one or more words.")
    return " ".join('"' + part.replace('"', '""') + '"' for part in parts)


def matching(store: Store, words: str) -> CompoundSelect[Any]:
    """A query for the ids of responses that hold every word or whose prompt does, as far as both are indexed.

    Raises:
        StoreError: no word was given.
    """
    asked = select(ResponseRow.id).where(ResponseRow.prompt_id.in_(_prompts(store, words)))
    return union(_responses(store, words), asked)


def _responses(store: Store, words: str) -> Select[Any]:
    """A query for the ids of indexed responses that hold every word."""
    return _holding(store, _WORDS, "response", words)


def _prompts(store: Store, words: str) -> Select[Any]:
    """A query for the ids of indexed prompts that hold every word."""
    return _holding(store, _PROMPT_WORDS, "prompt", words)


def _holding(store: Store, index: TableClause, of: str, words: str) -> Select[Any]:
    # NUL ends a query string in FTS5 and is refused by PostgreSQL.
    words = clean(words.replace("\x00", " "))
    quoted = _quoted(words)
    if store.is_sqlite:
        match = index.c[f"{of}_words"].op("MATCH")
        return select(index.c.rowid).where(match(bindparam("words", quoted, unique=True)))
    terms = func.plainto_tsquery(text("'simple'"), bindparam("words", words, unique=True))
    return select(index.c[f"{of}_id"]).where(index.c.words.op("@@")(terms))


def sync(store: Store, limit: int = 20_000) -> int:
    """How many responses and prompts were added to the word index; 0 when it is up to date.

    Args:
        store: an open store.
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
        with store.read() as connection:
            mark = connection.execute(select(SearchMarkRow.response_id)).scalar_one()
            queued = connection.execute(text("SELECT 1 FROM search_queue LIMIT 1")).first()
        if mark >= bound and queued is None:
            return 0
        # A stretch that holds nothing but errors adds nothing: go on to the next.
        if added := _step(store, bound, limit):
            return added


def reached(store: Store) -> tuple[int, int]:
    """(the response id up to which the index is filled, the highest response id); prompts come before."""
    with store.read() as connection:
        mark = connection.execute(select(SearchMarkRow.response_id)).scalar_one()
        last = connection.execute(select(func.coalesce(func.max(ResponseRow.id), 0))).scalar_one()
    return mark, last


def _prompt_step(store: Store, limit: int) -> int:
    """Index the next stretch of at most `limit` prompts."""
    with store.read() as connection:
        mark = connection.execute(select(SearchMarkRow.prompt_id)).scalar_one()
        if connection.execute(select(func.max(PromptRow.id)).where(PromptRow.id > mark)).scalar() is None:
            return 0
    bound = _bound(store, PromptRow.id)
    if store.is_sqlite:
        lock = ""
        fill = (
            "INSERT INTO prompt_words (rowid, text) SELECT id, CASE WHEN json_valid(messages) THEN (SELECT "
            "group_concat(json_extract(value, '$.content'), char(10)) FROM json_each(messages)) ELSE messages END "
            "FROM prompts"
        )
    else:
        lock = " FOR UPDATE"
        fill = (
            "INSERT INTO prompt_words (prompt_id, words) SELECT id, to_tsvector('simple', left((SELECT "
            "string_agg(turn ->> 'content', chr(10)) FROM json_array_elements(messages) AS turns (turn)), "
            f"{_INDEXED_CHARACTERS})) FROM prompts"
        )
    with store.write() as connection:
        mark = connection.execute(text(f"SELECT prompt_id FROM search_marks WHERE id = 1{lock}")).scalar_one()
        stretch = (
            select(PromptRow.id)
            .where(PromptRow.id > mark, PromptRow.id <= bound)
            .order_by(PromptRow.id)
            .limit(limit)
            .subquery()
        )
        until = connection.execute(select(func.max(stretch.c.id))).scalar()
        span = {"mark": mark, "until": mark if until is None else until}
        added = connection.execute(text(f"{fill} WHERE id > :mark AND id <= :until"), span).rowcount
        connection.execute(text("UPDATE search_marks SET prompt_id = :until WHERE id = 1"), span)
        if not store.is_sqlite and added >= _ANALYZED_ROWS:
            connection.execute(text("SELECT gin_clean_pending_list('ix_prompt_words_words')"))
            connection.execute(text("ANALYZE prompt_words"))
    return added


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


def _bound(store: Store, key: InstrumentedAttribute[int]) -> int:
    """The highest id, of a response or a prompt, below which no writer can still commit."""
    query = select(func.coalesce(func.max(key), 0))
    if store.is_sqlite:
        with store.read() as connection:
            return int(connection.execute(query).scalar_one())
    with store.write() as connection:
        # Ids are drawn before commit: wait for the writers that have drawn some.
        connection.execute(text(f"LOCK TABLE {key.class_.__tablename__} IN SHARE ROW EXCLUSIVE MODE"))
        return int(connection.execute(query).scalar_one())


def search(store: Store, words: str, limit: int = 50, after: int | None = None) -> list[Hit]:
    """The newest responses that hold every word or whose prompt does, as far as both are indexed.

    Args:
        store: an open store.
        words: words to find; each is taken literally, there are no operators.
        limit: how many at most.
        after: the `response_id` of the last hit already seen; None for the first page.

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
    found = _responses(store, words)
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


def _newest_asked(
    store: Store, connection: Connection, words: str, limit: int, after: int | None
) -> Sequence[int]:
    """Ids of the newest responses whose prompt holds the words, highest first."""
    key = ResponseRow.id
    below = [] if after is None else [key < after]
    # As above: a word of most prompts fills the page from the newest rows, without an index of prompts.
    stretch = select(key).where(*below).order_by(key.desc()).offset(_WALKED_ROWS).limit(1)
    floor = connection.execute(stretch).scalar()
    if floor is not None:
        prompts = (ResponseRow.prompt_id + 0).in_(_prompts(store, words))
        walked = select(key).where(*below, key > floor, prompts).order_by(key.desc()).limit(limit)
        ids = connection.execute(walked).scalars().all()
        if len(ids) == limit:
            return ids
    found = select(key).where(*below, ResponseRow.prompt_id.in_(_prompts(store, words)))
    return connection.execute(found.order_by((key + 0).desc()).limit(limit)).scalars().all()


def _snippet(body: str, words: str, width: int = 160) -> str:
    folded = body.casefold()
    places = [place for part in words.split() if (place := folded.find(part.casefold())) >= 0]
    start = max(0, min(places, default=0) - width // 4)
    piece = body[start : start + width]
    return ("…" if start else "") + piece + ("…" if start + width < len(body) else "")
