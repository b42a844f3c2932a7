"""The mesh under kill -9: one row a run, and no recorded call made again."""

import collections
import json
import pathlib
import random
import time
import uuid
from collections.abc import Iterator

import pytest

from tests.chaos.evidence import ANSWER, KILL, RESPONSE_ID, Death, find_repeats, reading
from tests.chaos.trials import CRASHED, LONG, SEED
from tests.chaos.verdicts import check_calls, check_repeats
from tests.mesh import ECHO, Mesh
from tests.programs import PATIENCE_S, Worker, wait_until
from tests.servers import ScriptedServer

pytestmark = [pytest.mark.usefixtures("qdrant_client"), pytest.mark.timeout(1200 if LONG else 180)]

#: Runs that begin before each death.
RUNS = 40 if LONG else 6
#: Four programs, a first look at each, and a review: nothing that the server writes is ever right.
CALLS, ROUNDS = 9, 4
MOMENTS = (
    "answered, not recorded",
    "note kept, step not finished",
    "row written, step not finished",
    "transaction committed, loop not notified",
)


class Stream(Mesh):
    """A mesh with runs under way, its model server, and the workers that die over it."""

    def __init__(self, folder: pathlib.Path, server: ScriptedServer) -> None:
        super().__init__(
            folder,
            PENSTOCK_MODEL=f"{server.base_url}#scripted",
            PENSTOCK_TEST_CALLS=str(server.log_path),
        )
        self.server = server
        self.random = random.Random(f"{SEED}mesh")
        self.traces: list[str] = []
        self.deaths: list[Death] = []

    def begin_some(self, count: int) -> None:
        ids = [str(uuid.UUID(int=self.random.getrandbits(128), version=4)) for _ in range(count)]
        tasks = [ECHO | {"title": f"Echo {id_[:8]}", "task": f"Print {id_}."} for id_ in ids]
        self.traces += self.begin(*tasks, ids=ids)

    def crash(self, point: str, occurrence: int) -> None:
        """A worker was started that has killed itself at an occurrence of `point`."""
        worker = Worker(
            self.env | {"PENSTOCK_TEST_CRASH": f"{point}:{occurrence}"},
            self.folder,
            command=("-m", "tests.chaos.crashing_worker", "worker", "-l", "info"),
        )
        try:
            limit_s = 400 if LONG else PATIENCE_S  # behind hundreds of others
            wait_until(lambda: worker.process.poll() is not None, f"a crash at {point}", limit_s)
        finally:
            worker.kill()
        found = CRASHED.search(worker.text())
        assert found is not None and found[1] == point, worker.text()[-3000:]
        self.note_death(float(found[2]))

    def kill_at(self, answers: int) -> None:
        """A worker was at work until so many more calls were answered, and then killed."""
        wanted = len(self.server.logged("answered")) + answers
        with self.worker() as worker:
            wait_until(lambda: len(self.server.logged("answered")) >= wanted, f"{wanted} answers")
            time.sleep(self.random.uniform(0, 0.15))
            t = time.time()
            worker.kill()
        self.note_death(t)

    def note_death(self, t: float) -> None:
        # First what is durable, then where the server's log is: what is asked after that and was
        # durable before is a call paid for twice. The server has read what the dead one had sent.
        durable = frozenset(self.durable())
        self.server.calls()
        self.deaths.append(Death(KILL, t, len(self.server.logged()), durable, 0, ()))

    def durable(self) -> Iterator[str]:
        """The calls whose answers are in the file, named as `find_repeats` looks for them."""
        with reading(self.database) as db:
            for key, value in db.execute("select key, value from record where key is not null"):
                parts = json.dumps(json.loads(value).get("parts"))
                yield from (f"{key.decode()} {found}" for found in ANSWER.findall(parts))
            for (value,) in db.execute("select value from journal"):
                # Looks into memory and verdicts are recorded too.
                if entry := RESPONSE_ID.search(value):
                    yield f"entry {entry[1].decode()}"

    def judge(self) -> None:
        """Every run has its one row and its notes, and nothing recorded was paid for again."""
        with self.worker() as worker:
            self.wait_for(*self.traces, limit_s=400 if LONG else 120)
            self.wait_for_notes()
            assert worker.stop() == 0
        assert self.dead_letters() == []
        rows = self.rows()
        assert rows.keys() == set(self.traces)
        assert {row["verdict"] for row in rows.values()} == {"FAIL"}
        lines = self.server.logged()
        assert check_calls(dict.fromkeys(self.traces, CALLS), lines) == []
        repeats = find_repeats(lines, self.deaths)
        assert check_repeats(repeats) == []
        failures = collections.Counter(note.task for note in self.notes("failure"))
        assert set(failures.values()) == {ROUNDS} and len(failures) == len(self.traces)
        print(f"{len(self.traces)} runs, {len(self.deaths)} kills, {len(repeats)} calls again")


@pytest.fixture
def stream(tmp_path: pathlib.Path, server: ScriptedServer) -> Stream:
    print(f"PENSTOCK_TEST_RANDOM={SEED}")
    return Stream(tmp_path, server)


def test_every_run_is_one_row_when_the_worker_is_killed_at_each_moment(stream: Stream) -> None:
    for moment in MOMENTS * (4 if LONG else 1):
        stream.begin_some(RUNS)
        stream.crash(moment, stream.random.randrange(1, 6))
    stream.judge()


@pytest.mark.long  # each moment is in the test before
def test_every_run_is_one_row_over_kills_at_any_time(stream: Stream) -> None:
    stream.begin_some(4 * RUNS)
    for _ in range(8 if LONG else 2):
        stream.kill_at(CALLS * RUNS // (3 if LONG else 1))
    stream.judge()
