"""What is measured of every system of the field, and of Penstock beside them."""

import asyncio
import json
import pathlib
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from bench import calls
from bench.figures import Options, Result, peak_mb, percentile

#: Seconds between two idle runs.
PAUSE_S = 0.01
#: Seconds after which a process that answers nothing is given up.
LIMIT_S = 120.0


def opened(folder: pathlib.Path, options: Options) -> Any:
    """The system that is asked for, to be entered; with files of its own for each kind of call."""
    # The name of the folder is that of Kafka's topics and groups as well.
    folder = folder / f"{folder.name}-{options['measure']}"
    folder.mkdir(exist_ok=True)
    system = options["system"]
    if system == "penstock":
        from bench.worker import Worker

        return Worker(folder, options | {"does": f"step: {options['call']}"})
    if system == "faust":
        from bench.handwritten import Handwritten

        return Handwritten(folder, options)
    if system == "faststream":
        from bench.field.on_faststream import FastStream

        return FastStream(folder, options)
    if system == "langgraph":
        from bench.field.on_langgraph import LangGraph

        return LangGraph(folder, options)
    from bench.field.on_dbos import Dbos

    return Dbos(folder, options)


async def field_busy(folder: pathlib.Path, options: Options) -> Result:
    """The system is never short of work; then one run at a time. The model answers at once."""
    options = options | {"measure": "busy", "call": "instant"}
    async with opened(folder, options) as chain:
        await chain.feed(options["warm"])
        result: Result = await chain.saturate(options["runs"])
        result["peak_mb"] = peak_mb()
        alone = []
        for _ in range(options["idle_runs"]):
            alone.append(await chain.one())
            await asyncio.sleep(PAUSE_S)
    result["p50_ms"] = percentile(alone, 50) * 1e3
    result["p99_ms"] = percentile(alone, 99) * 1e3
    return result


async def field_many(folder: pathlib.Path, options: Options) -> Result:
    """Runs that all begin at once, with a model that takes its time."""
    options = options | {"measure": "many", "call": "slow"}
    async with opened(folder, options) as chain:
        await chain.one()
        started = time.perf_counter()
        await asyncio.gather(*(chain.one() for _ in range(options["runs"])))
        return {"wall_s": time.perf_counter() - started}


def field_recovery(folder: pathlib.Path, options: Options) -> Result:
    """From the start of a process to its first answer, after another was killed in the middle of
    its runs. The first calls of all runs and some of the second ones had been answered."""
    with _process("field_victim", folder, options) as victim:
        for _ in range(options["runs"] + options["runs"] // 5):
            _await_answer(victim)
        victim.kill()
        victim.wait()
    started = time.perf_counter()
    with _process("field_survivor", folder, options) as survivor:
        _await_answer(survivor)
        seconds = time.perf_counter() - started
        assert survivor.stdin is not None
        survivor.stdin.close()  # which lets it end
        survivor.wait()
    return {"recovery_s": seconds}


async def field_victim(folder: pathlib.Path, options: Options) -> Result:
    """To be killed in the middle of it: it says 'answer' at each."""
    async with opened(folder, _reporting(options)) as chain:
        await asyncio.gather(*(chain.one() for _ in range(options["runs"])))
    return {}


async def field_survivor(folder: pathlib.Path, options: Options) -> Result:
    """Goes on with what the victim has left, until its standard input ends."""
    async with opened(folder, _reporting(options)):
        await asyncio.to_thread(sys.stdin.read)
    return {}


def _reporting(options: Options) -> Options:
    calls.listeners.append(lambda: print("answer", flush=True))
    return options | {"measure": "recovery", "call": "slow"}


@contextmanager
def _process(kind: str, folder: pathlib.Path, options: Options) -> Iterator[subprocess.Popen[str]]:
    child = pathlib.Path(__file__).resolve().parent.parent / "child.py"
    process = subprocess.Popen(
        [sys.executable, str(child), options["tree"], kind, str(folder), json.dumps(options)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    limit = threading.Timer(LIMIT_S, process.kill)
    limit.start()
    try:
        yield process
    finally:
        limit.cancel()
        process.kill()
        process.wait()


def _await_answer(process: subprocess.Popen[str]) -> None:
    assert process.stdout is not None
    for line in process.stdout:
        if line == "answer\n":
            return
    raise RuntimeError(f"the process ended, or there was no answer within {LIMIT_S:g} s")
