"""kill -9 at random moments with many events in flight, and SIGTERM in between."""

import pytest

from tests.chaos.trials import KILL, LONG, Trial, Verdict

RUNS, KILLS = (1000, 8) if LONG else (200, 3)
#: The kill comes at this many events in flight, so that some are left when it arrives.
CROWD, LEAST = 70, 50
#: The next calls take so long that there is time to do something while they are in flight.
SLOW = [{"fault": "timeout", "seconds": 1.5, "times": 20}]
ROUNDS = range(5 if LONG else 1)


@pytest.mark.timeout(900 if LONG else 150)
@pytest.mark.parametrize("round_", ROUNDS)
def test_kills_with_fifty_in_flight_lose_nothing_and_repeat_nothing_recorded(
    round_: int, trial: Trial, judged: list[Verdict]
) -> None:
    trial.submit(RUNS)
    for share in sorted(trial.random.uniform(0.02, 0.65) for _ in range(KILLS)):
        trial.start()
        assert trial.kill_by_chance(share, in_flight=CROWD).in_flight >= LEAST
    verdict = trial.judge()
    judged.append(verdict)

    verdict.keeps_the_promise()
    assert (verdict.runs, verdict.count(KILL)) == (RUNS, KILLS)
    assert verdict.recorded == 0


@pytest.mark.timeout(900 if LONG else 150)
@pytest.mark.parametrize("round_", ROUNDS)
def test_a_worker_that_is_told_to_stop_repeats_no_call_at_all(
    round_: int, trial: Trial, judged: list[Verdict]
) -> None:
    trial.submit(RUNS // 2)
    trial.start().wait_for(trial.random.uniform(0.02, 0.2), in_flight=30)
    trial.terminate()
    trial.server.script(SLOW)
    trial.start().wait_for_calls(open_=15)
    trial.terminate()
    verdict = trial.judge()
    judged.append(verdict)

    verdict.keeps_the_promise()
    assert verdict.repeats == []


@pytest.mark.timeout(900 if LONG else 150)
@pytest.mark.parametrize("round_", ROUNDS)
def test_kills_among_orderly_restarts_and_during_one_lose_nothing(
    round_: int, trial: Trial, judged: list[Verdict]
) -> None:
    trial.submit(RUNS // 2)
    trial.start().wait_for(0.1, in_flight=30)
    trial.kill()
    trial.start().wait_for(0.3, in_flight=30)
    trial.terminate()
    trial.server.script(SLOW)
    trial.start().wait_for_calls(open_=15)
    trial.kill_draining()
    verdict = trial.judge()
    judged.append(verdict)
    verdict.keeps_the_promise()


@pytest.mark.timeout(900 if LONG else 150)
@pytest.mark.parametrize("round_", ROUNDS)
def test_what_a_submitter_was_told_has_begun_ends_once_while_both_are_killed(
    round_: int, trial: Trial, judged: list[Verdict]
) -> None:
    ids = trial.draw_ids(RUNS // 2)
    submitter = trial.start_submitter(ids)
    for share in (0.2, 0.5, 0.8):
        trial.start()
        submitter.wait_for(int(share * len(ids)))
        trial.kill()
        if share == 0.5:
            # It cannot know which was its last that counted, and so begins all of them again.
            submitter.kill()
            submitter = trial.start_submitter(ids)
    submitter.wait_for(len(ids))
    trial.submitted = ids
    verdict = trial.judge()
    judged.append(verdict)
    verdict.keeps_the_promise()


@pytest.mark.timeout(900 if LONG else 150)
@pytest.mark.parametrize("round_", ROUNDS)
def test_a_worker_that_cannot_write_for_a_while_loses_nothing_killed_or_not(
    round_: int, trial: Trial, judged: list[Verdict]
) -> None:
    for kill in (True, False):
        trial.submit(RUNS // 4)
        trial.server.script(SLOW)
        trial.start().wait_for_calls(open_=15)
        with trial.locked_file():
            trial.wait_for_answers(15)
            if kill:
                trial.kill()
    verdict = trial.judge()
    judged.append(verdict)
    verdict.keeps_the_promise()
