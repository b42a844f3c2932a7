"""A store of two topics: a worker's, or that of a process which only submits."""

import asyncio
from collections.abc import Callable, Coroutine

import pytest
from faust.types import TP

from penstock.broker.embedded.store import Store
from tests.unit.conftest import Opener

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
