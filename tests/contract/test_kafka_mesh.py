"""The mesh on Kafka: one producer and one history in a cluster, whoever dies or is late."""

import asyncio
import pathlib
import uuid
from collections.abc import Iterator

import pytest

from tests.acceptance.homes import Home
from tests.mesh import RIGHT, WRONG, Mesh
from tests.programs import Worker, wait_until
from tests.servers import QdrantServer
from tests.servers.kafka import KafkaServer

pytestmark = pytest.mark.usefixtures("qdrant_client")


class Cluster(Mesh):
    """Workers on one Kafka, each with a folder of its own for its data."""

    def __init__(self, folder: pathlib.Path, address: str, **settings: str) -> None:
        super().__init__(
            folder,
            PENSTOCK_BROKER=f"kafka://{address}",
            PENSTOCK_APP_ID=f"mesh-{uuid.uuid4().hex}",
            PENSTOCK_SESSION_S="4",
            PENSTOCK_EVENT_LOG="off",
            **settings,
        )
        self.workers: dict[str, Worker] = {}

    def launch(self, *names: str, **settings: str) -> None:
        """Workers of these names have been started."""
        for name in names:
            own = {"PENSTOCK_DATA": str(self.folder / name), "PENSTOCK_WORKER_ID": name}
            self.workers[name] = Worker(self.env | settings | own, self.folder)

    def start_workers(self, *names: str, **settings: str) -> None:
        """Workers of these names are ready, and have their partitions."""
        self.launch(*names, **settings)
        for name in names:
            self.workers[name].ready()

    def rows_of(self, *names: str) -> dict[str, dict[str, str]]:
        """The rows in the folders of these workers. A run has one in each at most."""
        rows: dict[str, dict[str, str]] = {}
        for name in names:
            rows |= self.rows(self.folder / name)
        return rows

    def close(self) -> None:
        for one in self.workers.values():
            one.kill()


@pytest.fixture
def cluster(tmp_path: pathlib.Path, kafka_to_kill: KafkaServer) -> Iterator[Cluster]:
    """On a Kafka that holds nothing: the mesh's topics have the same names in every test."""
    made = Cluster(tmp_path, kafka_to_kill.address)
    try:
        yield made
    finally:
        made.close()


def titled(task: dict[str, str], count: int) -> list[dict[str, str]]:
    return [task | {"title": f"{task['title']}, number {n}"} for n in range(count)]


@pytest.mark.timeout(240)
def test_two_workers_have_one_producer_and_one_history_and_a_kill_loses_no_run(
    cluster: Cluster, qdrant_server: QdrantServer
) -> None:
    qdrant_server.start()
    cluster.env["QDRANT_URL"] = qdrant_server.url
    cluster.start_workers("one", "two", PENSTOCK_START="mesh", PENSTOCK_EVERY_S="0.5")
    wrong = cluster.begin(*titled(WRONG, 6))
    cluster.wait_for(*wrong)
    wait_until(lambda: len(cluster.rows_of("one", "two")) >= 12, "rows of ideas, too")
    # One of the two has written the history of what began when both were there.
    files = {name for name in cluster.workers if cluster.rows_of(name).keys() & set(wrong)}
    (writer,), (other,) = files, {"one", "two"} - files
    assert set(wrong) <= cluster.rows_of(writer).keys()
    # The work itself is for both.
    for worker in cluster.workers.values():
        worker.wait_for("ai_topic -> ai_solutions (coder")
        worker.wait_for("started by the timer of mesh")
    # A timer's run is named after its due time: one producer in the cluster, and not one a worker.
    ideas = cluster.begun("ai_ideas")
    assert len({event.trace_id for event in ideas}) == len(ideas)

    # The history's writer dies; what goes on is written by the one that is left.
    cluster.workers.pop(writer).kill()
    late = cluster.begin(*titled(RIGHT, 6))
    cluster.wait_for(*late, limit_s=90)
    assert set(late) <= cluster.rows_of(other).keys()
    assert cluster.workers[other].stop() == 0
    # Nobody thinks up more now, and every idea comes to its row.
    cluster.start_workers(writer, other)
    every = {event.trace_id for event in cluster.begun("ai_ideas")} | {*wrong, *late}
    cluster.wait_for(*every, limit_s=90)
    assert cluster.rows_of(writer).keys() | cluster.rows_of(other).keys() == every
    assert cluster.dead_letters() == []
    # The notes of both are in the one memory, those that the dead one had not delivered too.
    wait_until(lambda: not cluster.notes_waiting(writer, other), "the notes of both")
    titles = {note.task.partition("\n")[0] for note in cluster.notes("success")}
    assert titles >= {task["title"] for task in titled(WRONG, 6)}


@pytest.mark.timeout(180)
def test_a_mesh_waits_for_a_kafka_that_starts_later_or_goes(
    cluster: Cluster, kafka_to_kill: KafkaServer
) -> None:
    kafka_to_kill.kill()
    cluster.launch("one", PENSTOCK_START="mesh", PENSTOCK_EVERY_S="0.5")
    cluster.workers["one"].wait_for("does not answer")
    kafka_to_kill.start()
    cluster.workers["one"].ready()
    wait_until(lambda: len(cluster.rows_of("one")) >= 3, "rows")
    traces = cluster.begin(*titled(WRONG, 8))
    kafka_to_kill.kill()
    kafka_to_kill.start()
    cluster.wait_for(*traces, limit_s=90)
    assert set(traces) <= cluster.rows_of("one").keys()
    assert cluster.workers["one"].stop() == 0 and cluster.dead_letters() == []


TICKS = """\
pipeline: PREFIX
topics: {PREFIX-tick: A tick, PREFIX-tock: What it becomes}
stages:
  - {reads: PREFIX-tick, step: present, writes: PREFIX-tock, one_worker: true}
seed: {PREFIX-tick: tick}
every_s: 0.05
"""


def test_runs_that_begin_on_a_topic_of_one_worker_all_begin_there(
    kafka: str, group: str, tmp_path: pathlib.Path
) -> None:
    project = tmp_path / "project"
    (project / "topics").mkdir(parents=True)
    (project / "topics" / "ticks.yaml").write_text(TICKS.replace("PREFIX", group))
    home = Home(
        tmp_path,
        PENSTOCK_BROKER=f"kafka://{kafka}",
        PENSTOCK_PROJECT=str(project),
        PENSTOCK_APP_ID=group,
    )
    topic = f"{group}-tick"

    async def partitions() -> list[int]:
        async with home.client() as client:
            await client.submit_many(group, [({topic: "tock"}, None)] * 5)
            return [record.partition for record in client.broker.find(topic, None)]

    with home.worker():
        # The seed, the timer's, and those that were submitted.
        wait_until(lambda: len(home.begun(topic)) > 10, "ticks")
        assert set(asyncio.run(partitions())) == {0}
