"""A test's helpers as processes of their own: `consumer` and `producer`."""

import contextlib
import dataclasses
import json
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

from tests.contract.brokers import Broker
from tests.programs import ROOT


@contextlib.contextmanager
def process(module: str, broker: Broker, **order: Any) -> Iterator[subprocess.Popen[str]]:
    """`python -m tests.contract.MODULE`, gone afterwards whatever happens."""
    arguments = {"broker": dataclasses.asdict(broker), **order}
    running = subprocess.Popen(
        [sys.executable, "-m", f"tests.contract.{module}", json.dumps(arguments, default=str)],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        yield running
    finally:
        running.kill()
        running.wait()
        for pipe in (running.stdin, running.stdout):
            if pipe is not None:
                pipe.close()
