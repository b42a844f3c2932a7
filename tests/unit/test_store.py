"""The store: what becomes durable together, in which order, and who is told when."""

import asyncio
import logging
import pathlib
import time

import pytest
from faust.types import TP

from penstock.broker.contract import Pipeline, Plan
from penstock.broker.embedded.retention import delete_finished
from penstock.broker.embedded.store import CROWDED, Store, step_of
from penstock.errors import BrokerUnavailable, WorkerRunning
from tests.unit.conftest import Rows, until
from tests.unit.stores import DRAFT, IDEA, STEP, append, as_worker, statements, store

__all__ = ["as_worker", "store"]

PLAN = Plan("tale", (Pipeline("tale", "tale.yaml", ("idea",)),), {"idea": ("teller",)})


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


def test_nobody_is_notified_and_nothing_is_seen_before_the_commit(as_worker, rows):
    async def body(store: Store) -> None:
        seen, offsets = rows(), append(store, IDEA, b"a")
        done: list[bool] = []
        store.enter(f"{STEP}/call-0", b"x", lambda _: done.append(True))
        with store.writer.connection_lock:  # somebody else uses the connection
            await until(lambda: not store._open)
            assert (offsets, done, store.end(IDEA)) == ([], [], 0)
            assert (seen.records(), seen.journal()) == ([], {})
        await until(lambda: offsets and done)
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
        offsets = append(store, IDEA, b"a")
        with store.writer.connection_lock:
            await until(lambda: not store._open)
            flushing = asyncio.create_task(store.flush())
            await asyncio.sleep(0)
            assert not flushing.done()
        await asyncio.wait_for(flushing, 2)
        assert offsets == [0]

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
        with store.writer.connection_lock:
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


def test_a_submitter_on_a_full_disk_gets_an_error_and_nothing_was_written(store, rows):
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


# -- the loop


def test_room_is_cleared_while_too_much_waits_for_the_disk(as_worker):
    async def body(store: Store) -> None:
        offsets = append(store, IDEA, b"first")
        with store.writer.connection_lock:
            await until(lambda: not store._open)
            append(store, IDEA, *[b"x"] * CROWDED)
            assert store.room.is_set()
            last = append(store, IDEA, b"one too many")
            assert not store.room.is_set()
        await until(lambda: last)
        assert (offsets, last) == ([0], [CROWDED + 1])
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


def test_a_waiter_that_fails_keeps_nobody_else_from_being_notified(as_worker, caplog):
    async def body(store: Store) -> None:
        offsets: list[int] = []

        def bad(_: object) -> None:
            raise ValueError("nobody expects this")

        store.append(IDEA, 0, b"k", b"a", None, bad)
        store.append(IDEA, 0, b"k", b"b", None, offsets.append)
        store.submit("run 1", IDEA, b"k", b"c", bad)
        store.submit("run 2", IDEA, b"k", b"d", lambda offset: offsets.append(offset or -1))
        await until(lambda: len(offsets) == 2)
        assert offsets == [1, 3]
        later = append(store, IDEA, b"e")
        await until(lambda: later)

    as_worker(body)
    assert [record.exc_info is not None for record in caplog.records] == [True, True]


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
    store.create("tale-cancels", 1)
    for tp, ts, key in (
        (TP("tale-cancels", 0), 0, b"over"),
        (TP("tale-cancels", 0), 0, b"busy"),
        (IDEA, int(time.time() * 1000), b"busy"),
    ):
        store.append(tp, ts, key, b"{}", None, lambda _: None)
    store.commit_now()
    gone: set[bytes] = set()
    delete_finished(store, PLAN, time.time() - 60, gone)
    assert gone == {b"over"}
    assert [record[2] for record in store.read(TP("tale-cancels", 0), 0, 9)] == [b"busy"]
