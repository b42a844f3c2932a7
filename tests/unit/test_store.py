"""The store: what becomes durable together, in which order, and who is told when."""

import asyncio
import logging
import pathlib
import time
from collections.abc import Callable, Coroutine

import pytest
from aiokafka.partitioner import DefaultPartitioner
from faust.types import TP

from app.broker.retention import delete_finished
from app.broker.store import CROWDED, Store, step_of
from app.errors import BrokerUnavailable, WorkerRunning
from tests.unit.conftest import Opener, Rows, until

IDEA, DRAFT = TP("idea", 0), TP("draft", 0)
STEP = "teller/event-1"

Body = Callable[[Store], Coroutine[object, object, None]]


@pytest.fixture
def store(open_store: Opener) -> Store:
    """A store with two topics of one partition, as a process that only submits has it."""
    opened = open_store()
    opened.create("idea", 1)
    opened.create("draft", 1)
    return opened


@pytest.fixture
def as_worker(store: Store) -> Callable[[Body], None]:
    """Runs a coroutine function on a loop on which the store is the worker's."""

    def run(body: Body) -> None:
        async def main() -> None:
            store.start(asyncio.get_running_loop())
            store.writer.retry_s = 0.002
            await body(store)
            await store.flush()

        asyncio.run(main())

    return run


def append(store: Store, tp: TP, *values: bytes) -> list[int]:
    """Appends `values`; their offsets, in a list that fills when they are durable."""
    offsets: list[int] = []
    for value in values:
        store.append(tp, 0, b"k", value, None, offsets.append)
    return offsets


def appended(store: Store, tp: TP, *values: bytes) -> list[int]:
    """The offsets of `values`, appended by a process that is not the worker."""
    offsets = append(store, tp, *values)
    store.commit_now()
    return offsets


def statements(store: Store) -> list[str]:
    """What the writer says to SQLite from now on."""
    said: list[str] = []
    store.writer.db.set_trace_callback(said.append)
    return said


# -- durability


def test_a_finished_step_is_one_transaction_that_others_see_whole(as_worker, rows):
    async def body(store: Store) -> None:
        append(store, IDEA, b"event")
        store.enter(f"{STEP}/call-0", b"recorded before", lambda _: None)
        await store.flush()
        seen = rows()
        said = statements(store)
        entered: list[int] = []
        outputs: list[int] = []
        store.enter("teller/event-2/call-0", b"recorded now", entered.append)
        store.finish(
            "teller", IDEA, 0, [(DRAFT, 0, b"k", b"one"), (DRAFT, 0, b"k", b"two")], STEP,
            outputs.extend,
        )  # fmt: skip
        append(store, IDEA, b"next event")
        assert seen.records() == [b"event"], "nothing is durable before it is committed"
        await until(lambda: outputs)
        assert (outputs, entered) == ([0, 1], [-1])
        assert sorted(seen.records()) == [b"event", b"next event", b"one", b"two"]
        assert seen.journal() == {"teller/event-2/call-0": b"recorded now"}
        assert seen.low("teller") == 1
        assert [s for s in said if s in ("begin immediate", "commit")] == [
            "begin immediate", "commit",
        ]  # fmt: skip

    as_worker(body)


def test_nobody_is_told_and_nothing_is_seen_before_the_commit(as_worker, rows):
    async def body(store: Store) -> None:
        seen, told = rows(), append(store, IDEA, b"a")
        done: list[bool] = []
        store.enter(f"{STEP}/call-0", b"x", lambda _: done.append(True))
        with store.writer.turn:  # somebody else uses the connection
            await until(lambda: not store._open)
            assert (told, done, store.end(IDEA)) == ([], [], 0)
            assert (seen.records(), seen.journal()) == ([], {})
        await until(lambda: told and done)
        assert (seen.records(), store.end(IDEA)) == ([b"a"], 1)
        assert seen.journal() == {f"{STEP}/call-0": b"x"}

    as_worker(body)


def test_what_was_durable_is_there_when_the_file_is_opened_again(as_worker, store, open_store):
    async def body(store: Store) -> None:
        append(store, IDEA, b"a", b"b", b"c")
        store.enter(f"{STEP}/call-0", b"x", lambda _: None)
        store.finish("teller", IDEA, 1)

    as_worker(body)
    store.close()
    again = open_store()
    assert [record[3] for record in again.read(IDEA, 0, 10)] == [b"a", b"b", b"c"]
    position = again.position("teller", IDEA)
    assert [position.is_done(offset) for offset in range(3)] == [False, True, False]
    assert again.topics() == {"draft": 1, "idea": 1}

    async def restart() -> None:
        again.start(asyncio.get_running_loop())
        assert again.entries == {STEP: {f"{STEP}/call-0": b"x"}}

    asyncio.run(restart())


