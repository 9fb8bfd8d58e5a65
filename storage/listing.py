"""The whole of a filtered, sorted result as response ids, and the lines to show for some of them.

A list of a million responses is held as ids, eight bytes each; what a line shows is
read by id when the line is looked at. No page ever needs an offset, and the place of every line is known.
"""

from array import array
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any, Literal, NamedTuple

from sqlalchemy import ColumnElement, Connection, Select, Text, case, cast, func, literal_column, select
from sqlalchemy.exc import OperationalError

from storage import scores
from storage.records import Split, Status
from storage.rows import chunks
from storage.schema import (
    DatasetRowRow,
    DatasetTable,
    MemberRow,
    ModelRow,
    PromptRow,
    PromptSetRow,
    ResponseRow,
    ScoreRow,
    ScorerRow,
)
from storage.search import matching, newest_holding
from storage.store import Store

Sort = Literal["id", "tokens", "quality", "learnability", "reward"]
SORTS: tuple[Sort, ...] = ("id", "tokens", "quality", "learnability", "reward")

FIRST = 256
"""Ids of the first chunk: enough for the first screen, so that it does not wait for the rest."""

CHUNK = 100_000

SHORT = 10_000
"""Characters of ids that are read without NumPy."""

SHOWN_CHARACTERS = 1200
"""How much of a prompt a line holds: prompts that begin alike differ later."""

SHOWN_OF_RESPONSE = 240


@dataclass(frozen=True, slots=True)
class Listing:
    """Which responses, in which order. A lower bound leaves out responses without that score."""

    teacher: str | None = None
    """Name of the teacher (all rows that share it)."""
    status: Status | None = None
    dataset_id: int | None = None
    prompt_set_id: int | None = None
    """Only responses to this set's prompts."""
    split: Split | None = None
    """Only responses to prompts of this split, of that set or of any."""
    words: str | None = None
    """Only responses that hold all these words or whose prompt does, as far as `search.sync` has indexed them."""
    quality: float | None = None
    learnability: float | None = None
    """Nats per token."""
    reward: float | None = None
    sort: Sort = "id"
    descending: bool = True

    @property
    def only_grows(self) -> bool:
        """Whether a new response only ever adds its id, and nothing that happens later changes the list."""
        scored = (self.quality, self.learnability, self.reward)
        return self.sort == "id" and self.dataset_id is None and self.words is None and set(scored) == {None}


@dataclass(frozen=True, slots=True)
class Card:
    """What a line shows of one response."""

    id: int
    prompt_id: int
    prompt: str
    """The beginning of its last turn."""
    text: str
    """The beginning of the response."""
    teacher: str
    tokens: int
    """Generated tokens."""
    status: Status
    finish_reason: str
    quality: float | None
    learnability: float | None
    """Nats per token."""
    reward: float | None
    """As the dataset in view has it; without one in view, as the newest that has one."""
    reward_dataset_id: int | None
    """The dataset that the reward is of."""
    dataset_id: int | None
    dataset: str
    """The dataset in view, else the newest that holds it; empty for none."""
    more_datasets: int
    """How many others hold it."""
    excluded: bool
    """Whether an operator took it out of that dataset."""


def stream(
    store: Store,
    listing: Listing,
    *,
    above: int = 0,
    upto: int | None = None,
    stop: Callable[[], bool] = lambda: False,
) -> Iterator["array[int]"]:
    """The ids of the result in its order, in chunks: a small first one, then `CHUNK` at a time.

    Of a sort or a search all the rest is one chunk.

    Args:
        listing: filters and order.
        above: only ids higher than this one.
        upto: no id higher than this one.
        stop: asked now and then, also while SQLite sorts; True ends the stream early.

    Raises:
        StoreError: `listing.words` holds no word.
    """
    if listing.sort != "id" or listing.words is not None:
        # A sort or a search costs the same for all as for the last: the best few first, then everything.
        if listing.words is not None and listing == Listing(words=listing.words) and not above:
            after = None if upto is None else upto + 1
            first = array("q", newest_holding(store, listing.words, FIRST, after))
        else:
            first = _read(store, listing, stop, above=above, upto=upto, limit=FIRST)
        if first or listing.words is None:
            yield first
        if len(first) == FIRST and not stop():
            yield _read(store, listing, stop, above=above, upto=upto)[FIRST:]
        return
    size = FIRST
    while not stop():
        part = _read(store, listing, stop, above=above, upto=upto, limit=size)
        if part:
            yield part
        if len(part) < size:
            return
        size = CHUNK
        if listing.descending:
            upto = part[-1] - 1
        else:
            above = part[-1]


