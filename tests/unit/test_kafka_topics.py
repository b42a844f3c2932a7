"""Topics that change under a worker, or refuse its records: on a Kafka in memory."""

from faust.types import TP

from penstock.broker.contract import Found
from penstock.broker.kafka.journal import LOST
from penstock.broker.kafka.records import STRETCH, TOPIC
from penstock.broker.kafka.view import View
from penstock.record import events
from penstock.signals import EventsGone, EventsLost, TopicMadeAnew
from tests.unit.kafka_workers import JOURNAL, PLAN, Cluster, Worker, idea, run

__all__ = ["run"]

DEAD_LETTERS = PLAN.dead_letters


# -- deleted, and made anew


async def done_before(cluster: Cluster, count: int = 3) -> Worker:
    """A worker that has done some runs."""
    worker = await cluster.start()
    cluster.put(*(idea(f"old {number}") for number in range(count)))
    await cluster.settle()
    assert len(cluster.events("text")) == count
    return worker


async def notice(worker: Worker) -> None:
    """What the look at the topics does that comes each second."""
    there = await worker.journal.log.standing(PLAN.readers)
    assert worker.journal.others(there) == {"idea"}
    await worker.process.begin(worker.handover.begin_anew({"idea"}))


def test_a_topic_made_anew_is_read_from_its_beginning(run):
    async def body(cluster: Cluster) -> None:
        worker = await done_before(cluster)
        cluster.kafka.make_anew("idea")
        cluster.put(idea("new 0"), idea("new 1"))
        await cluster.settle()
        await notice(worker)
        await cluster.settle()
        assert [one.parts["idea"] for one in cluster.events("text")][3:] == ["new 0", "new 1"]
        assert cluster.is_committed() and worker.said(TopicMadeAnew) == [
            TopicMadeAnew("idea", "11", LOST)
        ]
        assert not worker.journal.others(await worker.journal.log.standing(PLAN.readers))

    run(body)


def test_a_topic_made_anew_while_no_worker_ran_is_noticed_at_the_start(run):
    async def body(cluster: Cluster) -> None:
        await (await done_before(cluster)).stop()
        cluster.kafka.make_anew("idea")
        cluster.put(idea("new 0"))
        worker = await cluster.start()
        await cluster.settle()
        assert [one.parts["idea"] for one in cluster.events("text")][3:] == ["new 0"]
        assert worker.said(TopicMadeAnew) == [TopicMadeAnew("idea", "11", LOST)]

    run(body)


def test_what_was_in_flight_of_a_deleted_topic_is_cut_off_and_marks_nothing_as_done(run):
    async def body(cluster: Cluster) -> None:
        worker = await cluster.start()
        held = cluster.model.hold("write slow")
        cluster.put(idea("slow"))
        await cluster.settle()
        cluster.kafka.make_anew("idea")
        cluster.put(idea("new"))
        await notice(worker)
        held.set()
        await cluster.settle()
        assert [one.parts["idea"] for one in cluster.events("text")] == ["new"]
        assert worker.said(EventsGone) == [EventsGone(1, ("idea",))]

    run(body)


def test_a_worker_that_dies_while_it_forgets_forgets_again(run):
    async def body(cluster: Cluster) -> None:
        await (await done_before(cluster)).stop()
        cluster.kafka.make_anew("idea")
        cluster.put(idea("new 0"))
        dies = await cluster.start()
        dies.kill()
        last = {key: one.value for key, one in cluster.journal(TOPIC).items()}
        assert set(last) == {TOPIC + b"idea", TOPIC + b"draft"}
        await cluster.start()
        await cluster.settle()
        assert [one.parts["idea"] for one in cluster.events("text")][3:] == ["new 0"]

    run(body)


def test_what_was_finished_on_a_deleted_topic_is_not_done_on_the_new_one(run):
    seen = View(PLAN.topics, {DEAD_LETTERS})
    record = Found("idea", 0, 0, 0, b"run", events.dump(idea()))
    seen.add(record)
    seen.add_mark(0, STRETCH + b"teller|idea|one-0", b"[0, 2, [], []]")
    seen.add_mark(0, TOPIC + b"idea", b"old")
    seen.take_over(seen.held_back(), {TP("idea", 0): 2}, {"idea": "old"})
    assert seen.is_done("teller", record)
    seen.take_over(seen.held_back(), {TP("idea", 0): 2}, {"idea": "new"})
    assert not seen.is_done("teller", record)


