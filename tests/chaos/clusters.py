"""A trial of workers by their slots on one broker, and the verdict.

The verdict is made from outside: from what stands on the broker, which `Evidence` reads without
Penstock's code, from the model server's log, and from `penstock.client`.
"""

import asyncio
import dataclasses
import json
import pathlib
import random
import signal
import time
import uuid
from collections.abc import Iterable, Mapping
from typing import Any, Protocol

import confluent_kafka

from penstock.client import Client
from penstock.runs.runs import DONE
from penstock.settings import Settings
from tests import programs
from tests.chaos.evidence import (
    END,
    KILL,
    READERS,
    RESPONSE_ID,
    TERM,
    TOPICS,
    Death,
    Stored,
    find_repeats,
    read_file,
)
from tests.chaos.trials import CRASHED, SEED, SLOW, premise_of
from tests.chaos.verdicts import Verdict, check_calls, check_records, check_repeats, check_stories
from tests.programs import Worker, wait_until
from tests.servers import ScriptedServer

#: Seconds of silence after which a worker is taken for dead: a killed one's partitions stand still
#: for so long. With less, a machine that is busy with other things suspends workers by itself.
SESSION_S = 6.0
#: Seconds without any progress after which the verdict is spoken over what there is.
STUCK_S = 60.0
#: What the journal's records of names that are taken and of cards' texts begin with, and what those
#: that name a step's text end with: they are no answers.
CLAIM, TEXT, PIN = b"c|.claims/", b"c|.texts/", b"/pin"


class Evidence(Protocol):
    """What stands on a broker, as of the last `read`."""

    events: list[Stored]
    dead_letters: list[dict[str, Any]]
    #: The calls whose answers were ever durable, as `find_repeats` looks for them.
    durable: set[str]

    def read(self) -> None: ...

    def behind(self) -> dict[str, int]:
        """How many records of each topic are not finished."""

    def close(self) -> None: ...


class KafkaEvidence:
    """What stands on the topics, read from their beginning by librdkafka: the events on `topics`,
    and how far the group `app_id` is with those that are `read`."""

    def __init__(
        self, address: str, app_id: str, topics: Iterable[str], read: Iterable[str]
    ) -> None:
        self._app_id = app_id
        self._client: Any = confluent_kafka.Consumer(
            {
                "bootstrap.servers": address,
                "group.id": app_id,
                "enable.auto.commit": False,
                "auto.offset.reset": "earliest",
                "enable.partition.eof": True,
            }
        )
        self._topics, self._read = tuple(topics), tuple(read)
        self._offsets: dict[tuple[str, int], int] = {}
        self.events: list[Stored] = []
        self.dead_letters: list[dict[str, Any]] = []
        #: The calls whose answers were ever durable.
        self.durable: set[str] = set()

    def read(self) -> None:
        """All that stands there now has been read."""
        topics = self._client.list_topics(timeout=30).topics
        tps = [
            confluent_kafka.TopicPartition(name, part, self._offsets.get((name, part), 0))
            for name in (*self._topics, f"{self._app_id}-journal", f"{self._app_id}-dead-letters")
            if name in topics
            for part in topics[name].partitions
        ]
        if not tps:
            return
        self._client.assign(tps)
        left = {(tp.topic, tp.partition) for tp in tps}
        while left:
            for record in self._client.consume(500, timeout=0.05):
                partition = (record.topic(), record.partition())
                if record.error() is not None:
                    assert record.error().code() == confluent_kafka.KafkaError._PARTITION_EOF
                    left.discard(partition)
                    continue
                self._offsets[partition] = record.offset() + 1
                self._take(record)
        self._client.unassign()

    def _take(self, record: Any) -> None:
        topic, key, value = record.topic(), record.key() or b"", record.value()
        if topic in self._topics:
            event = json.loads(value)
            stored = Stored(topic, record.partition(), record.offset(), key.decode(), event)
            self.events.append(stored)
            if stored.call:
                self.durable.add(f"{stored.key} {stored.call}")
        elif topic.endswith("dead-letters"):
            self.dead_letters.append(json.loads(value))
        elif key.startswith((CLAIM, TEXT)) or key.endswith(PIN):
            pass
        elif key.startswith(b"c|") and value is not None:
            found = RESPONSE_ID.search(value)
            assert found is not None, f"a recorded answer without a response: {value!r}"
            self.durable.add(f"entry {found[1].decode()}")

    def behind(self) -> dict[str, int]:
        """How many records of each topic the group has not committed."""
        left = {}
        for topic in self._read:
            count = 0
            tps = [confluent_kafka.TopicPartition(topic, part) for part in self._partitions(topic)]
            for tp in self._client.committed(tps, timeout=30):
                low, high = self._client.get_watermark_offsets(tp, timeout=30)
                count += high - (tp.offset if tp.offset >= 0 else low)
            if count:
                left[topic] = count
        return left

    def _partitions(self, topic: str) -> list[int]:
        return list(self._client.list_topics(topic, timeout=30).topics[topic].partitions)

    def close(self) -> None:
        self._client.close()


