"""What kills its worker is found on Kafka, too, whoever has its partition by then."""

import asyncio
from typing import Any

import pytest

from penstock.steps import Work
from tests.unit.kafka_memory import Killed, Process
from tests.unit.kafka_workers import Ask, Cluster, Worker, idea, run

__all__ = ["run"]

COUNT = 40
CALL_S = 5.0
POISON = "poison"


class Steps:
    """A step that asks once and then takes its time; one that is given poison kills its worker."""

    def __init__(self) -> None:
        self.workers: dict[Process, Worker] = {}
        self.running: dict[Process, int] = {}
        self.most = 0

    async def write(self, work: Work, ask: Ask) -> str:
        process = Process.current.get()
        assert process is not None
        answer = await ask(work, f"write {work.parts['idea']}")
        self.running[process] = self.running.get(process, 0) + 1
        self.most = max(self.most, self.running[process])
        await asyncio.sleep(CALL_S / 2)
        if POISON in work.parts["idea"]:
            self.workers[process].kill()
            raise Killed
        await asyncio.sleep(CALL_S / 2)
        self.running[process] -= 1
        return answer

    async def start(self, cluster: Cluster, *others: Worker) -> Worker:
        worker = Worker(cluster, {"teller": self.write, "printer": _print})
        self.workers[worker.process] = worker
        self.most = 0
        await cluster.share(*others, worker)
        return worker


async def _print(work: Work, ask: Ask) -> str:
    return await ask(work, "print")


def _put(cluster: Cluster, *poisons: str, count: int = COUNT) -> None:
    cluster.put(*(idea(one) for one in poisons), *(idea(f"a snail {n}") for n in range(count)))


async def until_done(cluster: Cluster, steps: Steps) -> int:
    """Workers, one after the other, until one has lived; how many have died."""
    for deaths in range(40):
        worker = await steps.start(cluster)
        for _ in range(60):
            await cluster.settle(CALL_S)
            if not worker.process.alive or cluster.is_committed():
                break
        if worker.process.alive:
            assert cluster.is_committed()
            return deaths
    raise AssertionError("they die and die")


def _judge(cluster: Cluster, count: int = COUNT) -> None:
    """All but the killers are done, and no recorded call was made twice."""
    assert len(cluster.events("text")) == count
    asked = [one for one in cluster.model.asked if one != "print"]
    assert len(asked) == len(set(asked))
    assert not cluster.journal(b"m|"), "marks of what has ended"


@pytest.mark.parametrize("partitions", [1, 3])
def test_a_killer_is_a_dead_letter_and_the_others_end(partitions: int, run: Any) -> None:
    async def body(cluster: Cluster) -> None:
        _put(cluster, POISON)
        steps = Steps()
        assert 4 < await until_done(cluster, steps) <= 12
        (dead_letter,) = cluster.dead_letters()
        assert (
            dead_letter.cause == "KilledWorker"
            and "while this event was alone" in dead_letter.message
        )
        await steps.start(cluster)  # who begins next deletes its mark
        await cluster.settle()
        _judge(cluster)

    run(body, partitions)


def test_two_killers_are_dead_letters(run: Any) -> None:
    async def body(cluster: Cluster) -> None:
        _put(cluster, POISON, f"more {POISON}")
        steps = Steps()
        assert await until_done(cluster, steps) <= 24
        assert [dead_letter.cause for dead_letter in cluster.dead_letters()] == ["KilledWorker"] * 2
        await steps.start(cluster)
        await cluster.settle()
        _judge(cluster)

    run(body, 3)


@pytest.mark.parametrize("kills", [2, 4])
def test_deaths_by_chance_halve_nothing_but_what_died_together(kills: int, run: Any) -> None:
    async def body(cluster: Cluster) -> None:
        _put(cluster)
        steps = Steps()
        for _ in range(kills):
            worker = await steps.start(cluster)
            await cluster.settle(1.0)
            assert steps.running[worker.process] >= COUNT // 2
            worker.kill()
        _put_new(cluster)
        last = await steps.start(cluster)
        found = last.journal.suspects.search.found()
        assert found is not None and found.count >= COUNT // 2
        # What is new goes beside those that may run.
        await cluster.settle(1.0)
        assert steps.most >= COUNT // 2 + 5
        await cluster.settle(2 * CALL_S)
        assert len(cluster.events("draft")) == COUNT + 5 and not cluster.dead_letters()
        await cluster.settle()
        _judge(cluster, COUNT + 5)

    run(body, 3)


def _put_new(cluster: Cluster) -> None:
    cluster.put(*(idea(f"new {n}") for n in range(5)))


def test_suspects_stay_suspects_when_their_partition_changes_hands(run: Any) -> None:
    async def body(cluster: Cluster) -> None:
        _put(cluster)
        steps = Steps()
        for _ in range(2):
            worker = await steps.start(cluster)
            await cluster.settle(1.0)
            worker.kill()
        third = await steps.start(cluster)
        await cluster.settle(0.1)
        fourth = await steps.start(cluster, third)
        found = [one.journal.suspects.search.found() for one in (third, fourth)]
        counts = [one.count for one in found if one is not None]
        # Some have ended before they were given up, and none of the others is forgotten.
        assert len(counts) == 2
        assert sum(counts) == COUNT - len(cluster.events("draft"))
        await cluster.settle(4 * CALL_S)
        assert not cluster.dead_letters() and len(cluster.events("text")) == COUNT

    run(body, 2)
