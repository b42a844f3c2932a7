"""kill -9 at random moments with many events in flight, and SIGTERM in between."""

import pytest

from tests.chaos.evidence import KILL
from tests.chaos.trials import LONG, SLOW, Trial
from tests.chaos.verdicts import Verdict

RUNS = 1000 if LONG else 200
#: Runs that begin before each kill.
NEW_RUNS = [125] * 8 if LONG else [90, 70, 70]
#: The kill comes at this many events in flight, so that some are left when it arrives.
CROWD, LEAST = 60, 50
ROUNDS = range(3 if LONG else 1)


@pytest.mark.timeout(900 if LONG else 240)
@pytest.mark.parametrize("round_", ROUNDS)
def test_kills_with_fifty_in_flight_lose_nothing_and_repeat_nothing_recorded(
    round_: int, trial: Trial, judged: list[Verdict]
) -> None:
    for new in NEW_RUNS:
        trial.submit(new)
        trial.start()
        share = trial.random.uniform(0.02, 0.25)
        assert trial.kill_in_a_crowd(share, in_flight=CROWD).in_flight >= LEAST
    verdict = trial.judge()
    judged.append(verdict)

    verdict.keeps_the_promise()
    assert (verdict.runs, verdict.count(KILL)) == (sum(NEW_RUNS), len(NEW_RUNS))
    assert verdict.recorded == 0


@pytest.mark.timeout(900 if LONG else 240)
@pytest.mark.parametrize("round_", ROUNDS)
def test_a_worker_that_is_asked_to_stop_repeats_no_call_at_all(
    round_: int, trial: Trial, judged: list[Verdict]
) -> None:
    trial.submit(RUNS // 2)
    trial.server.script([SLOW])
    trial.start().wait_for_calls(open_=15)
    trial.terminate()
    verdict = trial.judge()
    judged.append(verdict)

    verdict.keeps_the_promise()
    assert verdict.repeats == []


@pytest.mark.timeout(900 if LONG else 240)
@pytest.mark.parametrize("round_", ROUNDS)
def test_kills_among_orderly_restarts_and_during_one_lose_nothing(
    round_: int, trial: Trial, judged: list[Verdict]
) -> None:
    trial.submit(RUNS // 2)
    trial.start().wait_for(0.1, in_flight=30)
    trial.kill()
    trial.start().wait_for(0.3, in_flight=30)
    trial.terminate()
    # Longer than the first of these calls is ahead of the last, also on a busy machine.
    trial.server.script([SLOW | {"seconds": 5.0}])
    trial.submit(20)  # on a busy machine the others may be nearly over by now
    trial.start().wait_for_calls(open_=15)
    trial.kill_draining()
    verdict = trial.judge()
    judged.append(verdict)
    verdict.keeps_the_promise()


@pytest.mark.timeout(900 if LONG else 240)
@pytest.mark.parametrize("round_", ROUNDS)
def test_what_was_reported_to_a_submitter_as_begun_ends_once_while_both_are_killed(
    round_: int, trial: Trial, judged: list[Verdict]
) -> None:
    ids = trial.draw_ids(RUNS // 2)
    submitter = trial.start_submitter(ids)
    for share in (0.2, 0.6):
        trial.start()
        submitter.wait_for(int(share * len(ids)))
        trial.wait_for(0, in_flight=3)
        trial.kill()
        if share == 0.6:
            # It cannot know which was its last that counted, and so begins all of them again.
            submitter.kill()
            submitter = trial.start_submitter(ids)
    submitter.wait_for(len(ids))
    trial.submitted = ids
    verdict = trial.judge()
    judged.append(verdict)
    verdict.keeps_the_promise()


@pytest.mark.timeout(900 if LONG else 240)
@pytest.mark.parametrize("round_", ROUNDS)
def test_a_worker_that_cannot_write_for_a_while_loses_nothing_killed_or_not(
    round_: int, trial: Trial, judged: list[Verdict]
) -> None:
    for kill in (True, False):
        trial.submit(RUNS // 4)
        trial.server.script([SLOW])
        trial.start().wait_for_calls(open_=15)
        with trial.locked_file():
            trial.wait_for_answers(15)
            if kill:
                trial.kill()
    verdict = trial.judge()
    judged.append(verdict)
    verdict.keeps_the_promise()
