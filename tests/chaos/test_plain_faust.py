"""What the same kills do to hand-written Faust: rows to compare with; nothing is asserted of it.

Long form only. `recorded` are calls made again although their answer stood on the next topic.
"""

import json
import pathlib
import random
import time
import uuid
from collections.abc import Iterator
from typing import Any

import confluent_kafka
import confluent_kafka.admin
import pytest

from tests.chaos.clusters import SESSION_S
from tests.chaos.evidence import ANSWER, KILL, TERM, Death, find_repeats
from tests.chaos.plain_faust import STAGES, TOPICS
from tests.chaos.trials import SEED
from tests.chaos.verdicts import Verdict
from tests.programs import Worker, environment, wait_until
from tests.servers import ScriptedServer
from tests.servers.kafka import KafkaServer

pytestmark = [
    pytest.mark.timeout(900),
    pytest.mark.long,
]

RUNS = 400
#: Seconds without any progress after which the verdict is spoken over what there is.
STUCK_S = 45.0


class PlainTrial:
    """Workers of hand-written Faust on one Kafka, and what stands on their topics."""

    def __init__(
        self, folder: pathlib.Path, server: ScriptedServer, kafka: KafkaServer, partitions: int
    ) -> None:
        self.folder = folder
        self.server = server
        self.random = random.Random(SEED)
        self.env = environment(
            folder,
            PLAIN_BROKER=f"kafka://{kafka.address}",
            PLAIN_ID=f"plain-{uuid.uuid4().hex}",
            PLAIN_MODEL=server.base_url,
            PLAIN_SESSION_S=str(SESSION_S),
            PLAIN_PARTITIONS=str(partitions),
        )
        self.kafka = kafka
        # Faust ignores a topic for ever that is not there when it starts.
        library: Any = confluent_kafka.admin
        admin = library.AdminClient({"bootstrap.servers": kafka.address})
        made = [library.NewTopic(name, partitions, 1) for name in TOPICS]
        for future in admin.create_topics(made).values():
            future.result(30)
        self.workers: dict[int, Worker] = {}
        self.deaths: list[Death] = []
        self.submitted: list[str] = []
        self.stored: dict[str, dict[str, set[str]]] = {topic: {} for topic in TOPICS}
        self._offsets: dict[tuple[str, int], int] = {}
        self._reader: Any = confluent_kafka.Consumer(
            {
                "bootstrap.servers": kafka.address,
                "group.id": "evidence",
                "enable.auto.commit": False,
                "enable.partition.eof": True,
            }
        )

    def start(self, *slots: int) -> None:
        command = ("-m", "tests.chaos.plain_faust", "worker", "-l", "info", "--without-web")
        for slot in slots:
            env = self.env | {
                "PLAIN_DATA": str(self.folder / f"plain-{slot}"),
                # A new interpreter: in a fork Faust's `worker` is Penstock's by now.
                "PYTHON_OF_ITS_OWN": "1",
            }
            self.workers[slot] = Worker(env, self.folder, command=command)
        for slot in slots:
            self.workers[slot].ready()

    def submit(self) -> None:
        """All runs have begun."""
        producer: Any = confluent_kafka.Producer({"bootstrap.servers": self.kafka.address})
        for _ in range(RUNS):
            trace_id = str(uuid.UUID(int=self.random.getrandbits(128), version=4))
            value = json.dumps({"trace_id": trace_id, "text": "A story"}).encode()
            producer.produce(TOPICS[0], value, trace_id.encode())
            self.submitted.append(trace_id)
        assert producer.flush(30) == 0

    def wait_for_calls(self, share: float) -> None:
        wanted = share * STAGES * RUNS
        wait_until(lambda: len(self.server.logged("answered")) >= wanted, "calls", 120)

    def end(self, slot: int, how: str) -> None:
        worker = self.workers.pop(slot)
        t = time.time()
        if how == KILL:
            worker.kill()
        else:
            worker.stop()
        self.read()
        durable = {
            f"{trace} {call}"
            for topic in TOPICS[1:]
            for trace, calls in self.stored[topic].items()
            for call in calls
        }
        line = len(self.server.logged())
        self.deaths.append(Death(how, t, line, frozenset(durable), 0, ()))

    def read(self) -> int:
        """How many records stand on all topics, which are read to their ends."""
        there = self._reader.list_topics(timeout=30).topics
        tps = [
            confluent_kafka.TopicPartition(name, part, self._offsets.get((name, part), 0))
            for name in TOPICS
            if name in there
            for part in there[name].partitions
        ]
        self._reader.assign(tps)
        left = {(tp.topic, tp.partition) for tp in tps}
        while left:
            for record in self._reader.consume(500, timeout=0.05):
                partition = (record.topic(), record.partition())
                if record.error() is not None:
                    left.discard(partition)
                    continue
                self._offsets[partition] = record.offset() + 1
                draft = json.loads(record.value())
                calls = self.stored[record.topic()].setdefault(draft["trace_id"], set())
                calls.update(ANSWER.findall(draft["text"])[:1])
        self._reader.unassign()
        return sum(self._offsets.values())

    def judge(self) -> Verdict:
        seen, seen_at = -1, time.monotonic()
        while len(self.stored[TOPICS[-1]]) < RUNS and time.monotonic() - seen_at < STUCK_S:
            count = self.read()
            if count != seen:
                seen, seen_at = count, time.monotonic()
            time.sleep(0.5)
        lines = self.server.logged()
        lost = sum(trace_id not in self.stored[TOPICS[-1]] for trace_id in self.submitted)
        asked = sum(line["phase"] == "asked" for line in lines)
        return Verdict(RUNS, self.deaths, lost, asked, find_repeats(lines, self.deaths), [], [])

    def close(self) -> None:
        for worker in self.workers.values():
            worker.kill()
        self._reader.close()


@pytest.fixture(params=[4])
def plain(
    request: pytest.FixtureRequest,
    tmp_path: pathlib.Path,
    server: ScriptedServer,
    kafka_to_kill: KafkaServer,
) -> Iterator[PlainTrial]:
    trial = PlainTrial(tmp_path, server, kafka_to_kill, request.param)
    try:
        yield trial
    finally:
        trial.close()


twelve = pytest.mark.parametrize("plain", [12], indirect=True)


def test_plain_faust_with_kills_of_one_worker(plain: PlainTrial, judged: list[Verdict]) -> None:
    plain.start(1)
    plain.submit()
    for share in (0.1, 0.4, 0.7):
        plain.wait_for_calls(share)
        plain.end(1, KILL)
        plain.start(1)
    judged.append(plain.judge())


@twelve
def test_plain_faust_with_kills_among_three_workers(
    plain: PlainTrial, judged: list[Verdict]
) -> None:
    plain.start(1, 2, 3)
    plain.submit()
    for share in (0.1, 0.4, 0.7):
        plain.wait_for_calls(share)
        slot = plain.random.choice((1, 2, 3))
        plain.end(slot, KILL)
        plain.start(slot)
    judged.append(plain.judge())


@twelve
def test_plain_faust_with_workers_that_join_and_leave(
    plain: PlainTrial, judged: list[Verdict]
) -> None:
    plain.start(1)
    plain.submit()
    plain.wait_for_calls(0.1)
    plain.start(2)
    plain.wait_for_calls(0.3)
    plain.start(3)
    plain.end(1, TERM)
    plain.wait_for_calls(0.6)
    plain.start(1)
    plain.end(2, TERM)
    judged.append(plain.judge())