def test_closing_writes_what_is_open_and_frees_the_lock(store, open_store, rows):
    async def body() -> None:
        store.start(asyncio.get_running_loop())
        append(store, IDEA, b"a")
        with pytest.raises(WorkerRunning):
            open_store().start(asyncio.get_running_loop())
        store.close()
        assert rows().records() == [b"a"]
        open_store().start(asyncio.get_running_loop())

    asyncio.run(body())


def test_flushing_waits_for_what_the_writer_has_in_hand_and_not_for_more(as_worker, caplog):
    async def body(store: Store) -> None:
        told = append(store, IDEA, b"a")
        with store.writer.turn:
            await until(lambda: not store._open)
            flushing = asyncio.create_task(store.flush())
            await asyncio.sleep(0)
            assert not flushing.done()
        await asyncio.wait_for(flushing, 2)
        assert told == [0]

    as_worker(body)
    assert caplog.records == []


# -- the journal


def test_an_entry_of_a_step_that_ends_in_the_same_batch_is_never_written(as_worker, rows):
    async def body(store: Store) -> None:
        said, done = statements(store), []
        store.enter(f"{STEP}/call-0", b"x", lambda _: done.append("entered"))
        store.finish("teller", IDEA, 0, step=STEP, waiter=lambda _: done.append("finished"))
        await until(lambda: len(done) == 2)
        assert done == ["entered", "finished"], "who waits for an entry is told all the same"
        assert not [s for s in said if "journal" in s]
        assert (rows().journal(), store.entries) == ({}, {})

    as_worker(body)


def test_the_entries_of_a_finished_step_go_and_those_of_others_stay(as_worker, rows):
    async def body(store: Store) -> None:
        for key in (f"{STEP}/a-0", f"{STEP}/b-0", "teller/event-10/a-0"):
            store.enter(key, b"x", lambda _: None)
        await store.flush()
        store.enter(f"{STEP}/c-0", b"x", lambda _: None)
        store.finish("teller", IDEA, 0, step=STEP)
        await store.flush()
        assert rows().journal() == {"teller/event-10/a-0": b"x"}
        assert store.entries == {"teller/event-10": {"teller/event-10/a-0": b"x"}}

    as_worker(body)


def test_a_dead_letters_entries_stay(as_worker, rows):
    async def body(store: Store) -> None:
        store.enter(f"{STEP}/a-0", b"x", lambda _: None)
        store.finish("teller", IDEA, 0, step=None)
        await store.flush()
        assert rows().journal() == {f"{STEP}/a-0": b"x"}

    as_worker(body)


def test_an_entry_that_is_made_again_after_its_step_ended_stands(as_worker, rows):
    async def body(store: Store) -> None:
        store.enter(f"{STEP}/a-0", b"first", lambda _: None)
        await store.flush()
        store.finish("teller", IDEA, 0, step=STEP)
        store.enter(f"{STEP}/a-0", b"second", lambda _: None)
        await store.flush()
        assert rows().journal() == {f"{STEP}/a-0": b"second"}

    as_worker(body)


def test_a_journal_key_names_its_step():
    assert step_of("tale_teller/6a5d/f00-0") == "tale_teller/6a5d"
    assert step_of("tale_teller/an/odd/id/f00-0") == "tale_teller/an/odd/id"


# -- a full disk


def test_a_full_disk_loses_nothing_and_stops_new_work_until_there_is_room(as_worker, rows, caplog):
    async def body(store: Store) -> None:
        db, seen = store.writer.db, rows()
        append(store, IDEA, b"event 0", b"event 1")
        await store.flush()
        (pages,) = db.execute("pragma page_count").fetchone()
        db.execute(f"pragma max_page_count = {pages}")
        large: list[int] = []
        small: list[int] = []
        store.finish("teller", IDEA, 0, [(DRAFT, 0, b"k", b"x" * 50_000)], waiter=large.extend)
        await until(lambda: store.trouble)
        assert not store.room.is_set()
        # Later work, that would fit: it must wait its turn.
        store.finish("teller", IDEA, 1, [(DRAFT, 0, b"k", b"y")], waiter=small.extend)
        with store.writer.turn:
            assert (seen.low("teller"), len(seen.records())) == (None, 2)
            db.execute("pragma max_page_count = 1000000000")
        await until(lambda: small)
        assert (large, small) == ([0], [1])
        assert seen.low("teller") == 2
        assert [len(value) for value in seen.records()] == [7, 7, 50_000, 1]
        assert store.room.is_set() and store.trouble is None

    as_worker(body)
    said = [(record.levelno, record.getMessage()) for record in caplog.records]
    assert [level for level, _ in said] == [logging.ERROR, logging.WARNING], "each said once"
    assert "penstock.db: the disk is full; free some space. No new work is taken" in said[0][1]
    assert "writing again, work goes on" in said[1][1]


