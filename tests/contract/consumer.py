"""A consumer as a process of its own, to be killed: `python -m tests.contract.consumer JSON`.

It acks each message and then says so on its standard output, until it has acked as many as it was
told. It takes the next one and holds it for ever.
"""

import asyncio
import json
import pathlib
import sys
from typing import Any

from tests.contract.brokers import Broker, location, raw_topic, started


async def main(order: dict[str, Any]) -> None:
    broker = Broker(**{**order["broker"], "folder": pathlib.Path(order["broker"]["folder"])})
    app = broker.app(order["group"])
    acked = 0

    @app.agent(raw_topic(app, order["topic"]))
    async def read(stream: Any) -> None:
        nonlocal acked
        async for event in stream.noack().events():
            if acked == order["acks"]:
                print("holds", *location(event), flush=True)
                await asyncio.Event().wait()
            event.ack()
            acked += 1
            print("acked", *location(event), flush=True)

    async with started(app):
        await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(main(json.loads(sys.argv[1])))
