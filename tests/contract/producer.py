"""A producer as a process of its own: `python -m tests.contract.producer JSON`.

It says "ready" and waits for a line on its standard input, so that several begin together. Then it
sends records one after the other over a few keys of its own, the next when the one before is
durable, and says on its standard output where each of them is.
"""

import asyncio
import json
import pathlib
import sys
from typing import Any

from tests.contract.brokers import Broker


async def main(order: dict[str, Any]) -> None:
    broker = Broker(**{**order["broker"], "folder": pathlib.Path(order["broker"]["folder"])})
    async with broker.writing(order["topic"]) as writer:
        print("ready", flush=True)
        sys.stdin.readline()
        for number in range(order["records"]):
            key = f"{order['name']} {number % 4}".encode()
            (sent,) = await writer.send([{"key": key, "value": b"%d" % number}])
            print(sent.partition, sent.offset, flush=True)


if __name__ == "__main__":
    asyncio.run(main(json.loads(sys.argv[1])))
