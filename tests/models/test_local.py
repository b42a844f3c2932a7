"""Models on this machine: llama.cpp in a child of its own, over real weights, and its deaths."""

import asyncio
import contextlib
import functools
import os
import pathlib
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Coroutine
from http.client import HTTPConnection
from typing import Any
from urllib.parse import urlsplit

import pytest
from agents import Agent, ModelSettings, RunConfig, Runner

from penstock.conditions import STARTING, UP
from penstock.errors import ModelFailed, ModelLocked
from penstock.models.gate import Gates
from penstock.models.local import engine
from penstock.models.names import resolve
from penstock.models.providers import Provider, Providers
from penstock.settings import Settings
from penstock.signals import ModelEnded, ModelLoaded, ModelLoading, Signal, Signals
from tests.programs import ROOT, wait_until


def on_a_loop(test: Callable[..., Coroutine[Any, Any, None]]) -> Callable[..., None]:
    @functools.wraps(test)
    def run(*given: Any, **named: Any) -> None:
        asyncio.run(test(*given, **named))

    return run


class Here:
    """A provider of a local model, and what was said of it."""

    def __init__(self, model: str) -> None:
        self.signals: list[Signal] = []
        signals = Signals()
        signals.on(Signal, self.signals.append)
        self.providers = Providers(gates=Gates(signals))
        self.provider: Provider = self.providers.get(resolve(model, Settings()))

    async def ask(self, text: str, max_tokens: int = 16) -> str:
        """What the model answers. Every event of ours may ask at once."""
        assert self.provider.model is not None
        agent: Agent[Any] = Agent(
            name="it",
            model=self.provider.model,
            model_settings=ModelSettings(max_tokens=max_tokens, temperature=0),
        )
        async with self.provider.call(60.0):
            result = await Runner.run(agent, text, run_config=RunConfig(tracing_disabled=True))
        return str(result.final_output)

    @property
    def pid(self) -> int:
        """The process of the engine, which runs."""
        loaded = [said for said in self.signals if isinstance(said, ModelLoaded)]
        return loaded[-1].pid

    @property
    def kinds(self) -> list[type[Signal]]:
        kinds = (ModelLoading, ModelLoaded, ModelEnded)
        return [type(said) for said in self.signals if isinstance(said, kinds)]


@contextlib.asynccontextmanager
async def local(model: str) -> AsyncIterator[Here]:
    here = Here(model)
    try:
        yield here
    finally:
        await here.providers.close()


def is_there(pid: int) -> bool:
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, 0)
        return True
    return False


@on_a_loop
async def test_it_is_loaded_by_its_first_call_and_answers_several_at_once(small_model: str) -> None:
    async with local(small_model) as here:
        assert [*here.providers.conditions] == []
        asked = asyncio.gather(*(here.ask(f"Count to {n}.") for n in range(3, 7)))
        while not here.signals:
            await asyncio.sleep(0)
        (condition,) = here.providers.conditions
        assert condition.state == STARTING and "is being loaded" in condition.reason
        assert all(await asked)
        (condition,) = here.providers.conditions
        assert condition.state == UP and f"process {here.pid}" in condition.reason
        assert here.kinds == [ModelLoading, ModelLoaded]
        pid = here.pid
    assert not is_there(pid)


@on_a_loop
async def test_nobody_without_its_key_is_answered(small_model: str) -> None:
    async with local(small_model) as here:
        await here.ask("Say hello.")
        assert here.provider.client is not None
        url = urlsplit(str(here.provider.client.base_url))
        assert url.hostname == "127.0.0.1" and url.port is not None
        for path in ("/v1/models", "/slots", "/props", "/metrics"):
            with contextlib.closing(HTTPConnection("127.0.0.1", url.port, timeout=10)) as http:
                http.request("GET", path)
                assert http.getresponse().status != 200, path


@on_a_loop
async def test_its_end_counts_against_what_it_answered_is_said_and_the_next_call_loads_it_again(
    small_model: str,
) -> None:
    async with local(small_model) as here:
        await here.ask("Say hello.")
        first = here.pid
        asking = asyncio.create_task(here.ask("Tell a long story.", max_tokens=2000))
        # The engine has the request once it has a slot at work.
        await asyncio.to_thread(wait_until, lambda: processor_s(first) > 0.5, "the answer to begin")
        os.kill(first, signal.SIGKILL)
        with pytest.raises(ModelFailed, match=r"it was killed \(SIGKILL\).* It is loaded again"):
            await asking
        assert await here.ask("Say hello.")
        assert here.pid != first and not is_there(first)
        ended = next(said for said in here.signals if isinstance(said, ModelEnded))
        assert "The next call loads it again" in str(ended)


def processor_s(pid: int) -> float:
    """Seconds of a processor that `pid` has had since it was last asked."""
    fields = pathlib.Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


@on_a_loop
async def test_weights_that_cannot_be_loaded_wait_for_somebody_who_mends_them(
    small_model: str, tmp_path: pathlib.Path
) -> None:
    weights = pathlib.Path(small_model.removeprefix("local/"))
    spoilt = tmp_path / "spoilt.gguf"
    spoilt.write_bytes(weights.read_bytes()[:100_000])
    async with local(f"local/{spoilt}") as here:
        with pytest.raises(
            ModelLocked, match="cannot be loaded: it ended with exit code 1"
        ) as said:
            await here.ask("Say hello.")
        assert said.value.gated and "failed to read key-value pairs" in said.value.message
        spoilt.unlink()
        spoilt.symlink_to(weights)
        assert await here.ask("Say hello.")


@on_a_loop
async def test_a_model_that_is_too_large_for_the_memory_is_not_loaded(
    small_model: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engine, "_memory_left", lambda: 10**7)
    async with local(small_model) as here:
        with pytest.raises(ModelLocked, match=r"have 0\.1 GB, and 0\.0 GB of this machine's"):
            await here.ask("Say hello.")


HOLDER = """
import asyncio, sys
from penstock.models.local.engine import Engine
from penstock.signals import Signals

async def main():
    engine = Engine("local/it", __import__("pathlib").Path(sys.argv[1]), Signals())
    loading = asyncio.create_task(engine.reach())
    while engine._process is None:
        await asyncio.sleep(0)
    print(engine._process.pid, flush=True)
    await loading
    print("up", flush=True)
    await asyncio.Event().wait()

asyncio.run(main())
"""


@pytest.mark.parametrize("lines", [1, 2], ids=["while it is loaded", "when it is up"])
def test_it_ends_with_its_worker_also_when_that_is_killed(small_model: str, lines: int) -> None:
    weights = small_model.removeprefix("local/")
    with subprocess.Popen(
        [sys.executable, "-c", HOLDER, weights], cwd=ROOT, stdout=subprocess.PIPE, text=True
    ) as holder:
        assert holder.stdout is not None
        pid = int(holder.stdout.readline())
        for _ in range(lines - 1):
            assert holder.stdout.readline() == "up\n"
        assert is_there(pid)
        holder.kill()
    wait_until(lambda: not is_there(pid), "the end of the engine")