def page(store: Store, listing: Listing, after_id: int = 0, limit: int = 50) -> "array[int]":
    """The next ids of the result in order of id, whatever `listing` sorts by.

    Raises:
        StoreError: `listing.words` holds no word.
    """
    key = _key(listing)
    query = _filtered(store, replace(listing, sort="id"), few=True).limit(limit)
    if after_id:
        query = query.where(key < after_id if listing.descending else key > after_id)
    return array("q", store.scalars(query))


def kept(store: Store, listing: Listing) -> "array[int]":
    """The ids of the rows of `listing.dataset_id` that pass and are not excluded, ascending.

    Bounds are on the scores that the dataset has.

    Raises:
        StoreError: `listing.words` holds no word.
    """
    others = replace(listing, sort="id", quality=None, learnability=None, reward=None)
    query = _filtered(store, others).where(DatasetRowRow.excluded.is_(False))
    for name in ("quality", "learnability", "reward"):
        if (least := getattr(listing, name)) is not None:
            query = query.where(getattr(DatasetRowRow, name) >= least)
    with store.read() as connection:
        return array("q", sorted(_ids(connection, query)))


def _read(
    store: Store,
    listing: Listing,
    stop: Callable[[], bool],
    *,
    above: int,
    upto: int | None,
    limit: int | None = None,
) -> "array[int]":
    """The first ids of the result, or all; none when `stop` ended it.

    The database writes them into one string: a million rows taken one by one keep the interpreter from
    everything else for seconds.
    """
    query = _filtered(store, listing).where(ResponseRow.id > above)
    if upto is not None:
        query = query.where(ResponseRow.id <= upto)
    with store.read() as connection, _interruptible(store, connection, stop):
        return _ids(connection, query.limit(limit))
    return array("q")


def _ids(connection: Connection, query: Select[Any]) -> "array[int]":
    """The ids that a query gives, in its order."""
    joined = select(func.aggregate_strings(cast(query.subquery().c.id, Text), ","))
    packed = connection.execute(joined).scalar() or ""
    if len(packed) < SHORT:
        return array("q", map(int, packed.split(",") if packed else ()))
    # Four times as fast, but its import takes longer than the first rows, which wait for this.
    import numpy as np

    return array("q", np.fromstring(packed, dtype=np.int64, sep=",").tobytes())


@contextmanager
def _interruptible(store: Store, connection: Connection, stop: Callable[[], bool]) -> Iterator[None]:
    """Lets `stop` end a statement that SQLite works on: a sort of a million rows is one long step."""
    driver: Any = connection.connection.dbapi_connection
    if store.is_sqlite:
        driver.set_progress_handler(stop, 200_000)
    try:
        yield
    except OperationalError:
        if not stop():
            raise
    finally:
        if store.is_sqlite:
            driver.set_progress_handler(None, 0)


def _key(listing: Listing) -> Any:
    """The column to page by: a dataset's own, whose index is in this order, or the responses'."""
    return ResponseRow.id if listing.dataset_id is None else DatasetRowRow.response_id


