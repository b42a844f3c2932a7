"""An event's life on Kafka (DESIGN, section 5), on a Kafka in memory: workers are killed, suspended
and rebalanced at chosen points, and others take over from what stands on the topics."""

import asyncio
import random
from typing import Any

import pytest

from penstock.journal import CLAIMS
from penstock.record import cancels
from penstock.record.steps import DONE
from penstock.steps import Work
from tests.unit.kafka_workers import (
    PLAN,
    SESSION_S,
    SPECS,
    Ask,
    Cluster,
    Script,
    Worker,
    idea,
    print_,
    run,
    write,
)

__all__ = ["run"]

#: Of the first step: how often its call was made in all, how often its output was sent, and whether
#: its event was delivered again, by the point at which its worker was killed.
LIFE = {
    "asked": (2, 1, True),
    "answered": (2, 1, True),
    "recorded": (1, 1, True),
    "outputs sent": (1, 2, True),
    "step records written": (1, 2, True),
    "progress written": (1, 1, True),
    "acked": (1, 1, True),
    "committed": (1, 1, False),
}
#: After these an answer is durable.
RECORDED = [point for point in LIFE if point not in ("asked", "answered")]
#: At these the answer is durable, and no record of the step.
UNENDED = ("recorded", "outputs sent")
WRITE, PRINT = "write a snail", "print a snail"


async def killed(cluster: Cluster, point: str, passing: int = 1, **options: Any) -> Worker:
    """A worker that was killed at `point`, if it came there."""
    worker = await cluster.start(**options)
    cluster.kill_at(point, worker, passing)
    await cluster.settle()
    return worker


# -- kills


@pytest.mark.parametrize("point", LIFE)
def test_a_run_ends_once_when_its_worker_is_killed_at(point: str, run):
    async def body(cluster: Cluster) -> None:
        calls, sends, again = LIFE[point]
        cluster.put(idea())
        first = await killed(cluster, point)
        assert not first.process.alive
        assert (f"{WRITE} #1" in cluster.answers()) == (point in RECORDED)
        left = cluster.count()
        await cluster.settle()
        assert cluster.count() == left, "nothing leaves a dead worker"

        second = await cluster.start()
        await cluster.settle()
        assert (cluster.model.asked.count(WRITE), cluster.model.asked.count(PRINT)) == (calls, 1)
        drafts = cluster.events("draft")
        assert len(drafts) == sends and len({event.id for event in drafts}) == 1
        texts = cluster.events("text")
        # Steps whose records are written together are marked together, too.
        assert len(texts) == (2 if point == "step records written" else 1)
        assert {(text.id, text.parts["text"]) for text in texts} == {(texts[0].id, f"{PRINT} #1")}
        assert (("idea", 0, 0) in second.consumer.delivered) == again
        assert cluster.is_committed()
        ended = cluster.step_records().values()
        assert sorted(one.stage for one in ended) == ["printer", "teller"]
        for one in ended:
            (call,) = one.calls
            assert one.end == DONE and len(one.outputs) == 1
            assert call.recalled == (one.stage == "teller" and point in UNENDED)

    run(body)


@pytest.mark.parametrize("second", LIFE)
@pytest.mark.parametrize("first", LIFE)
def test_a_run_ends_once_when_the_next_worker_is_killed_too(first, second, run):
    async def body(cluster: Cluster) -> None:
        cluster.put(idea())
        for point in (first, second):
            recorded = cluster.answers()
            asked = len(cluster.model.asked)
            await killed(cluster, point)
            keeps_the_promise(cluster, recorded, asked)
            cluster.compact()
        recorded, asked = cluster.answers(), len(cluster.model.asked)
        await cluster.start()
        await cluster.settle()
        keeps_the_promise(cluster, recorded, asked)
        assert len({event.id for event in cluster.events("text")}) == 1
        assert cluster.is_committed() and cluster.dead_letters() == []

    run(body)


def keeps_the_promise(cluster: Cluster, recorded: set[str], asked: int) -> None:
    """Nothing that was `recorded` when so many had been `asked` was asked again since."""
    paid = {answer.rpartition(" #")[0] for answer in recorded}
    assert not paid & set(cluster.model.asked[asked:])


