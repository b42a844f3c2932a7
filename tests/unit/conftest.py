"""What the unit tests share: a project's folder, an embedded store, the records of a topic."""

import asyncio
import contextlib
import os
import pathlib
import selectors
import sqlite3
import tempfile
import time
from collections.abc import Callable, Coroutine, Iterator, Mapping
from typing import Any, TypeVar

import pytest
from faust.types import TP, ConsumerMessage

from penstock.broker.contract import Plan
from penstock.broker.embedded.broker import EmbeddedBroker
from penstock.broker.embedded.store import Store
from penstock.project.project import Project, read_project
from penstock.settings import Settings
from penstock.signals import Signal, Signals, write_to_log

#: A chain of two stages, one of them an agent; the smallest that has everything.
CHAIN = """\
pipeline: tale
about: A tale, told twice.
topics:
  idea: What it is about
  draft: A first version
  text: The finished text
stages:
  - {reads: idea, agent: teller, writes: draft}
  - {reads: draft, agent: teller, task: polish, writes: text}
  - {reads: text, step: present}
seed:
  idea: A snail that flies
"""
CARD = """\
---
about: Tells it
temperature: 0.5
---
Tell a tale.

## Task: polish

Tell it better.
"""

Opener = Callable[[], Store]
T = TypeVar("T")


def make_project(
    folder: pathlib.Path,
    chain: str = CHAIN,
    cards: Mapping[str, str] | None = None,
    steps: Mapping[str, str] | None = None,
) -> pathlib.Path:
    """`folder` is a project: `topics/tale.yaml`, and a file for each of `cards` and `steps`."""
    for name, files, suffix in (
        ("topics", {"tale": chain}, "yaml"),
        ("agents", {"teller": CARD} if cards is None else cards, "md"),
        ("steps", steps or {}, "py"),
    ):
        (folder / name).mkdir(parents=True, exist_ok=True)
        for stem, text in files.items():
            (folder / name / f"{stem}.{suffix}").write_text(text, encoding="utf-8")
    return folder


@pytest.fixture
def tmp_path() -> Iterator[pathlib.Path]:
    """A folder for one test, in memory where there is such a place: syncing costs nothing there,
    and what a power cut leaves behind is not what unit tests can tell."""
    memory = pathlib.Path("/dev/shm")
    parent = memory if os.access(memory, os.W_OK) else None
    with tempfile.TemporaryDirectory(prefix="penstock-unit-", dir=parent) as folder:
        yield pathlib.Path(folder)


@pytest.fixture
def project(tmp_path: pathlib.Path) -> Project:
    """The project of `CHAIN`, sound."""
    return read_project(make_project(tmp_path / "project"))


@pytest.fixture
def open_store(tmp_path: pathlib.Path) -> Iterator[Opener]:
    """Opens `tmp_path/penstock.db`, each time on connections of its own, as another process does.
    All are closed afterwards."""
    with contextlib.ExitStack() as stack:

        def open_() -> Store:
            signals = Signals()
            signals.on(Signal, write_to_log)
            store = Store(tmp_path / "penstock.db", signals)
            stack.callback(_close, store)
            return store

        yield open_


@pytest.fixture
def open_broker(tmp_path: pathlib.Path) -> Iterator[Callable[..., EmbeddedBroker]]:
    """The file of `open_store`, as a process has it that is not its worker. All are closed
    afterwards."""
    with contextlib.ExitStack() as stack:

        def open_(kind: type[EmbeddedBroker] = EmbeddedBroker) -> EmbeddedBroker:
            broker = kind(Settings(data=tmp_path), Plan("penstock"))
            stack.callback(broker.close)
            return broker

        yield open_


def _close(store: Store) -> None:
    with contextlib.suppress(Exception):  # a test may have closed it, or broken its file
        store.close()


def messages(store: Store, topic: str, partition: int = 0, start: int = 0) -> list[ConsumerMessage]:
    """What stands on a partition, as the embedded consumer delivers it."""
    tp = TP(topic, partition)
    store.refresh()
    return [
        ConsumerMessage(topic, partition, offset, ts / 1000, 0, [], key, value, None, tp=tp)
        for offset, ts, key, value, _ in store.read(tp, start, 1000)
    ]


async def until(condition: Callable[[], object], limit_s: float = 5.0) -> None:
    """`condition` is true. Fails when that does not come."""
    deadline = time.monotonic() + limit_s
    while not condition():
        assert time.monotonic() < deadline, "what the test waits for does not come"
        await asyncio.sleep(0.001)


class Rows:
    """What stands in an embedded file for somebody else: read on a connection of its own."""

    def __init__(self, path: pathlib.Path) -> None:
        self.db = sqlite3.connect(path, isolation_level=None)

    def all(self, sql: str, *values: object) -> list[tuple[Any, ...]]:
        return self.db.execute(sql, values).fetchall()

    def records(self) -> list[bytes]:
        return [value for (value,) in self.all("select value from record order by id")]

    def journal(self) -> dict[str, bytes]:
        return dict(self.all("select key, value from journal"))

    def low(self, reader: str) -> int | None:
        rows = self.all("select low from position where reader = ?", reader)
        return rows[0][0] if rows else None


@pytest.fixture
def rows(tmp_path: pathlib.Path) -> Iterator[Callable[[], Rows]]:
    """Opens the file of `open_store` for reading beside it."""
    with contextlib.ExitStack() as stack:

        def open_() -> Rows:
            opened = Rows(tmp_path / "penstock.db")
            stack.callback(opened.db.close)
            return opened

        yield open_


class _Leaping(selectors.SelectSelector):
    """Where the loop would sleep until its next timer, the clock leaps there."""

    now_s = 0.0

    def select(self, timeout: float | None = None) -> Any:
        ready = super().select(None if timeout is None else 0)
        if not ready and timeout is not None and timeout > 0:
            self.now_s += timeout
        return ready


class LeapingLoop(asyncio.SelectorEventLoop):
    """A loop on which pauses cost no time, and whose clock knows nothing else. Not for a time
    limit on something that a thread does: the clock does not wait for threads."""

    def __init__(self) -> None:
        self._leaping = _Leaping()
        super().__init__(self._leaping)

    def time(self) -> float:
        return self._leaping.now_s


def run_leaping(main: Coroutine[Any, Any, T]) -> T:
    """`asyncio.run`, on a `LeapingLoop`."""
    with asyncio.Runner(loop_factory=LeapingLoop) as runner:
        return runner.run(main)