def _filtered(store: Store, listing: Listing, few: bool = False) -> Select[Any]:
    """Selects the ids; with `few`, so that the first of them cost little and all of them more."""
    query = select(ResponseRow.id)
    if listing.dataset_id is not None:
        query = query.join(DatasetRowRow, DatasetRowRow.response_id == ResponseRow.id).where(
            DatasetRowRow.dataset_id == listing.dataset_id
        )
    if listing.teacher is not None:
        ids = store.scalars(select(ModelRow.id).where(ModelRow.name == listing.teacher))
        query = query.where(ResponseRow.teacher_id.in_(ids))
    if listing.status is not None:
        if listing.status != "ok":  # so that the planner sees that the index of failures applies
            query = query.where(literal_column("responses.status") != literal_column("'ok'"))
        query = query.where(ResponseRow.status == listing.status)
    if listing.prompt_set_id is not None or listing.split is not None:
        # Every set is named: members are found by set and prompt, not by prompt alone.
        sets = select(PromptSetRow.id) if listing.prompt_set_id is None else [listing.prompt_set_id]
        members = select(MemberRow.prompt_id).where(MemberRow.prompt_set_id.in_(sets))
        if listing.split is not None:
            members = members.where(MemberRow.split == listing.split)
        member = members.where(MemberRow.prompt_id == ResponseRow.prompt_id).exists()
        query = query.where(member if few else ResponseRow.prompt_id.in_(members))
    if listing.words is not None:
        query = query.where(ResponseRow.id.in_(matching(store, listing.words)))
    sorted_by: Any = ResponseRow.completion_tokens if listing.sort == "tokens" else _key(listing)
    for name in ("quality", "learnability", "reward"):
        least = getattr(listing, name)
        if least is None and listing.sort != name:
            continue
        if name == "reward":
            query, value = _with_reward(query, listing.dataset_id)
        else:
            value = _score(store, name)
        if least is not None:
            query = query.where(value >= least)
        if listing.sort == name:
            sorted_by = value
    if listing.sort == "id":
        return query.order_by(sorted_by.desc() if listing.descending else sorted_by)
    direction = sorted_by.desc() if listing.descending else sorted_by.asc()
    return query.order_by(direction.nulls_last(), ResponseRow.id.desc())


def _score(store: Store, name: str) -> ColumnElement[Any]:
    """The newest scorer's value for a response: of the learnability scorers, or of the others."""
    kind = ScorerRow.kind == "learnability" if name == "learnability" else ScorerRow.kind != "learnability"
    ids = store.scalars(select(ScorerRow.id).where(kind))
    return (
        select(ScoreRow.value)
        .where(
            ScoreRow.response_id == ResponseRow.id, ScoreRow.scorer_id.in_(ids), ScoreRow.value.is_not(None)
        )
        .order_by(ScoreRow.scorer_id.desc())
        .limit(1)
        .scalar_subquery()
    )


def _with_reward(query: Select[Any], dataset_id: int | None) -> tuple[Select[Any], ColumnElement[Any]]:
    if dataset_id is not None:
        return query, DatasetRowRow.reward.expression
    place = func.row_number().over(
        partition_by=DatasetRowRow.response_id, order_by=DatasetRowRow.dataset_id.desc()
    )
    ranked = (
        select(DatasetRowRow.response_id, DatasetRowRow.reward, place.label("place"))
        .where(DatasetRowRow.reward.is_not(None))
        .subquery()
    )
    newest = select(ranked.c.response_id, ranked.c.reward).where(ranked.c.place == 1).subquery()
    return query.outerjoin(newest, newest.c.response_id == ResponseRow.id), newest.c.reward


class _Row(NamedTuple):
    """A response's row in a dataset."""

    dataset_id: int
    name: str
    reward: float | None
    excluded: bool


