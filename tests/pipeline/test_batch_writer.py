"""When rows that have come are committed, on a clock of our own."""

import pytest

from engine.job.batch_writer import LOCAL_S, LOOK_S, ROWS, SERVED_S, BatchWriter
from storage.errors import StoreLostError


def test_a_row_that_comes_alone_is_committed_at_once_and_many_share_a_commit() -> None:
    now, commits = 100.0, list[list[int]]()
    writer = BatchWriter(commits.append, lambda: now)
    assert (writer.flush_if_due(), writer.left) == (False, LOOK_S)
    now += 1
    writer.add(1, SERVED_S)
    assert writer.flush_if_due()
    writer.add(2, SERVED_S)
    writer.add(3, SERVED_S)
    assert not writer.flush_if_due()
    assert writer.left == pytest.approx(SERVED_S)
    now += SERVED_S
    assert writer.flush_if_due()
    assert commits == [[1], [2, 3]]


def test_one_served_row_hurries_those_of_local_models_and_so_does_their_number() -> None:
    now, commits = 0.0, list[list[int]]()
    writer = BatchWriter(commits.append, lambda: now)
    writer.add(0, LOCAL_S)
    now = 0.1
    assert not writer.flush_if_due()
    writer.add(1, SERVED_S)
    assert writer.flush_if_due()
    for number in range(ROWS):
        assert not writer.flush_if_due()
        writer.add(number, LOCAL_S)
    assert writer.flush_if_due()
    assert commits == [[0, 1], list(range(ROWS))]


def test_rows_are_committed_again_where_the_database_server_went_away_but_not_for_ever() -> None:
    lost, commits = [2], list[list[int]]()

    def commit(rows: list[int]) -> None:
        if lost[0]:
            lost[0] -= 1
            raise StoreLostError("gone")
        commits.append(rows)

    writer = BatchWriter(commit)
    writer.add(1, SERVED_S)
    writer.flush()
    assert commits == [[1]]
    lost[0] = 100
    writer.add(2, SERVED_S)
    with pytest.raises(StoreLostError):
        writer.flush()


def test_a_flush_of_nothing_commits_nothing() -> None:
    commits = list[list[int]]()
    BatchWriter(commits.append).flush()
    assert commits == []
