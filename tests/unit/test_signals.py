"""Signals: what happens is said once, and reaches whoever wants to know of it."""

import inspect
import logging
import re
from typing import Any, get_type_hints

import pytest

from penstock import signals as vocabulary
from penstock.errors import Unavailable
from penstock.record import dead_letters
from penstock.record.events import Usage, first_event
from penstock.signals import (
    GovernorChanged,
    ProviderDown,
    ProviderUp,
    Retried,
    RunSeeded,
    Signal,
    Signals,
    StageFailed,
    StageLabel,
    StepFinished,
    write_to_log,
)

TRACE = "0f8fad5b-d9cb-469f-a165-70867728950e"
LABEL = StageLabel("teller", "tale", "idea", "teller (polish)", ("draft",), "teller", "teller@1234")
EVENT = first_event("tale", {"idea": "a snail"}, TRACE)

#: What fields of these types hold in the tests here.
SAMPLES: dict[Any, Any] = {
    str: "text",
    int: 3,
    float: 1.5,
    BaseException: ValueError("odd"),
    StageLabel: LABEL,
    dead_letters.DeadLetter: dead_letters.DeadLetter(
        id="i", trace_id=TRACE, pipeline="tale", stage="teller", topic="idea", partition=0,
        offset=1, cause="StepFailed", message="odd", attempts=1, failed=0.0,
    ),
    type(EVENT): EVENT,
    vocabulary.Outputs: [],
}  # fmt: skip


def kinds() -> list[type[Signal]]:
    """The whole vocabulary."""
    found = [one for _, one in inspect.getmembers(vocabulary, inspect.isclass)]
    return [one for one in found if issubclass(one, Signal) and hasattr(one, "action")]


def sample(kind: type[Signal]) -> Signal:
    hints = get_type_hints(kind)
    default = {name: SAMPLES.get(hints[name], "ACTIVE") for name in kind.__struct_fields__}
    known = ("usage", "instructions", "positions")
    return kind(**{name: value for name, value in default.items() if name not in known})


@pytest.mark.parametrize("kind", kinds(), ids=lambda kind: kind.__name__)
def test_each_kind_has_a_word_for_programs_a_level_and_a_sentence(kind, caplog):
    assert re.fullmatch(r"[a-z]+(_[a-z]+)*", kind.action)
    assert kind.level in (logging.DEBUG, logging.INFO, logging.WARNING, logging.ERROR)
    assert kind.__doc__
    signal = sample(kind)
    with caplog.at_level(logging.DEBUG):
        write_to_log(signal)
    (record,) = caplog.records
    assert record.getMessage() == str(signal) != repr(signal)
    said: Any = record
    assert (said.action, said.trace_id, said.stage) == (kind.action, signal.trace_id, signal.stage)


def test_words_of_different_kinds_are_different():
    words = [kind.action for kind in kinds()]
    assert sorted({word for word in words if words.count(word) > 1}) == []


def test_a_subscriber_is_given_the_kinds_that_it_asked_for_and_what_derives_from_them():
    signals, all_, seeds = Signals(), list[Signal](), list[RunSeeded]()
    signals.emit(RunSeeded(TRACE, "before"))
    signals.on(Signal, all_.append)
    signals.on(RunSeeded, seeds.append)
    sent = [RunSeeded(TRACE, "tale"), ProviderUp("server/m", 3.0)]
    for signal in sent:
        signals.emit(signal)
    assert (all_, seeds) == (sent, sent[:1])


def test_a_subscriber_that_fails_is_logged_and_stops_nobody(caplog):
    signals, seen = Signals(), list[Signal]()

    def fails(signal: Signal) -> None:
        raise RuntimeError("a defect")

    signals.on(RunSeeded, fails)
    signals.on(RunSeeded, seen.append)
    signals.emit(RunSeeded(TRACE, "tale"))
    assert len(seen) == 1
    (record,) = caplog.records
    assert record.getMessage() == "a subscriber of 'seeded' failed" and record.exc_info


def test_the_log_has_what_programs_look_for_and_the_traceback_of_a_defect(caplog):
    with caplog.at_level(logging.INFO):
        write_to_log(Retried(LABEL, EVENT, Unavailable("away"), 0.5))
        write_to_log(GovernorChanged("tale", "idea", "THROTTLED", 9, 3))
        write_to_log(StageFailed(LABEL, TRACE, ValueError("odd")))
    retry, governor, fault = (record.__dict__ for record in caplog.records)
    assert (retry["action"], retry["trace_id"], retry["stage"]) == ("retry", TRACE, "teller")
    assert (governor["action"], governor["state"]) == ("governor", "THROTTLED")
    assert governor["trace_id"] is None and governor["exc_info"] is None
    assert isinstance(fault["exc_info"][1], ValueError)


def test_what_the_log_does_not_show_makes_no_record(caplog):
    with caplog.at_level(logging.ERROR):
        write_to_log(RunSeeded(TRACE, "tale"))
    assert not caplog.records


def test_a_finished_step_says_where_its_answers_went_and_not_where_its_report_did():
    outputs = [("draft", EVENT, b""), ("draft", EVENT, b""), ("telemetry", EVENT, b"")]
    used = Usage(seconds=2.0, requests=1, input_tokens=90, output_tokens=7)
    finished = StepFinished(LABEL, EVENT, outputs, used)
    said = "idea -> draft (teller (polish), 2.0 s, 90 tokens in, 7 out)"
    assert str(finished) == f"run {TRACE}: {said}"
    assert finished.at([(0, 1)]) == StepFinished(LABEL, EVENT, outputs, used, positions=[(0, 1)])
    nothing = StepFinished(LABEL, EVENT, [])
    assert str(nothing) == f"run {TRACE}: idea -> the end (teller (polish), 0.0 s)"


def test_what_calls_wait_for_is_said_by_name():
    down, up = ProviderDown("server/m", "it is away"), ProviderUp("server/m", 61.4)
    assert str(down).startswith("server/m does not answer: it is away. Its stages pause")
    assert str(up) == "server/m answers again after 61 s; work goes on"