def cards(store: Store, ids: Sequence[int], dataset_id: int | None = None) -> dict[int, Card]:
    """What to show of these responses; unknown ids are left out.

    Args:
        ids: at most a few hundred.
        dataset_id: the dataset in view, whose reward and exclusion are shown.
    """
    if store.is_sqlite:
        whole = cast(PromptRow.messages, Text)
        turn = case(
            (func.json_valid(whole) == 1, func.json_extract(PromptRow.messages, "$[#-1].content")),
            else_=whole,
        )
    else:
        turn = PromptRow.messages[-1]["content"].as_string()
    found: dict[int, Card] = {}
    for part in chunks(ids):
        query = (
            select(
                ResponseRow.id,
                ResponseRow.prompt_id,
                func.coalesce(func.substr(turn, 1, SHOWN_CHARACTERS), "").label("prompt"),
                func.coalesce(func.substr(ResponseRow.text, 1, SHOWN_OF_RESPONSE), "").label("text"),
                ModelRow.name.label("teacher"),
                ResponseRow.completion_tokens.label("tokens"),
                ResponseRow.status,
                ResponseRow.finish_reason,
            )
            .join(PromptRow, PromptRow.id == ResponseRow.prompt_id)
            .join(ModelRow, ModelRow.id == ResponseRow.teacher_id)
            .where(ResponseRow.id.in_(part))
        )
        lines = store.rows(query)
        held = _held(store, {line.prompt_id for line in lines})
        values = scores.by_kind(store, part)
        for line in lines:
            scored = dict(values.get(line.id, {}))
            learnability = scored.pop("learnability", None)
            qualities = [value for value in scored.values() if value is not None]
            # Newest last, and the one in view after all others.
            rows = sorted(
                held.get(line.id, ()), key=lambda row: (row.dataset_id == dataset_id, row.dataset_id)
            )
            shown = rows[-1] if rows else None
            rewarded = _rewarded(rows, dataset_id)
            found[line.id] = Card(
                **line._mapping,
                quality=qualities[-1] if qualities else None,
                learnability=learnability,
                reward=rewarded.reward if rewarded else None,
                reward_dataset_id=rewarded.dataset_id if rewarded else None,
                dataset_id=shown.dataset_id if shown else None,
                dataset=shown.name if shown else "",
                more_datasets=max(0, len(rows) - 1),
                excluded=bool(shown and shown.excluded),
            )
    return found


def _held(store: Store, prompt_ids: Collection[int]) -> dict[int, list[_Row]]:
    """Response id → its dataset rows, of the responses to these prompts."""
    names = {row.id: row.name for row in store.rows(select(DatasetTable.id, DatasetTable.name))}
    query = select(
        DatasetRowRow.response_id, DatasetRowRow.dataset_id, DatasetRowRow.reward, DatasetRowRow.excluded
    ).where(
        # Both parts of the key as lists of values: SQLite then looks rows up instead of reading a dataset.
        DatasetRowRow.dataset_id.in_(list(names)),
        DatasetRowRow.prompt_id.in_(list(prompt_ids)),
    )
    found: dict[int, list[_Row]] = {}
    for row in store.rows(query):
        held = _Row(row.dataset_id, names[row.dataset_id], row.reward, row.excluded)
        found.setdefault(row.response_id, []).append(held)
    return found


def rewards(store: Store, ids: Sequence[int], dataset_id: int | None = None) -> dict[int, tuple[float, int]]:
    """Response id → (reward, the dataset that it is of), as in `cards`, of the responses that have one."""
    found: dict[int, tuple[float, int]] = {}
    for part in chunks(ids):
        query = select(ResponseRow.prompt_id).where(ResponseRow.id.in_(part)).distinct()
        held = _held(store, store.scalars(query))
        for response_id in part:
            row = _rewarded(held.get(response_id, ()), dataset_id)
            if row is not None and row.reward is not None:
                found[response_id] = row.reward, row.dataset_id
    return found


def _rewarded(rows: Iterable[_Row], dataset_id: int | None) -> _Row | None:
    """The row whose reward is shown: that of the dataset in view, else of the newest with a reward.

    Never another dataset's than the one in view: it may be on another scale, and rows are sorted by this one.
    """
    known = [row for row in rows if row.reward is not None and dataset_id in (None, row.dataset_id)]
    return max(known, key=lambda row: row.dataset_id, default=None)
