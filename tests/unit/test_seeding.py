"""Seeding: the runs that nobody submits begin once, however often a worker is started."""

import asyncio
import pathlib
from collections.abc import Coroutine
from typing import Any

import pytest

from penstock.broker.contract import Beginning, Plan
from penstock.broker.embedded.broker import EmbeddedBroker
from penstock.errors import SettingsError
from penstock.project.chains import Chain
from penstock.project.project import Project
from penstock.record import events
from penstock.record.events import Event
from penstock.settings import Settings
from penstock.signals import Signals
from penstock.worker.life import Life
from penstock.worker.seeding import AGAIN_S, Seeding, begun_here
from penstock.worker.startup import check_startup
from tests.unit.conftest import messages


class Worker:
    """A worker around seeding; each is a start of its own on the same file."""

    def __init__(self, folder: pathlib.Path, **settings: Any) -> None:
        self.settings = Settings(data=folder, **settings)
        self.broker = EmbeddedBroker(self.settings, Plan("penstock"))
        self.broker.store.create("idea", 1)
        self.is_over = False
        self.slept: list[float] = []
        #: Of each run that was begun, whether its id is to outlive it.
        self.kept: list[bool] = []
        #: How often it says first that it cannot run the pipeline.
        self.refuses = self.asked = 0

    @property
    def seeding(self) -> Seeding:
        life = Life(lambda: self.is_over, self.sleep)
        return Seeding(self.settings, self.begin, self.is_ready, self.lag, life, Signals())

    async def begin(
        self, chain: Chain, event: Event, *, kept: bool = False, topic: str | None = None
    ) -> bool:
        self.kept.append(kept)
        topic = topic or chain.entry_of(event.parts)
        begun = self.broker.begin([Beginning(topic, event.id, event.key, events.dump(event))])
        return begun != [None]

    async def lag(self, topic: str) -> int:
        return 0

    async def is_ready(self, chain: Chain) -> bool:
        self.asked += 1
        return self.asked > self.refuses

    async def sleep(self, seconds: float) -> None:
        """Here the worker is stopped instead."""
        self.slept.append(seconds)
        self.is_over = True

    def does(self, work: Coroutine[Any, Any, None]) -> list[Event]:
        """The runs that are there once `work` is done and the worker stopped."""
        asyncio.run(work)
        found = [events.load(message.value) for message in messages(self.broker.store, "idea")]
        self.broker.close()
        return found


@pytest.fixture
def start(tmp_path: pathlib.Path) -> Any:
    return lambda **settings: Worker(tmp_path / "data", **settings)


@pytest.fixture
def chain(project: Project) -> Chain:
    return project.chain("tale")


def test_a_pipeline_is_seeded_once_over_all_starts(start, chain):
    for _ in range(3):
        worker = start()
        (run,) = worker.does(worker.seeding.seed(chain))
    assert run.parts == {"idea": "A snail that flies"}
    assert run.stage == "initiate_pipeline_once"


def test_a_seed_outlives_the_retention_of_its_run(start, chain):
    worker = start()
    worker.does(worker.seeding.seed(chain))
    assert worker.kept == [True]


def test_another_seed_another_app_and_another_pipeline_are_other_runs(start, chain):
    traces = set()
    for settings, changes in (
        ({}, {}),
        ({}, {"seed": {"idea": "A whale"}}),
        ({"app_id": "other"}, {}),
        ({}, {"pipeline": "fable"}),
    ):
        worker = start(**settings)
        runs = worker.does(worker.seeding.seed(chain.model_copy(update=changes)))
        traces.add(runs[-1].trace_id)
    assert len(traces) == 4


def test_the_order_in_which_a_seed_is_written_does_not_matter(start, chain):
    for seed in (
        {"idea": {"hero": "a snail", "place": {"a": 1, "b": [2, 1]}}, "draft": "x"},
        {"draft": "x", "idea": {"place": {"b": [2, 1], "a": 1}, "hero": "a snail"}},
    ):
        worker = start()
        runs = worker.does(worker.seeding.seed(chain.model_copy(update={"seed": seed})))
        assert len(runs) == 1


def test_seeding_anew_and_never_are_what_they_say(start, chain):
    for seed, count in (("0", 0), ("again", 1), ("again", 2), ("1", 3), ("0", 3)):
        worker = start(seed=seed)
        assert len(worker.does(worker.seeding.seed(chain))) == count


def test_a_timer_starts_one_run_for_each_due_time_whatever_is_restarted(start, chain):
    for _ in range(3):
        worker = start()
        (run,) = worker.does(worker.seeding.run_timer(chain, 1e8))
        assert 0 < worker.slept[0] <= 1e8
    assert run.stage == "create_runs_at_interval"
    worker = start()
    runs = worker.does(worker.seeding.run_timer(chain, 2e8))
    assert len(runs) == 2, "another interval, another timer"


def test_nothing_is_begun_while_the_steps_cannot_do_what_they_do(start, chain):
    worker = start()
    worker.refuses = 1
    assert worker.does(worker.seeding.seed(chain)) == []
    assert worker.slept == [AGAIN_S]
    worker = start()
    worker.refuses = 1
    assert worker.does(worker.seeding.run_timer(chain, 60.0)) == []


def test_a_pipeline_with_a_manual_start_is_seeded_where_it_is_named_and_others_are_not(chain):
    manual = chain.model_copy(update={"pipeline": "mesh", "start": "manual"})
    both = [chain, manual]

    def names(*start: str) -> list[str]:
        return [chain.name for chain in begun_here(both, start)]

    assert names() == ["tale"]
    assert names("mesh") == ["mesh"]
    assert names("tale", "mesh") == ["tale", "mesh"]


def test_a_worker_that_is_to_start_what_there_is_not_says_so(project):
    with pytest.raises(SettingsError) as caught:
        check_startup(Settings(start=("tael",)), project)
    assert caught.value.message.startswith(
        "PENSTOCK_START: there is no pipeline 'tael'. Did you mean 'tale'? Pipelines here: "
    )
