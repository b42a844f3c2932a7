"""Batches: what a transaction writes, all of it or nothing, in the order in which it comes."""

import sqlite3
import threading

import pytest
from faust.types import TP

from penstock.broker.embedded.file import SHIFT, connect
from penstock.broker.embedded.writer import (
    CHUNKS,
    KNOWN,
    Batch,
    Submission,
    Writer,
    chunked,
    read_end,
)

IDEA = TP("idea", 0)


@pytest.fixture
def db(tmp_path):
    opened = connect(tmp_path / "penstock.db")
    opened.execute("insert into topic values ('idea', 2)")
    opened.execute("insert into part (id, topic, part) values (1, 'idea', 0), (2, 'idea', 1)")
    yield opened
    opened.close()


@pytest.fixture
def writer(db):
    """A writer without its thread: jobs run on the caller's."""
    return Writer(db)


def batch_of(*records: tuple[int, bytes]) -> Batch:
    batch = Batch()
    batch.records = [(part, 0, b"k", value, None) for part, value in records]
    return batch


@pytest.mark.parametrize("count", [0, 1, 2, 7, 31, 32, 33, 128, 300])
def test_any_number_of_rows_is_written_whole_and_in_order(db, count):
    sqls = {n: f"insert into journal values {','.join(['(?,?)'] * n)}" for n in CHUNKS}
    chunked(db, sqls, [(f"{i:04}", b"x") for i in range(count)])
    rows = db.execute("select key from journal order by rowid").fetchall()
    assert rows == [(f"{i:04}",) for i in range(count)]


def test_records_get_the_next_offsets_of_their_partitions(writer, db):
    first, second = batch_of((1, b"a"), (2, b"b"), (1, b"c")), batch_of((1, b"d"), (2, b"e"))
    writer.write(first)
    writer.write(second)
    assert (first.offsets, second.offsets) == ([0, 0, 1], [2, 1])
    rows = db.execute("select id >> ?, id & ?, value from record", (SHIFT, (1 << SHIFT) - 1))
    assert sorted(rows) == [(1, 0, b"a"), (1, 1, b"c"), (1, 2, b"d"), (2, 0, b"b"), (2, 1, b"e")]


def test_an_empty_batch_is_nothing_and_one_with_a_waiter_is_something():
    assert not Batch()
    batch = Batch()
    batch.waiters.append((lambda _: None, -1))
    assert batch, "who waits for an empty batch would wait for ever"


def test_a_batch_that_fails_leaves_nothing_behind_and_can_be_written_again(writer, db):
    batch = batch_of((1, b"a"))
    batch.enter = {"s/e/c-0": b"answer"}
    batch.positions = [("reader", 1, 3, None)]  # type: ignore[list-item]
    with pytest.raises(sqlite3.IntegrityError):
        writer.write(batch)
    assert not db.in_transaction
    for table in ("record", "journal", "position"):
        assert db.execute(f"select count(*) from {table}").fetchone() == (0,)
    batch.positions = [("reader", 1, 3, b"")]
    writer.write(batch)
    assert batch.offsets == [0]
    assert db.execute("select * from position").fetchall() == [("reader", 1, 3, b"")]


def test_positions_are_what_they_are_when_the_batch_is_cut():
    from penstock.broker.embedded.positions import Position

    batch, position = Batch(), Position()
    batch.touched["reader", 1] = position
    position.finish(0)
    batch.cut()
    position.finish(1)
    assert batch.positions == [("reader", 1, 1, b"")]


def test_an_id_is_submitted_once_in_a_batch_and_ever(writer):
    def batch_of_ids(*ids: str) -> Batch:
        batch = Batch()
        for id_ in ids:
            batch.submissions.append(
                Submission(id_, "", False, (1, 0, b"k", id_.encode(), None), None)
            )
        return batch

    first, second = batch_of_ids("x", "y", "x"), batch_of_ids("y", "z")
    writer.write(first)
    writer.write(second)
    assert (first.submitted, second.submitted) == ([0, 1, KNOWN], [KNOWN, 2])
    assert read_end(writer.db, 1) == 3


