"""A memory under test: opened in a folder of its own, waited for, and what its log says."""

import asyncio
import contextlib
import logging
import pathlib
import time
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest

from penstock.memory import Memory, Status
from penstock.settings import Settings

#: Seconds that a step of a test may take on a machine that is busy with other things.
PATIENCE_S = 30.0
REVERSE = "Reverse the characters of a string"
AGAIN = "Turn a text around so that it reads backwards"


@pytest.fixture(autouse=True)
def no_proxy(monkeypatch):
    """The client would ask a laptop's proxy for a loopback address."""
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)


@contextlib.asynccontextmanager
async def opened(settings: Settings, **options: Any) -> AsyncIterator[Memory]:
    # Without jitter, a probe comes after three quarters of its pause.
    memory = Memory(settings, jitter=lambda: 0.0, **options)
    await memory.start()
    try:
        yield memory
    finally:
        await memory.close()


async def settled(memory: Memory) -> Status:
    async with asyncio.timeout(PATIENCE_S):
        return await memory.settled()


async def until(condition: Callable[[], object], what: str) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < deadline, f"waited for {what}"
        await asyncio.sleep(0.01)


def here(tmp_path: pathlib.Path, **given: Any) -> Settings:
    # A look has as long as it needs: what a test asks is whether it waits, not how fast Qdrant is.
    return Settings(data=tmp_path / "data", **({"recall_s": PATIENCE_S} | given))


def actions(caplog: pytest.LogCaptureFixture) -> list[str]:
    """What the log says of going and coming, at the level that a worker shows."""
    records = [record for record in caplog.records if record.levelno >= logging.WARNING]
    return [getattr(record, "action", record.getMessage()) for record in records]
