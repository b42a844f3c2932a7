"""kill -9 at every point of an event's life (DESIGN, section 5): first in the life of one run
alone, where the file must hold exactly what the point says, then with several in flight."""

import pytest

from tests.chaos.trials import LONG, Trial
from tests.chaos.verdicts import Verdict

#: Whether the call whose life was cut at this point is durable, and so must not be made again.
#: None: its journal entry may have gone into a batch before the one of the step's end, or not.
LIFE = {
    "call made, not answered": False,
    "answered, not recorded": False,
    "recorded, step not finished": True,
    "outputs in the batch, transaction not committed": None,
    "recorded, outputs written, not committed": True,
    "transaction committed, loop not notified": True,
    "output durable, next stage not begun": True,
}
CALLS = ["call made on a slow disk, not answered", "answered, not recorded"]
ENDS = [
    "transaction committed, loop not notified",
    "outputs in the batch, transaction not committed",
]


@pytest.mark.timeout(300)
@pytest.mark.parametrize("point", LIFE)
def test_a_run_ends_once_when_its_worker_is_killed_at(
    point: str, trial: Trial, judged: list[Verdict]
) -> None:
    trial.submit(1)
    alone = trial.crash(point, 1)
    assert len(alone.durable) == LIFE[point] or LIFE[point] is None, f"it holds {alone.durable}"

    for _ in range(4 if LONG else 1):
        trial.submit(50 if LONG else 24)
        trial.crash(point, trial.random.randrange(2, 30))
    verdict = trial.judge()
    judged.append(verdict)

    verdict.keeps_the_promise()
    assert [r.death is alone for r in verdict.repeats].count(True) == 1 - len(alone.durable)


@pytest.mark.timeout(300)
def test_no_part_of_a_batch_stands_when_its_worker_is_killed_half_way_through_it(
    trial: Trial, judged: list[Verdict]
) -> None:
    for _ in range(4 if LONG else 1):
        trial.submit(40)
        trial.crash("batch cut, half written", trial.random.randrange(1, 4))
    verdict = trial.judge()
    judged.append(verdict)
    verdict.keeps_the_promise()


@pytest.mark.timeout(300)
@pytest.mark.parametrize("point", ENDS if LONG else ENDS[:1])
def test_one_dead_letter_is_written_when_its_worker_is_killed_at(
    point: str, trial: Trial, judged: list[Verdict]
) -> None:
    (refused,) = trial.submit(1)
    trial.server.script([{"fault": "status", "status": 400, "match": refused, "times": 10}])
    trial.crash(point, 1)
    ended = trial.submit(10)
    verdict = trial.judge(dead=[refused])
    judged.append(verdict)

    verdict.keeps_the_promise()
    assert verdict.runs == len(ended) + 1


@pytest.mark.timeout(300)
def test_a_worker_that_is_killed_again_and_again_as_it_starts_loses_nothing(
    trial: Trial, judged: list[Verdict]
) -> None:
    trial.submit(20)
    trial.crash("recorded, step not finished", 8)
    for _ in range(5 if LONG else 2):
        trial.crash("crash counted, nothing begun", 1)
    verdict = trial.judge()
    judged.append(verdict)
    verdict.keeps_the_promise()


@pytest.mark.timeout(300)
@pytest.mark.parametrize("point", CALLS if LONG else CALLS[:1])
def test_the_first_call_of_a_step_is_not_repeated_when_its_worker_is_killed_in_the_second(
    point: str, trial: Trial, judged: list[Verdict]
) -> None:
    """The critic, third of the agents, answers with what is no JSON and is asked to repair it."""
    trial.server.script([{"fault": "bad-json-output", "match": "<draft>", "times": 1}])
    (repaired,) = trial.submit(1)
    death = trial.crash(point, 4)
    assert sum(name.startswith("entry ") for name in death.durable) == 1
    verdict = trial.judge(repaired=[repaired])
    judged.append(verdict)

    verdict.keeps_the_promise()
    assert len(verdict.repeats) == 1