@pytest.mark.parametrize("seed", range(12))
def test_many_runs_end_once_when_workers_are_killed_and_join_at_random(seed: int, run):
    async def body(cluster: Cluster) -> None:
        chance = random.Random(seed)
        runs = [idea(f"snail {n}") for n in range(12)]
        cluster.put(*runs[:6])
        others: list[Worker] = []
        for event in runs[6:]:
            recorded, asked = cluster.answers(), len(cluster.model.asked)
            worker = await cluster.start(None, *others)
            cluster.kill_at(chance.choice(list(LIFE)), worker, chance.randrange(1, 6))
            cluster.put(event)
            await cluster.settle(chance.choice([0.01, 0.1, SESSION_S]))
            worker.kill()
            keeps_the_promise(cluster, recorded, asked)
            if chance.random() < 0.5:
                cluster.compact()
            others = [await cluster.start()] if chance.random() < 0.5 else []
        await cluster.share(*(others or [await cluster.start()]))
        await cluster.settle()
        ended = cluster.events("text")
        assert {event.trace_id for event in ended} == {event.trace_id for event in runs}
        assert len({event.id for event in ended}) == len(runs)
        assert cluster.is_committed() and cluster.dead_letters() == []

    run(body, partitions=3)


def test_of_a_step_of_two_calls_the_first_is_not_made_again(run):
    async def twice(work: Work, ask: Ask) -> str:
        return await ask(work, "first") + await ask(work, "second")

    async def body(cluster: Cluster) -> None:
        cluster.put(idea())
        await killed(cluster, "answered", 2, scripts={"teller": twice})
        await cluster.start({"teller": twice})
        await cluster.settle()
        assert cluster.model.asked[:3] == ["first", "second", "second"]
        assert cluster.events("draft")[0].parts["draft"] == "first #1second #2"

    run(body)


def test_equal_calls_of_a_step_are_recalled_each(run):
    async def thrice(work: Work, ask: Ask) -> list[str]:
        return [await ask(work, "again") for _ in range(3)]

    async def body(cluster: Cluster) -> None:
        cluster.put(idea())
        await killed(cluster, "recorded", 2, scripts={"teller": thrice})
        await cluster.start({"teller": thrice})
        await cluster.settle()
        assert cluster.model.asked.count("again") == 3
        (draft,) = cluster.events("draft")
        assert draft.parts["draft"] == ["again #1", "again #2", "again #3"]

    run(body)


def test_a_finished_step_leaves_no_answers_behind(run):
    async def body(cluster: Cluster) -> None:
        await cluster.start()
        cluster.put(idea())
        await cluster.settle()
        assert cluster.answers() and cluster.journal(b"c|") == {}

    run(body)


def test_a_dead_letter_is_written_once_and_its_replay_pays_for_nothing_again(run):
    mood = {"bad": True}

    async def moody(work: Work, ask: Ask) -> str:
        answer = await ask(work, "first")
        if mood["bad"]:
            raise ValueError("not today")
        return answer

    async def body(cluster: Cluster) -> None:
        event = idea()
        cluster.put(event)
        await killed(cluster, "outputs sent", scripts={"teller": moody})
        await cluster.start({"teller": moody})
        await cluster.settle()
        assert {dead_letter.cause for dead_letter in cluster.dead_letters()} == {"StepFailed"}
        assert len({dead_letter.id for dead_letter in cluster.dead_letters()}) == 1
        assert cluster.is_committed() and cluster.journal(b"c|"), "kept for a replay"
        mood["bad"] = False
        cluster.put(event, replay=1, only="teller")
        await cluster.settle()
        assert cluster.model.asked == ["first", PRINT]
        assert len(cluster.events("text")) == 1 and cluster.journal(b"c|") == {}

    run(body)


# -- partitions that change hands


def test_an_event_in_flight_joins_its_redelivery(run):
    async def body(cluster: Cluster) -> None:
        answer = cluster.model.hold(WRITE)
        cluster.put(idea())
        first = await cluster.start()
        await cluster.settle()
        await cluster.start(None, first)
        await cluster.settle()
        assert first.consumer.delivered == [("idea", 0, 0)] * 2
        assert first.stages["teller"].in_flight == 1
        answer.set()
        await cluster.settle()
        assert cluster.model.asked == [WRITE, PRINT]
        assert len(cluster.events("draft")) == 1 and cluster.is_committed()

    run(body)


def test_what_another_worker_is_given_is_recalled_there_and_goes_on_nowhere_else(run):
    async def twice(work: Work, ask: Ask) -> str:
        return await ask(work, "first") + await ask(work, "second")

    async def body(cluster: Cluster) -> None:
        answer = cluster.model.hold("second")
        cluster.put(idea())
        first = await cluster.start({"teller": twice})
        await cluster.settle()
        second = Worker(cluster, {"teller": twice, "printer": print_})
        await cluster.share(second, first)  # which leaves no partition for the first
        answer.set()
        await cluster.settle()
        assert first.stages["teller"].in_flight == 0
        # The one in flight could not be finished here in the time that it was given.
        assert cluster.model.asked == ["first", "second", "second", PRINT]
        assert len(cluster.events("draft")) == 1 and cluster.is_committed()

    run(body)