def test_a_submitter_on_a_full_disk_is_told_so_and_nothing_was_written(store, rows):
    db = store.writer.db
    (pages,) = db.execute("pragma page_count").fetchone()
    db.execute(f"pragma max_page_count = {pages}")
    store.submit("run 1", IDEA, b"k", b"x" * 50_000)
    with pytest.raises(BrokerUnavailable, match="the disk is full; free some space"):
        store.commit_now()
    assert rows().records() == []
    db.execute("pragma max_page_count = 1000000000")
    store.submit("run 1", IDEA, b"k", b"x")
    assert store.commit_now().submitted == [0]


# -- offsets


def test_offsets_go_on_after_what_another_process_appended(as_worker, open_store):
    async def body(store: Store) -> None:
        other = open_store()
        given = []
        for _ in range(5):
            given += appended(other, IDEA, b"theirs")
            own = append(store, IDEA, b"own", b"own")
            await store.flush()
            assert len(own) == 2
            given += own
        assert given == list(range(15))
        store.refresh()
        values = [record[3] for record in store.read(IDEA, 0, 100)]
        assert values == [b"theirs", b"own", b"own"] * 5

    as_worker(body)


def test_what_another_process_appended_is_read_after_a_refresh(store, open_store):
    other = open_store()
    assert store.end(IDEA) == 0
    before = store.version()
    appended(other, IDEA, b"a")
    assert store.version() != before, "a change is seen without reading"
    assert store.read(IDEA, 0, 10) == []
    store.refresh()
    assert [record[0] for record in store.read(IDEA, 0, 10)] == [0]


def test_deleted_records_never_give_their_offsets_out_again(store, open_store, rows):
    appended(store, IDEA, b"a", b"b", b"c")
    for offset in range(3):
        store.finish("teller", IDEA, offset)
    store.commit_now()
    count = delete_finished(store, [{"idea": ["teller"]}], time.time() + 1)
    assert (count, rows().records()) == (3, [])
    assert store.end(IDEA) == 3
    assert appended(store, IDEA, b"d") == [3]
    assert not store.position("teller", IDEA).is_done(3)
    other = open_store()
    assert (other.end(IDEA), appended(other, IDEA, b"e")) == (4, [4])


def test_an_id_is_submitted_once_by_whomever(as_worker, open_store, rows):
    async def body(store: Store) -> None:
        told: list[tuple[str, int | None]] = []

        def submit(store: Store, id_: str) -> None:
            store.submit(id_, IDEA, b"k", id_.encode(), lambda offset: told.append((id_, offset)))

        for id_ in ("run 1", "run 1", "run 2"):
            submit(store, id_)
        await until(lambda: len(told) == 3)
        assert told == [("run 1", 0), ("run 1", None), ("run 2", 1)]
        submit(store, "run 2")
        await until(lambda: len(told) == 4)
        other = open_store()
        submit(other, "run 1")
        submit(other, "run 3")
        other.commit_now()
        assert told[3:] == [("run 2", None), ("run 1", None), ("run 3", 2)]
        assert rows().records() == [b"run 1", b"run 2", b"run 3"]
        assert store.end(IDEA) == 2 and other.end(IDEA) == 3

    as_worker(body)


# -- the loop


def test_room_is_cleared_while_too_much_waits_for_the_disk(as_worker):
    async def body(store: Store) -> None:
        told = append(store, IDEA, b"first")
        with store.writer.turn:
            await until(lambda: not store._open)
            append(store, IDEA, *[b"x"] * CROWDED)
            assert store.room.is_set()
            last = append(store, IDEA, b"one too many")
            assert not store.room.is_set()
        await until(lambda: last)
        assert (told, last) == ([0], [CROWDED + 1])
        assert store.room.is_set()

    as_worker(body)


def test_somebody_is_woken_after_each_commit(as_worker):
    async def body(store: Store) -> None:
        woken = asyncio.Event()
        store.wake = woken.set
        append(store, IDEA, b"a")
        await asyncio.wait_for(woken.wait(), 5)
        assert store.end(IDEA) == 1

    as_worker(body)


