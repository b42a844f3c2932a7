"""Several processes on one broker, and one that is killed."""

import asyncio
import collections
import contextlib
import signal

import pytest

from tests.contract.brokers import PARTITIONS, Broker, location
from tests.contract.processes import process


@pytest.mark.timeout(90)
async def test_nothing_that_was_not_acked_is_lost_by_kill_9(
    broker: Broker, topic: str, group: str
) -> None:
    sent = await broker.write(
        topic, [{"key": b"key %d" % (n % 9), "value": b"%d" % n} for n in range(100)]
    )
    everything = {(one.partition, one.offset) for one in sent}
    done: set[tuple[int, int]] = set()
    for acks in (30, 20):  # killed twice, each time in the middle
        with process("consumer", broker, group=group, topic=topic, acks=acks) as consumer:
            assert consumer.stdout is not None
            for line in consumer.stdout:
                word, *where = line.split()
                if word == "holds":
                    break
                partition, offset = map(int, where)
                done.add((partition, offset))
            consumer.send_signal(signal.SIGKILL)
            assert consumer.wait() == -signal.SIGKILL
    async with broker.reading(topic, group) as reader:
        again = await reader.take_all()
        delivered = {location(event) for event in again}
    assert everything - done <= delivered
    # An ack that was not durable yet when the process died comes again; no more than those do.
    assert delivered <= everything
    for part in range(PARTITIONS):
        offsets = [event.message.offset for event in again if event.message.partition == part]
        assert offsets == sorted(offsets)


async def test_processes_may_append_while_another_one_reads(
    broker: Broker, topic: str, group: str
) -> None:
    count, names = 300, ("ann", "bob")
    async with broker.reading(topic, group) as reader:
        with contextlib.ExitStack() as stack:
            producers = [
                stack.enter_context(
                    process("producer", broker, topic=topic, records=count, name=name)
                )
                for name in names
            ]
            for one in producers:
                assert one.stdout is not None
                assert await asyncio.to_thread(one.stdout.readline) == "ready\n"
            for one in producers:
                assert one.stdin is not None
                print(file=one.stdin, flush=True)
            mine = []
            async with broker.writing(topic) as writer:
                for _ in range(count):
                    mine += await writer.send([{"key": b"me", "value": b"-"}])
            events = await reader.take(count * 3)
            printed = [(await asyncio.to_thread(one.communicate))[0] for one in producers]
        assert await reader.take_up_to_now() == events, "a record came twice"
    locations = [location(event) for event in events]
    expected = [tuple(map(int, line.split())) for out in printed for line in out.splitlines()]
    expected += [(one.partition, one.offset) for one in mine]
    assert sorted(locations) == sorted(expected)
    assert len(set(locations)) == count * 3
    # Each producer's records of one key, in its order.
    by_key = collections.defaultdict(list)
    for event in events:
        if event.key != b"me":
            by_key[event.key].append(int(event.value))
    assert len(by_key) == 4 * len(names)
    for key, numbers in by_key.items():
        assert numbers == sorted(numbers), key