def test_a_worker_that_stops_is_not_taken_for_dead(run):
    async def body(cluster: Cluster) -> None:
        first = await cluster.start()
        cluster.put(idea())
        await cluster.settle()
        await first.stop()
        assert cluster.journal(b"o|") == {}
        second = await cluster.start()
        cluster.put(idea("another"))
        await cluster.settle()
        assert len(cluster.journal(b"o|")) == 1 and second.journal.suspects._careful == {}

    run(body)


# -- suspended workers


async def twice(work: Work, ask: Ask) -> str:
    return await ask(work, "first") + await ask(work, "second")


def test_a_suspended_worker_that_resumes_does_not_pay_for_what_others_have(run):
    async def body(cluster: Cluster) -> None:
        answer = cluster.model.hold("first")
        cluster.put(idea())
        first = await cluster.start({"teller": twice})
        await cluster.settle()
        first.process.suspend()
        answer.set()
        await cluster.settle(2 * SESSION_S)
        second = await cluster.start({"teller": twice})
        await cluster.settle()
        assert cluster.model.asked == ["first", "first", "second", PRINT]
        first.process.resume()
        await cluster.settle(SESSION_S)
        assert cluster.model.asked == ["first", "first", "second", PRINT]
        assert first.stages["teller"].in_flight == 0
        # The group takes it back, and shares with it.
        await cluster.share(first, second)
        cluster.put(idea("another"))
        await cluster.settle()
        assert len(cluster.events("text")) == 2 and cluster.is_committed()
        assert len(cluster.events("draft")) == 2

    run(body)


def test_a_suspended_worker_that_nobody_has_missed_goes_on_with_what_it_recorded(run):
    async def body(cluster: Cluster) -> None:
        answer = cluster.model.hold("second")
        cluster.put(idea())
        worker = await cluster.start({"teller": twice})
        await cluster.settle()
        worker.process.suspend()
        await cluster.settle(2 * SESSION_S)
        worker.process.resume()
        answer.set()
        await cluster.settle(SESSION_S)
        # The answer that came back with it is recorded when the group has said that it is still in.
        assert cluster.model.asked == ["first", "second", PRINT]
        assert len(cluster.events("text")) == 1 and cluster.is_committed()

    run(body)


def test_a_suspended_worker_does_not_send_the_output_of_a_step_that_others_have_finished(run):
    async def body(cluster: Cluster) -> None:
        go = asyncio.Event()

        async def slow(work: Work, ask: Ask) -> str:
            answer = await write(work, ask)
            await go.wait()
            return answer

        cluster.put(idea())
        first = await cluster.start({"teller": slow})
        await cluster.settle()
        first.process.suspend()
        await cluster.settle(2 * SESSION_S)
        await cluster.start()
        await cluster.settle()
        first.process.resume()
        go.set()
        await cluster.settle(SESSION_S)
        assert cluster.model.asked == [WRITE, PRINT] and len(cluster.events("draft")) == 1

    run(body)


@pytest.mark.parametrize("point", [None, "recorded"])
def test_a_worker_that_missed_what_happened_to_its_partitions_reads_the_journal_anew(point, run):
    async def body(cluster: Cluster) -> None:
        answer = cluster.model.hold("first")
        cluster.put(idea())
        first = await cluster.start({"teller": twice})
        await cluster.settle()
        first.process.suspend()
        cluster.model.slow.clear()
        second = await cluster.start({"teller": twice})
        if point:
            cluster.kill_at(point, second)
        await cluster.settle()
        asked = list(cluster.model.asked)
        second.kill()
        # It is given them back before it looks at its clock, and the answer that it waited for
        # comes then.
        first.process.resume()
        await cluster.share(first)
        answer.set()
        await cluster.settle()
        rest = ["second", PRINT] if point else []
        assert cluster.model.asked == asked + rest
        assert len(cluster.events("draft")) == len(cluster.events("text")) == 1
        assert cluster.is_committed()

    run(body)


# -- what was delivered