def test_a_waiter_that_fails_keeps_nobody_else_from_being_told(as_worker, caplog):
    async def body(store: Store) -> None:
        told: list[int] = []

        def bad(_: object) -> None:
            raise ValueError("nobody expects this")

        store.append(IDEA, 0, b"k", b"a", None, bad)
        store.append(IDEA, 0, b"k", b"b", None, told.append)
        store.submit("run 1", IDEA, b"k", b"c", bad)
        store.submit("run 2", IDEA, b"k", b"d", lambda offset: told.append(offset or -1))
        await until(lambda: len(told) == 2)
        assert told == [1, 3]
        later = append(store, IDEA, b"e")
        await until(lambda: later)

    as_worker(body)
    assert [record.exc_info is not None for record in caplog.records] == [True, True]


# -- names


def test_a_topic_keeps_the_partitions_that_it_was_made_with(store, open_store):
    store.create("wide", 3)
    store.create("wide", 5)
    open_store().create("wide", 7)
    assert (store.partitions("wide"), store.partitions("nowhere")) == (3, None)
    assert store.topics()["wide"] == 3


def test_what_is_not_there_is_named(store, tmp_path: pathlib.Path):
    with pytest.raises(BrokerUnavailable, match=r"penstock\.db: there is no topic 'nowhere'"):
        store.partition_of("nowhere", b"k")
    with pytest.raises(BrokerUnavailable, match="there is no partition 1 of a topic 'idea'"):
        store.part(TP("idea", 1))


def test_a_key_has_the_partition_that_kafka_gives_it(store):
    store.create("wide", 7)
    kafkas, partitions = DefaultPartitioner(), list(range(7))
    for number in range(50):
        key = f"key {number}".encode()
        assert store.partition_of("wide", key) == kafkas(key, partitions, partitions)


def test_records_are_read_a_few_at_a_time_from_any_offset(store):
    appended(store, IDEA, *[str(i).encode() for i in range(10)])
    assert [record[0] for record in store.read(IDEA, 0, 3)] == [0, 1, 2]
    assert [record[0] for record in store.read(IDEA, 8, 3)] == [8, 9]
    assert store.read(IDEA, 10, 3) == []


def test_a_record_is_read_as_it_was_appended(store):
    store.append(IDEA, 1234, b"key", b"value", b"headers")
    store.append(IDEA, 1235, None, None, None)
    store.append(IDEA, 1236, b"", b"", None)
    store.commit_now()
    assert store.read(IDEA, 0, 9) == [
        (0, 1234, b"key", b"value", b"headers"),
        (1, 1235, None, None, None),
        (2, 1236, b"", b"", None),
    ]


def test_positions_of_others_are_seen_when_ours_are_forgotten(store, open_store):
    appended(store, IDEA, b"a")
    other = open_store()
    assert not store.position("teller", IDEA).is_done(0)
    other.finish("teller", IDEA, 0)
    other.commit_now()
    assert not store.position("teller", IDEA).is_done(0)
    store.forget_positions()
    assert store.position("teller", IDEA).is_done(0)


def test_a_checkpoint_moves_the_log_into_the_database(as_worker, tmp_path: pathlib.Path):
    async def body(store: Store) -> None:
        append(store, IDEA, b"x" * 100_000)
        await store.flush()
        before = store.path.stat().st_size
        await asyncio.to_thread(store.checkpoint)
        assert store.path.stat().st_size > before + 90_000

    as_worker(body)


def test_a_reader_beside_the_worker_sees_only_whole_steps(as_worker, rows):
    """Whoever looks, and however often: an output and the end of its step come together."""

    async def body(store: Store) -> None:
        seen: Rows = rows()
        append(store, IDEA, *[b"event"] * 50)
        await store.flush()
        for offset in range(50):
            store.finish("teller", IDEA, offset, [(DRAFT, 0, b"k", b"output")])
            ((low, outputs),) = seen.all(
                "select coalesce((select low from position where reader = 'teller'), 0),"
                " (select count(*) from record where value = x'6f7574707574')"
            )
            assert low == outputs
            await asyncio.sleep(0)

    as_worker(body)


def test_cancels_go_with_the_runs_that_they_ended(store):
    store.create("cancels", 1)
    for tp, ts, key in (
        (TP("cancels", 0), 0, b"over"),
        (TP("cancels", 0), 0, b"busy"),
        (IDEA, int(time.time() * 1000), b"busy"),
    ):
        store.append(tp, ts, key, b"{}", None, lambda _: None)
    store.commit_now()
    gone: set[bytes] = set()
    delete_finished(store, [{"idea": ["teller"]}], time.time() - 60, "cancels", gone)
    assert gone == {b"over"}
    assert [record[2] for record in store.read(TP("cancels", 0), 0, 9)] == [b"busy"]