class FileEvidence:
    """The same of an embedded file."""

    def __init__(
        self, file: pathlib.Path, topics: Iterable[str], readers: Mapping[str, str]
    ) -> None:
        self._file, self._topics, self._readers = file, tuple(topics), readers
        self.events: list[Stored] = []
        self.dead_letters: list[dict[str, Any]] = []
        self.durable: set[str] = set()

    def read(self) -> None:
        file = read_file(self._file, self._readers)
        self.events = [stored for stored in file.events if stored.topic in self._topics]
        self.dead_letters = file.dead_letters
        self.durable |= file.durable

    def behind(self) -> dict[str, int]:
        return read_file(self._file, self._readers).unfinished

    def close(self) -> None:
        pass


class Cluster:
    """One broker, one model server, and workers by their slots."""

    #: The topics that hold a run's events, and who reads a topic.
    topics: tuple[str, ...] = TOPICS
    readers: Mapping[str, str] = READERS
    #: Calls that a run needs.
    calls = len(TOPICS) - 1

    def __init__(
        self,
        name: str,
        folder: pathlib.Path,
        server: ScriptedServer,
        url: str,
        **settings: str,
    ) -> None:
        self.folder = folder
        self.server = server
        self.url = url
        self.app_id = f"penstock-{uuid.uuid4().hex[:8]}"
        self.random = random.Random(f"{SEED}{name}")
        self.env = programs.environment(
            folder,
            **{
                "PENSTOCK_SEED": "0",
                "PENSTOCK_BROKER": url,
                "PENSTOCK_APP_ID": self.app_id,
                "PENSTOCK_SESSION_S": str(SESSION_S),
                "PENSTOCK_MODEL": f"{server.base_url}#scripted",
                "PENSTOCK_TEST_CALLS": str(server.log_path),
                "PENSTOCK_EVENT_LOG": "off",
                **settings,
            },
        )
        self.submitted: list[str] = []
        self.deaths: list[Death] = []
        self.recovery_s: list[float] = []
        self.workers: dict[int, Worker] = {}
        self._evidence: Evidence | None = None

    # -- runs

    def client(self) -> Client:
        return Client(Settings.read(self.env))

    def submit(self, count: int) -> None:
        """`count` more runs have begun. On Kafka, a worker must have made the topics."""
        ids = [str(uuid.UUID(int=self.random.getrandbits(128), version=4)) for _ in range(count)]

        async def submit() -> None:
            async with self.client() as client:
                await client.submit_many("story", [({"premise": premise_of(i)}, i) for i in ids])

        asyncio.run(submit())
        self.submitted += ids

    # -- workers

    def start(self, *slots: int, crash: str | None = None, **settings: str) -> None:
        """Workers in `slots` are ready. With `crash`, they kill themselves there some time."""
        command = ("-m", "penstock", "worker", "-l", "info")
        env = self.env | settings
        if crash is not None:
            command = ("-m", "tests.chaos.crashing_worker", *command[2:])
            env = env | {"PENSTOCK_TEST_CRASH": crash}
        for slot in slots:
            own = env | {"PENSTOCK_DATA": str(self.folder / f"data-{slot}")}
            self.workers[slot] = Worker(own, self.folder, command=command)
        if crash is None:
            for slot in slots:
                self.workers[slot].ready()

    def kill(self, slot: int, how: str = KILL) -> None:
        """`kill -9`, now."""
        t = time.time()
        self._alive(slot).kill()
        self.note_death(slot, how, t)

    def wait_for_crash(self, slot: int) -> None:
        """A worker that was started with `crash` has killed itself."""
        worker = self.workers[slot]
        wait_until(lambda: worker.process.poll() is not None, f"a crash:\n{worker.text()[-2000:]}")
        found = CRASHED.search(worker.text())
        assert found is not None, f"it was killed by somebody else:\n{worker.text()[-3000:]}"
        self.note_death(slot, KILL, float(found[2]))

    def terminate(self, slot: int) -> None:
        """SIGTERM: what was in flight has ended, and so has the worker."""
        t = time.time()
        worker = self._alive(slot)
        code = worker.stop()
        assert code == 0, f"exit code {code}:\n{worker.text()[-3000:]}"
        self.note_death(slot, TERM, t)

    def suspend(self, slot: int, seconds: float) -> None:
        """SIGSTOP for longer than the session, and back: a zombie."""
        t = time.time()
        process = self._alive(slot).process
        process.send_signal(signal.SIGSTOP)
        try:
            self.note_death(slot, "SIGSTOP", t, gone=False)
            time.sleep(max(0.0, t + seconds - time.time()))
            # What others have recorded meanwhile must not be asked for again by the zombie.
            self.note_death(slot, "SIGCONT", time.time(), gone=False)
        finally:
            process.send_signal(signal.SIGCONT)

    def _alive(self, slot: int) -> Worker:
        worker = self.workers[slot]
        assert worker.process.poll() is None, f"it had ended:\n{worker.text()[-3000:]}"
        return worker

    def note_death(self, slot: int, how: str, t: float, *, gone: bool = True) -> None:
        """The worker in `slot` has ended at `t`, and this is what was durable by then."""
        if gone:
            del self.workers[slot]
        # First what is durable, then where the server's log is: what is asked after that and was
        # durable before is a call paid for twice.
        self.evidence.read()
        durable = frozenset(self.evidence.durable)
        line = len(self.server.logged())
        self.deaths.append(Death(how, t, line, durable, 0, ()))

    def recovered(self, since: float) -> None:
        """Something was answered by a worker since the last death."""
        before = len(self.server.logged("answered"))
        wait_until(lambda: len(self.server.logged("answered")) > before, "work to go on")
        self.recovery_s.append(time.time() - since)

    def wait_for_calls(self, *, answered: float = 0.0, open_: int = 0) -> None:
        """So large a share of all calls are answered, and so many wait for their answers."""
        wanted = answered * self.calls * len(self.submitted)

        def there() -> bool:
            done = len(self.server.logged("answered"))
            return done >= wanted and len(self.server.logged("asked")) - done >= open_

        wait_until(there, f"{wanted:.0f} answers and {open_} calls in flight", 120)

    def wait_for_a_crowd(self, *, answered: float, count: int) -> None:
        """So large a share of all calls are answered, and `count` wait for slow answers: of
        `count` more runs, when there is little else to do by then."""
        self.wait_for_calls(answered=answered)
        self.server.script([{**SLOW, "times": 3 * count + 10}])
        self.submit(count)
        self.wait_for_calls(open_=count)

    @property
    def evidence(self) -> Evidence:
        if self._evidence is None:
            scheme, _, location = self.url.partition("://")
            self._evidence = (
                FileEvidence(pathlib.Path(location), self.topics, self.readers)
                if scheme == "sqlite"
                else KafkaEvidence(location, self.app_id, self.topics, self.readers)
            )
        return self._evidence

    def close(self) -> None:
        """No worker of this trial is left."""
        for worker in self.workers.values():
            worker.process.send_signal(signal.SIGCONT)
            worker.kill()
        self.workers.clear()
        if self._evidence is not None:
            self._evidence.close()

    # -- the verdict

    def judge(self) -> Verdict:
        """Everything has ended, the workers were stopped, and this is what came of it."""
        self._wait_for_the_end()
        for slot in list(self.workers):
            self.terminate(slot)
            self.deaths[-1] = dataclasses.replace(self.deaths[-1], how=END)
        lines = self.server.logged()
        faults = [f"a dead letter: {dead_letter}" for dead_letter in self.evidence.dead_letters]
        faults += [f"{n} events on '{t}' are behind" for t, n in self.evidence.behind().items()]
        faults += check_calls(dict.fromkeys(self.submitted, self.calls), lines)
        lost, found = self._check_runs(lines)
        faults += found + asyncio.run(self._read_as_a_client(lines))
        repeats = find_repeats(lines, self.deaths)
        faults += check_repeats(repeats)
        asked = sum(line["phase"] == "asked" for line in lines)
        return Verdict(
            len(self.submitted), self.deaths, lost, asked, repeats, self.recovery_s, faults
        )

    def _wait_for_the_end(self) -> None:
        seen, seen_at = -1, time.monotonic()
        while True:
            for slot in list(self.workers):
                self._alive(slot)
            self.evidence.read()
            ids = {stored.event["id"] for stored in self.evidence.events}
            if len(ids) >= len(self.topics) * len(self.submitted) and not self.evidence.behind():
                return
            if len(self.evidence.events) != seen:
                seen, seen_at = len(self.evidence.events), time.monotonic()
            if time.monotonic() - seen_at > STUCK_S:
                return  # the verdict says what is missing
            time.sleep(0.2)

    def _check_runs(self, lines: list[dict[str, Any]]) -> tuple[int, list[str]]:
        """How many runs do not have one event on each topic, by its id: a crash may send an output
        twice, and nobody downstream makes anything of the second."""
        first: dict[tuple[str, str], Stored] = {}
        for stored in self.evidence.events:
            first.setdefault((stored.topic, stored.event["id"]), stored)
        return check_stories(self.submitted, first.values(), lines)

    async def _read_as_a_client(self, lines: list[dict[str, Any]]) -> list[str]:
        faults = []
        async with self.client() as client:
            await client.refresh()
            for trace_id in self.submitted:
                run = await client.read(trace_id)
                topics = sorted(entry.topic for entry in run.entries)
                if run.state != DONE or topics != sorted(TOPICS):
                    faults.append(f"run {trace_id} is {run.state} with events on {topics}")
                else:
                    faults += check_records(trace_id, client.index.steps(trace_id), lines)
        return faults
