"""The lease: after an absence nothing goes out before the group has said what is ours."""

import asyncio
import time

from penstock.broker.kafka.lease import Lease


def test_a_lease_is_lost_by_an_absence_and_held_again_when_the_group_has_answered():
    async def live() -> None:
        lease = Lease(session_s=0.01)
        assert lease.is_lost(), "nobody has said anything yet"
        lease.begin()
        time.sleep(0.01)  # noqa: ASYNC251 - as a suspended process does
        assert lease.is_lost()
        waiting = asyncio.ensure_future(lease.wait())
        await asyncio.sleep(0)
        assert not waiting.done()
        lease.begin()
        await waiting

    asyncio.run(live())


def test_a_lost_lease_is_told_once_until_it_is_held_again():
    async def live() -> None:
        lease = Lease(session_s=0.2)
        told: list[int] = []
        twice = asyncio.Event()

        async def lost() -> None:
            told.append(1)
            if len(told) == 2:
                twice.set()

        watching = asyncio.ensure_future(lease.watch(lost))
        lease.begin()
        for count in (1, 2):
            time.sleep(0.13)  # noqa: ASYNC251
            while len(told) < count:
                await asyncio.sleep(0)
            for _ in range(20):
                await asyncio.sleep(0)
            assert len(told) == count
            lease.begin()
        await twice.wait()
        watching.cancel()

    asyncio.run(live())