def test_records_and_submissions_of_one_batch_do_not_share_an_offset(writer):
    batch = batch_of((1, b"a"), (1, b"b"))
    batch.submissions.append(Submission("x", "", False, (1, 0, b"k", b"x", None), None))
    writer.write(batch)
    assert (batch.offsets, batch.submitted) == ([0, 1], [2])


def test_a_floor_holds_the_offsets_of_records_that_are_gone(writer, db):
    writer.write(batch_of((1, b"a"), (1, b"b")))
    db.execute("update part set floor = 2 where id = 1")
    db.execute("delete from record")
    assert read_end(db, 1) == 2
    assert read_end(db, 2) == 0


def test_a_job_runs_in_a_transaction_of_its_own(writer, db):
    def bad(db_: sqlite3.Connection) -> None:
        db_.execute("insert into topic values ('draft', 1)")
        raise ValueError("no")

    with pytest.raises(ValueError, match="no"):
        writer.run(bad)
    assert not db.in_transaction
    assert db.execute("select name from topic").fetchall() == [("idea",)]
    assert writer.run(lambda db_: db_.execute("select 1 + 1").fetchone()) == (2,)


def test_another_process_that_is_writing_is_waited_for(writer, tmp_path):
    other = sqlite3.connect(tmp_path / "penstock.db", isolation_level=None, check_same_thread=False)
    other.execute("begin immediate")
    # Longer than one try of the connection waits.
    timer = threading.Timer(0.04, other.execute, ["commit"])
    timer.start()
    batch = batch_of((1, b"a"))
    writer.write_patiently(batch)
    timer.join()
    other.close()
    assert batch.offsets == [0]


def test_what_is_put_is_written_in_its_order_by_the_writers_thread(writer, db):
    writer.start()
    batches = [batch_of((1, str(i).encode())) for i in range(20)]
    committed: list[Batch] = []
    names: set[str] = set()

    def done(batch: Batch) -> None:
        committed.append(batch)
        names.add(threading.current_thread().name)

    for batch in batches:
        writer.put(batch, done, lambda error: None)
    writer.stop()
    assert committed == batches
    assert [batch.offsets for batch in batches] == [[i] for i in range(20)]
    assert names == {"penstock-writer"}


def fill_the_disk(db: sqlite3.Connection) -> None:
    """The file may not grow any more: SQLite refuses as it does when the disk is full."""
    (pages,) = db.execute("pragma page_count").fetchone()
    db.execute(f"pragma max_page_count = {pages}")


def free_the_disk(db: sqlite3.Connection) -> None:
    db.execute("pragma max_page_count = 1000000000")


def test_a_batch_that_does_not_fit_on_the_disk_is_tried_again_before_later_ones(writer, db):
    fill_the_disk(db)
    writer.retry_s = 0.002
    large, small = batch_of((1, b"x" * 100_000)), batch_of()
    small.positions = [("reader", 1, 7, b"")]
    called: list[str] = []
    refused = threading.Event()

    def stuck(error: sqlite3.Error | None) -> None:
        called.append(str(error))
        refused.set()

    writer.start()
    written = threading.Event()

    def done(batch: Batch) -> None:
        called.append("large" if batch is large else "small")
        if batch is small:
            written.set()

    writer.put(large, done, stuck)
    writer.put(small, done, stuck)
    assert refused.wait(10)
    with writer.connection_lock:
        assert db.execute("select count(*) from position").fetchone() == (0,)
        free_the_disk(db)
    assert written.wait(10)
    writer.stop()
    assert called == ["database or disk is full", "None", "large", "small"]
    assert not writer.gave_up
    assert (large.offsets, read_end(db, 1)) == ([0], 1)


def test_a_writer_that_stops_on_a_full_disk_writes_nothing_after_what_it_gave_up(writer, db):
    fill_the_disk(db)
    large, small = batch_of((1, b"x" * 100_000)), batch_of()
    small.positions = [("reader", 1, 7, b"")]
    committed: list[Batch] = []
    refused = threading.Event()
    writer.start()
    writer.put(large, committed.append, lambda error: refused.set())
    writer.put(small, committed.append, lambda error: None)
    assert refused.wait(10)
    writer.stop()
    assert writer.gave_up
    assert committed == []
    assert db.execute("select count(*) from position").fetchone() == (0,)