@pytest.mark.parametrize("committed", [False, True])
def test_a_hole_in_what_was_delivered_is_not_finished(committed: bool, run):
    async def body(cluster: Cluster) -> None:
        first = await cluster.start()
        first.consumer.dropped.add(("idea", 1))
        cluster.put(idea("one"), idea("two"), idea("three"))
        await cluster.settle(1.0 if committed else 0.1)
        assert len(cluster.events("text")) == 2
        first.kill()
        await cluster.start()
        await cluster.settle()
        assert [text.parts["idea"] for text in cluster.events("text")] == ["one", "three", "two"]
        assert cluster.model.asked.count("write one") == 1 and cluster.is_committed()

    run(body)


def test_what_is_finished_above_an_open_event_is_not_made_again(run):
    async def body(cluster: Cluster) -> None:
        answer = cluster.model.hold("write slow")
        first = await cluster.start()
        cluster.put(idea("slow"), *(idea(f"{n}") for n in range(5)))
        await cluster.settle()
        first.kill()
        answer.set()
        await cluster.start()
        await cluster.settle()
        assert [q for q in cluster.model.asked if cluster.model.asked.count(q) > 1] == [
            "write slow"
        ] * 2
        assert len(cluster.events("text")) == 6 and cluster.is_committed()

    run(body)


def test_a_malformed_record_is_a_dead_letter_and_stops_nothing(run):
    async def body(cluster: Cluster) -> None:
        cluster.put((b"k", b"no event"), idea())
        await killed(cluster, "outputs sent")
        await cluster.start()
        await cluster.settle()
        assert {dead_letter.cause for dead_letter in cluster.dead_letters()} == {"MalformedEvent"}
        assert len(cluster.events("text")) == 1 and cluster.is_committed()

    run(body)


# -- claims


@pytest.mark.parametrize("point", RECORDED)
def test_a_claim_is_one_events_whatever_is_killed(point: str, run):
    async def claim(work: Work, ask: Ask) -> list[Any]:
        held = await work.claim(work.parts["idea"])
        return [held.value, held.mine]

    async def body(cluster: Cluster) -> None:
        scripts: dict[str, Script] = {"teller": claim}
        event = idea("one")
        cluster.put(event)
        cluster.put(event, id="another", parent_id=event.id, parts={"idea": "two"})
        await killed(cluster, point, scripts=scripts)
        await cluster.start(scripts)
        await cluster.settle()
        made = {event.id: event.parts["draft"] for event in cluster.events("draft")}
        assert list(made.values()) == [["one", True], ["one", False]]

    run(body)


# -- cancelled runs


def test_a_run_that_was_cancelled_while_nobody_was_there_is_not_paid_for(run):
    async def body(cluster: Cluster) -> None:
        event = idea()
        cluster.put(event, idea("another"))
        cluster.kafka.append(cancels.topic_name(PLAN.app_id), event.key, b"{}")
        await cluster.start()
        await cluster.settle()
        assert cluster.model.asked == ["write another", "print another"]
        assert cluster.is_committed()

    run(body)


def test_a_run_that_is_cancelled_in_flight_is_cut_off_for_good(run):
    async def body(cluster: Cluster) -> None:
        event = idea()
        cluster.model.hold("second")
        cluster.put(event)
        worker = await cluster.start({"teller": twice})
        await cluster.settle()
        await worker.stages.cancel(event.key)
        await cluster.settle()
        assert cluster.is_committed() and cluster.journal(b"c|") == {}
        worker.kill()
        await cluster.start({"teller": twice})
        await cluster.settle()
        assert cluster.model.asked == ["first", "second"] and cluster.events("draft") == []

    run(body)


# -- the event that kills its worker


def test_the_event_that_kills_its_worker_is_found_and_nobody_else_is(run):
    async def body(cluster: Cluster) -> None:
        async def deadly(work: Work, ask: Ask) -> str:
            if work.parts["idea"] == "bad":
                alive.process.kill()
                alive.kill()
            return await write(work, ask)

        runs = [idea("bad" if n == 5 else f"{n}") for n in range(12)]
        cluster.put(*runs)
        deaths = 0
        while not cluster.dead_letters():
            alive = await cluster.start({"teller": deadly})
            await cluster.settle()
            deaths += not alive.process.alive
            assert deaths < 20
        await cluster.settle()
        (dead_letter,) = cluster.dead_letters()
        assert (dead_letter.cause, dead_letter.trace_id) == ("KilledWorker", runs[5].trace_id)
        assert len({event.trace_id for event in cluster.events("text")}) == 11
        alive.kill()
        await cluster.start()
        await cluster.settle()
        assert cluster.is_committed() and cluster.journal(b"m|") == {}

    run(body)


def test_claims_are_kept_under_a_name_that_no_stage_has():
    assert not any(CLAIMS.startswith(spec.name) for spec in SPECS)
