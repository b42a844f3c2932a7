"""A submitter: `python -m tests.chaos.submitting` begins a run for each trace id on its input.

Writes a trace id to its output when the run has begun, that is when `submit` has returned. Started
again with the same ids it begins no run twice.
"""

import asyncio
import sys

from penstock.client import Client
from tests.chaos.trials import premise_of

#: Seconds between two: together they last as long as some deaths of a worker.
PAUSE_S = 0.04


async def main() -> None:
    async with Client() as client:
        for trace_id in sys.stdin.read().split():
            await client.submit("story", {"premise": premise_of(trace_id)}, trace_id)
            print(trace_id, flush=True)
            await asyncio.sleep(PAUSE_S)


if __name__ == "__main__":
    asyncio.run(main())
