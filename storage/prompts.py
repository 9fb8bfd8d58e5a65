"""Prompts and prompt sets. A prompt is stored once, whichever sets it is in."""

import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from sqlalchemy import func, select, text

from storage.errors import StoreError
from storage.hashing import sha
from storage.job_records import Lease
from storage.records import Prompt, PromptSet, Split
from storage.rows import PROMPT, Columns, chunks, prompt_page
from storage.schema import MemberRow, PromptRow, PromptSetRow
from storage.store import Store

_SET = Columns(PromptSet, PromptSetRow)


def prompt_sha(prompt: Prompt) -> str:
    """The hash that makes two prompts the same: messages, reference answer and verifier."""
    return sha(_content(prompt))


def _content(prompt: Prompt) -> dict[str, Any]:
    messages = [dict(message) for message in prompt.messages]
    verifier = None if prompt.verifier is None else dict(prompt.verifier)
    return {"messages": messages, "answer": prompt.answer, "verifier": verifier}


def find_set(store: Store, spec_sha: str) -> PromptSet | None:
    """The prompt set of this specification, or None."""
    return _SET.find(store, spec_sha)


def open_set(store: Store, spec_sha: str, name: str) -> PromptSet:
    """The prompt set of this specification, made empty and incomplete when there is none."""
    return _SET.open(store, None, spec_sha, name=name, complete=False, counts={}, created_at=time.time())


def add(store: Store, lease: Lease | None, set_id: int, prompts: Sequence[Prompt], first_ordinal: int) -> int:
    """How many prompts became new members of the set, in one transaction.

    Prompts that are already members are left as they are, so a source may be read again after a kill.

    Args:
        set_id: the set, not yet complete.
        prompts: prompts with their `split` set; at most a few thousand.
        first_ordinal: place of the first one; the others follow it.

    Raises:
        StoreError: a prompt has no split, or its place in the set is taken by another prompt.
    """
    hashes = [prompt_sha(prompt) for prompt in prompts]
    rows = [
        {"sha": digest, **_content(prompt), "source": prompt.source}
        for digest, prompt in zip(hashes, prompts, strict=True)
    ]
    if any(prompt.split is None for prompt in prompts):
        raise StoreError(
            "a prompt without a split cannot join a prompt set", "Assign every prompt to a split first."
        )
    if not rows:
        return 0
    with store.write(lease) as connection:
        if not store.is_sqlite:
            # Two jobs that add the same prompts in another order would wait for each other.
            connection.execute(text("LOCK TABLE prompts IN SHARE ROW EXCLUSIVE MODE"))
        connection.execute(store.insert(PromptRow).on_conflict_do_nothing(index_elements=["sha"]), rows)
        ids: dict[str, int] = {}
        for part in chunks(dict.fromkeys(hashes)):
            found = connection.execute(select(PromptRow.sha, PromptRow.id).where(PromptRow.sha.in_(part)))
            ids.update((row.sha, row.id) for row in found)
        members = [
            {
                "prompt_set_id": set_id,
                "ordinal": first_ordinal + place,
                "prompt_id": ids[digest],
                "split": prompt.split,
            }
            for place, (digest, prompt) in enumerate(zip(hashes, prompts, strict=True))
        ]
        result = connection.execute(store.insert(MemberRow).on_conflict_do_nothing(), members)
        present = 0
        for identifiers in chunks(ids.values()):
            present += connection.execute(
                select(func.count())
                .select_from(MemberRow)
                .where(MemberRow.prompt_set_id == set_id, MemberRow.prompt_id.in_(identifiers))
            ).scalar_one()
        if present != len(ids):
            raise StoreError(
                f"prompt set {set_id} already holds other prompts at these places",
                "The source gave other prompts than when the set was begun: give it a seed, "
                "or change the set's specification so that a new set is made.",
            )
        return result.rowcount


def finish_set(store: Store, lease: Lease | None, set_id: int, counts: Mapping[str, Any]) -> None:
    """Mark the set complete, with what was counted while it was filled."""
    _SET.complete(store, lease, set_id, counts=dict(counts))


def page(
    store: Store, set_id: int, splits: Sequence[Split] | None = None, after: int = -1, limit: int = 500
) -> list[tuple[int, Prompt]]:
    """The next prompts of the set with their ordinals, in order of ordinal."""
    members = select(MemberRow).where(MemberRow.prompt_set_id == set_id)
    return prompt_page(store, members, splits, after, limit)


def iterate(
    store: Store, set_id: int, splits: Sequence[Split] | None = None, size: int = 500
) -> Iterator[Prompt]:
    """Every prompt of these splits in order of ordinal, reading `size` of them at a time."""
    after = -1
    while found := page(store, set_id, splits, after, size):
        for _, prompt in found:
            yield prompt
        after = found[-1][0]


def get(store: Store, ids: Iterable[int]) -> dict[int, Prompt]:
    """The prompts of these ids, without a split; unknown ids are left out."""
    found = (PROMPT.all(store, select(*PROMPT).where(PromptRow.id.in_(part))) for part in chunks(ids))
    return {prompt.id or 0: prompt for part in found for prompt in part}


def counts(store: Store, set_id: int) -> dict[str, int]:
    """How many prompts each split of the set has; splits without any are left out."""
    query = (
        select(MemberRow.split, func.count().label("prompts"))
        .where(MemberRow.prompt_set_id == set_id)
        .group_by(MemberRow.split)
    )
    return {row.split: row.prompts for row in store.rows(query)}


def splits_of(store: Store, prompt_id: int) -> list[str]:
    """The splits that a prompt is in, over all prompt sets."""
    query = (
        select(MemberRow.split)
        .where(MemberRow.prompt_set_id.in_(select(PromptSetRow.id)), MemberRow.prompt_id == prompt_id)
        .distinct()
        .order_by(MemberRow.split)
    )
    return store.scalars(query)
