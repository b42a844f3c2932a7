"""A real Kafka whose topics change under a worker, or refuse or hold what it cannot use."""

import importlib
import json
import pathlib
import re
from functools import partial
from typing import Any

import pytest

from tests.missing import skip_without
from tests.programs import Worker, environment, penstock, wait_until, worker

pytestmark = pytest.mark.timeout(180)

STEP = """
from penstock.steps import Work, step

@step("answer")
def answer(work: Work) -> str:
    return f"answer to {next(iter(work.parts.values()))}"
"""


class House:
    """A pipeline of one step from topic `q` to topic `a`, on a Kafka."""

    def __init__(self, address: str, group: str, folder: pathlib.Path) -> None:
        try:
            self._library: Any = importlib.import_module("confluent_kafka.admin")
            self._producing: Any = importlib.import_module("confluent_kafka")
        except ImportError:
            skip_without("pip install confluent-kafka")
        self.address, self.folder = address, folder
        self.q, self.a = f"q-{group}", f"a-{group}"
        for name in ("agents", "topics", "steps"):
            (folder / "project" / name).mkdir(parents=True)
        chain = {
            "pipeline": "ask",
            "topics": {self.q: "question", self.a: "answer"},
            "stages": [{"reads": self.q, "step": "answer", "writes": self.a}],
        }
        (folder / "project" / "topics" / "ask.yaml").write_text(json.dumps(chain))
        (folder / "project" / "steps" / "work.py").write_text(STEP)
        self.env = environment(
            folder,
            PENSTOCK_BROKER=f"kafka://{address}",
            PENSTOCK_PROJECT=str(folder / "project"),
            PENSTOCK_APP_ID=group,
            PENSTOCK_PARTITIONS="2",
        )
        self._admin = self._library.AdminClient({"bootstrap.servers": address})

    def worker(self) -> Any:
        return worker(self.env, self.folder)

    def submit(self, text: str) -> str:
        sent = penstock("submit", "ask", text, env=self.env)
        assert sent.returncode == 0, sent.stderr
        return sent.stdout.strip()

    def submit_many(self, count: int) -> list[str]:
        file = self.folder / "runs.jsonl"
        file.write_text(
            "".join(json.dumps({self.q: f"one of {count}"}) + "\n" for _ in range(count))
        )
        sent = penstock("submit", "ask", "--file", str(file), env=self.env)
        assert sent.returncode == 0, sent.stderr
        return sent.stdout.split()

    def ends(self, running: Worker, text: str) -> None:
        running.wait_for(f"run {self.submit(text)}: {self.q} -> {self.a}")

    def is_done(self, trace_id: str) -> bool:
        traced = json.loads(penstock("trace", trace_id, "--json", env=self.env).stdout)
        return bool(traced["state"] == "done" and traced["events"][-1]["topic"] == self.a)

    def dead_letters(self) -> list[dict[str, Any]]:
        listed = penstock("dead-letters", "--json", env=self.env).stdout
        return [json.loads(line) for line in listed.splitlines()]

    def has_dead_letters(self, count: int) -> bool:
        return len(self.dead_letters()) == count

    def delete(self, topic: str) -> None:
        self._admin.delete_topics([topic])[topic].result(30)

    def cut(self, topic: str) -> None:
        """What stands on it is deleted, as Kafka's retention does it."""
        whole = [self._producing.TopicPartition(topic, part, -1) for part in range(2)]
        for done in self._admin.delete_records(whole).values():
            done.result(30)

    def grow(self, topic: str, count: int) -> None:
        new = self._library.NewPartitions(topic, count)
        self._admin.create_partitions([new])[topic].result(30)

    def set(self, topic: str, key: str, value: str) -> None:
        library = self._library
        entry = library.ConfigEntry(key, value, incremental_operation=library.AlterConfigOpType.SET)
        resource = library.ConfigResource(
            library.ResourceType.TOPIC, topic, incremental_configs=[entry]
        )
        for done in self._admin.incremental_alter_configs([resource]).values():
            done.result(30)

    def produce(self, value: bytes, codec: str, topic: str = "") -> None:
        options = {"bootstrap.servers": self.address, "compression.type": codec}
        producer = self._producing.Producer(options)
        producer.produce(topic or self.q, value)
        assert producer.flush(30) == 0


@pytest.fixture
def house(kafka: str, group: str, tmp_path: pathlib.Path) -> House:
    return House(kafka, group, tmp_path)


def test_records_of_every_codec_are_read_and_a_topic_may_be_set_to_one(house: House) -> None:
    with house.worker() as running:
        house.ends(running, "before")
        for number, codec in enumerate(("snappy", "lz4", "zstd", "gzip"), 1):
            house.produce(b"x" * 4000, codec)
            wait_until(partial(house.has_dead_letters, number), f"the one in {codec}")
        house.set(house.q, "compression.type", "lz4")
        house.set(house.a, "compression.type", "zstd")
        last = house.submit("after")
        wait_until(lambda: house.is_done(last), "a run on topics that are compressed")
        assert {dead_letter["cause"] for dead_letter in house.dead_letters()} == {"MalformedEvent"}
        assert running.stop() == 0
    assert "Traceback" not in running.text()