def test_a_journal_that_was_deleted_under_a_worker_is_written_again(run):
    async def body(cluster: Cluster) -> None:
        worker = await done_before(cluster)
        held = cluster.model.hold("print slow")
        cluster.put(idea("slow"))
        await cluster.settle()
        before = cluster.journal()
        cluster.kafka.make_anew(JOURNAL)
        await worker.process.begin(worker.journal.write_again())
        assert before.keys() <= cluster.journal().keys()
        worker.kill()
        held.set()
        cluster.put(*(idea(f"old {number}") for number in range(3)))  # a client that tries again
        await cluster.start()
        await cluster.settle()
        assert len(cluster.events("text")) == 4
        assert (
            cluster.model.asked.count("write slow") == cluster.model.asked.count("write old 0") == 1
        )

    run(body)


# -- records that Kafka deleted unread


def test_records_deleted_unread_are_counted_without_those_that_were_finished(run):
    async def body(cluster: Cluster) -> None:
        worker = await cluster.start()
        held = cluster.model.hold("write slow")
        cluster.put(idea("slow"), *(idea(f"quick {number}") for number in range(3)))
        await cluster.settle()
        worker.handover.on_lost(TP("idea", 0), 0, 4)
        worker.handover.on_lost(TP("idea", 0), 1, 4)
        assert worker.said(EventsLost) == [EventsLost("idea", 0, 0, 4, 1)]
        held.set()

    run(body)


# -- too large for Kafka


def test_an_output_that_kafka_does_not_take_is_a_dead_letter_that_a_replay_pays_nothing_for(run):
    async def body(cluster: Cluster) -> None:
        cluster.kafka.limits["text"] = 3
        await cluster.start()
        cluster.put(idea())
        await cluster.settle()
        (dead_letter,) = cluster.dead_letters()
        assert (dead_letter.cause, dead_letter.stage) == ("EventTooLarge", "printer")
        assert "'text' takes 3 bytes" in dead_letter.message and dead_letter.record is not None
        assert cluster.is_committed() and cluster.model.asked == ["write a snail", "print a snail"]
        assert cluster.journal(b"c|printer")  # for the replay

    run(body)


def test_a_dead_letter_that_kafka_does_not_take_is_written_without_its_record(run):
    async def body(cluster: Cluster) -> None:
        cluster.kafka.limits[DEAD_LETTERS] = 2000
        await cluster.start()
        cluster.kafka.append("idea", b"run", b"x" * 5000)
        cluster.put(idea())
        await cluster.settle()
        (dead_letter,) = cluster.dead_letters()
        assert dead_letter.record is None and dead_letter.cause == "MalformedEvent"
        assert "does not hold the record: the topic 'penstock-dead-letters'" in dead_letter.message
        assert cluster.is_committed() and len(cluster.events("text")) == 1

    run(body)


def test_a_mark_that_kafka_does_not_take_is_written_when_it_does_and_no_work_is_taken_before(run):
    async def body(cluster: Cluster) -> None:
        worker = await cluster.start()
        cluster.put(idea("a snail"))
        await cluster.settle()
        cluster.kafka.limits[JOURNAL] = 20  # an answer is smaller
        cluster.put(idea("b"))
        await cluster.settle()
        assert not worker.journal.room.is_set() and not cluster.is_committed()
        assert "'penstock-journal' takes 20 bytes" in worker.journal.problems.reason
        asked = len(cluster.model.asked)
        cluster.put(idea("c"))
        await cluster.settle()
        assert len(cluster.model.asked) == asked
        del cluster.kafka.limits[JOURNAL]
        await cluster.settle(10.0)
        assert cluster.is_committed() and worker.journal.problems.reason == ""
        assert len(cluster.events("text")) == 3 == len(set(cluster.model.asked)) / 2

    run(body)


def test_an_answer_that_kafka_does_not_take_ends_its_step_all_the_same(run, caplog):
    async def body(cluster: Cluster) -> None:
        await cluster.start()
        long = idea("x" * 300)
        cluster.kafka.limits[JOURNAL] = 250
        cluster.put(long)
        await cluster.settle()
        assert len(cluster.events("text")) == 1 and cluster.is_committed()
        assert "is not recorded: the topic 'penstock-journal'" in caplog.text

    run(body)
