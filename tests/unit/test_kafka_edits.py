"""Chains that were edited, on a Kafka in memory: nothing is skipped or paid again in silence."""

import asyncio
from typing import Any

from penstock.broker.contract import Pipeline, Plan
from penstock.project.chains import StageSpec
from penstock.signals import StageJoined, StageLeft
from tests.unit.kafka_workers import SPECS, Ask, Cluster, Script, idea, run

__all__ = ["run"]

TOPICS = ("idea", "draft", "text")


def edited(*specs: StageSpec) -> dict[str, Any]:
    """A chain of these stages, and a worker's part of it."""
    readers: dict[str, tuple[str, ...]] = {}
    for spec in specs:
        readers[spec.reads] = (*readers.get(spec.reads, ()), spec.name)
    plan = Plan("penstock", (Pipeline("tale", "topics/tale.yaml", TOPICS),), readers)
    return {"specs": specs, "plan": plan}


def stage(name: str, reads: str, writes: str) -> StageSpec:
    return StageSpec(name=name, reads=reads, writes=writes, step="write").within("tale")


async def ask_twice(work, ask):
    await ask(work, f"first {work.parts['idea']}")
    return await ask(work, f"second {work.parts['idea']}")


def test_a_stage_with_another_name_goes_on_where_it_was_with_what_it_had_recorded(run):
    async def body(cluster: Cluster) -> None:
        worker = await cluster.start({"teller": ask_twice})
        cluster.put(idea("over"))
        await cluster.settle()
        cluster.model.hold("second under way")
        cluster.put(idea("under way", "7c9e6679-7425-40de-944b-e07fc1f90ae7"))
        await cluster.settle()
        worker.kill()
        cluster.kafka.commits.clear()  # Kafka knows of nothing that is finished: the journal does
        cluster.model.slow["second under way"].set()
        chain = edited(stage("narrator", "idea", "draft"), SPECS[1])
        worker = await cluster.start({"narrator": ask_twice}, **chain)
        await cluster.settle()
        assert worker.edited == [StageJoined("narrator", "idea", "teller", ("teller",))]
        assert len(cluster.model.asked) == len(set(cluster.model.asked)) + 1  # the one in flight
        assert len(cluster.events("draft")) == 2
        assert not [key for key in cluster.journal() if b"teller" in key]

    run(body)


def test_what_waits_on_a_topic_that_no_stage_reads_is_known_and_goes_on_when_it_is_named(run):
    async def body(cluster: Cluster) -> None:
        worker = await cluster.start()
        cluster.model.hold("write a snail")
        cluster.put(idea())
        await cluster.settle()
        await worker.stop()
        worker = await cluster.start(**edited(SPECS[1]))
        await cluster.settle()
        ((tp, name, _),) = worker.journal.gone()
        assert (tp.topic, name) == ("idea", "teller")
        await worker.stop()
        cluster.model.slow["write a snail"].set()
        worker = await cluster.start()
        await cluster.settle()
        assert list(worker.journal.gone()) == [] and worker.edited == []
        assert len(cluster.events("text")) == 1

    run(body)


def test_a_stage_that_leaves_a_topic_to_others_says_what_it_leaves_undone(run):
    async def body(cluster: Cluster) -> None:
        both = edited(*SPECS, stage("counter", "idea", "text"))
        hold = asyncio.Event()

        async def wait(work, ask):
            await hold.wait()

        worker = await cluster.start({"counter": wait}, **both)
        cluster.put(idea())
        await cluster.settle()
        await worker.stop()
        worker = await cluster.start()
        assert worker.edited == [StageLeft("counter", "idea")]
        assert not [key for key in cluster.journal() if b"counter" in key]

    run(body)


def test_a_step_goes_on_with_the_text_that_it_began_with_in_another_worker(run):
    def script(digest: str, text: str) -> Script:
        async def pinned(work: Any, ask: Ask) -> str:
            text_ = work.calls.pin(digest, text)
            return await ask(work, f"{text_} {await ask(work, text_)}")

        return pinned

    async def body(cluster: Cluster) -> None:
        worker = await cluster.start({"teller": script("old", "Be kind.")})
        cluster.kill_at("recorded", worker, 3)  # the text, its name, the first answer
        cluster.put(idea())
        await cluster.settle()
        worker = await cluster.start({"teller": script("new", "Be brief.")})
        await cluster.settle()
        (draft,) = cluster.events("draft")
        assert draft.parts["draft"] == "Be kind. Be kind. #1 #1"
        assert cluster.journal(b"c|.texts/old")
        worker.journal.retire(0.0)
        await cluster.settle()
        assert cluster.journal(b"c|") == {}

    run(body)