def test_a_topic_that_is_deleted_under_a_worker_is_made_anew_and_read_from_its_beginning(
    house: House,
) -> None:
    with house.worker() as running:
        house.ends(running, "old")
        house.delete(house.q)
        running.wait_for(f"the topic '{house.q}' was deleted and made anew")
        new = [house.submit(f"new {number}") for number in range(4)]
        wait_until(lambda: all(house.is_done(one) for one in new), "the runs on the new topic")
        assert running.stop() == 0
    assert "Traceback" not in running.text()


def test_topics_of_unequal_partitions_stop_the_work_until_they_are_equal(house: House) -> None:
    with house.worker() as running:
        house.ends(running, "before")
        house.grow(house.q, 4)
        running.wait_for("No new work is taken until then")
        wait_until(
            lambda: f"{house.q}: 4" in penstock("status", "--json", env=house.env).stdout,
            "the status of it",
        )
        app = house.env["PENSTOCK_APP_ID"]
        for topic in (
            house.a,
            *(f"{app}-{name}" for name in ("journal", "dead-letters", "cancels", "steps")),
        ):
            house.grow(topic, 4)
        running.wait_for("the topics have 4 partitions now, and had 2")
        runs = [house.submit(f"after {number}") for number in range(4)]
        wait_until(lambda: all(house.is_done(one) for one in runs), "the runs on all partitions")
        assert running.stop() == 0
    assert "Traceback" not in running.text()


def test_what_a_topic_does_not_take_is_a_dead_letter_and_replayed_when_it_does(
    house: House,
) -> None:
    with house.worker() as running:
        house.ends(running, "before")
        house.set(house.a, "max.message.bytes", "3000")
        large = house.submit("word " * 1000)
        (dead_letter,) = wait_until(house.dead_letters, "its dead letter")
        assert (dead_letter["trace_id"], dead_letter["cause"]) == (large, "EventTooLarge")
        assert f"'{house.a}', whose max.message.bytes is 3000" in dead_letter["message"]
        house.ends(running, "small")
        house.set(house.q, "max.message.bytes", "3000")
        sent = penstock("submit", "ask", "word " * 1000, env=house.env)
        assert sent.returncode == 1 and "max.message.bytes is 3000" in sent.stderr, sent.stderr
        for topic in (house.a, house.q):
            house.set(topic, "max.message.bytes", "100000")
        assert penstock("dead-letters", "replay", "--all", env=house.env).returncode == 0
        wait_until(lambda: house.is_done(large), "the replay")
        assert running.stop() == 0
    house.set(house.a, "max.message.bytes", "3000")
    with house.worker() as running:
        running.wait_for(f"the topic '{house.a}' has max.message.bytes=3000")
        assert running.stop() == 0


def test_records_that_kafka_deleted_unread_are_counted_at_the_next_start(house: House) -> None:
    with house.worker() as running:
        # A position in each partition, but once in half a million runs of this test.
        done = house.submit_many(20)
        wait_until(lambda: all(house.is_done(one) for one in done), "the first runs")
        assert running.stop() == 0
    for number in range(3):
        house.submit(f"lost {number}")
    house.cut(house.q)
    with house.worker() as running:
        running.wait_for("were deleted before they were read here")
        house.ends(running, "after")
        assert running.stop() == 0
    said = re.findall(r"Lost: (\d+) that were not finished", running.text())
    assert sum(map(int, said)) == 3


# -- two apps on one Kafka


def test_a_second_app_on_the_same_topics_is_refused_and_has_its_own_with_a_prefix(
    house: House, tmp_path: pathlib.Path
) -> None:
    app = house.env["PENSTOCK_APP_ID"]
    with house.worker() as running:
        house.ends(running, "first")
        second = house.env | {"PENSTOCK_APP_ID": f"{app}-two", "PENSTOCK_DATA": str(tmp_path / "2")}
        refused = penstock("worker", env=second)
        assert refused.returncode == 1, refused.stderr
        assert f"another Penstock app, '{app}', works on '{house.q}'" in refused.stderr
        house.env = second | {"PENSTOCK_TOPIC_PREFIX": "two."}
        with house.worker() as other:
            trace_id = house.submit("second")
            other.wait_for(f"run {trace_id}: {house.q} -> {house.a}")
            wait_until(partial(house.is_done, trace_id), "the run of the second app")
            house.produce(b"no event", "none", f"two.{house.q}")
            (dead_letter,) = wait_until(house.dead_letters, "a dead letter")
            assert dead_letter["topic"] == house.q  # as the chain has it
            lag = penstock("lag", "--json", env=house.env)
            assert [row["topic"] for row in json.loads(lag.stdout)] == [house.q], lag.stderr
            assert other.stop() == 0
        assert trace_id not in running.text()
        house.env = second | {"PENSTOCK_SHARED_TOPICS": "on"}
        with house.worker() as meant:
            house.ends(meant, "both")
            assert meant.stop() == 0
        assert running.stop() == 0


def test_a_prefix_for_the_embedded_broker_is_refused(tmp_path: pathlib.Path) -> None:
    env = environment(tmp_path, PENSTOCK_TOPIC_PREFIX="two.")
    for command in (["worker"], ["lag"]):
        refused = penstock(*command, env=env)
        assert refused.returncode == 1 and "PENSTOCK_TOPIC_PREFIX=two." in refused.stderr
