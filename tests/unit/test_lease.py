"""The lease: after an absence nothing goes out before the group has said what is ours."""

import asyncio
import threading

from penstock.broker.kafka.lease import Lease


class Clock:
    """Seconds that pass when a test says so."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def test_a_lease_is_lost_by_an_absence_and_held_again_when_the_group_has_answered():
    async def live() -> None:
        clock = Clock()
        lease = Lease(10.0, clock)
        assert lease.is_lost(), "nobody has said anything yet"
        lease.begin()
        clock.now += 5.9
        assert not lease.is_lost()
        clock.now += 6.1
        assert lease.is_lost()
        waiting = asyncio.ensure_future(lease.wait())
        await asyncio.sleep(0)
        assert not waiting.done()
        lease.begin()
        await waiting
        assert not lease.is_lost()

    asyncio.run(live())


def test_an_absence_that_a_thread_saw_first_is_not_forgotten():
    async def live() -> None:
        clock = Clock()
        lease = Lease(10.0, clock)
        lease.begin()
        clock.now += 20
        for _ in range(3):
            lease.look()
        assert lease.is_lost()

    asyncio.run(live())


def test_a_loop_that_is_busy_for_longer_than_the_session_was_not_away():
    async def live() -> None:
        clock, looks = Clock(), threading.Semaphore(0)

        def seen_by_both() -> float:
            if threading.current_thread() is not threading.main_thread():
                clock.now += 0.9 * 0.6 * lease.session_s
                looks.release()
            return clock.now

        lease = Lease(0.04, seen_by_both)
        lost: list[int] = []

        async def note() -> None:
            lost.append(1)

        lease.begin()
        watching = asyncio.ensure_future(lease.watch(note))
        await asyncio.sleep(0)
        for _ in range(5):
            assert looks.acquire(timeout=10)  # this thread does nothing else meanwhile
        assert not lease.is_lost()
        watching.cancel()
        assert not lost

    asyncio.run(live())


def test_a_lost_lease_is_reported_once_until_it_is_held_again():
    async def live() -> None:
        clock = Clock()
        lease = Lease(0.01, clock)
        reported = asyncio.Semaphore(0)
        count = 0

        async def lost() -> None:
            nonlocal count
            count += 1
            reported.release()

        watching = asyncio.ensure_future(lease.watch(lost))
        lease.begin()
        for expected in (1, 2):
            clock.now += 1
            await asyncio.wait_for(reported.acquire(), 10)
            assert lease.is_lost()
            for _ in range(20):
                await asyncio.sleep(0)
            assert count == expected
            lease.begin()
        watching.cancel()

    asyncio.run(live())
