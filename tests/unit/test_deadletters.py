"""Dead letters: the record whole, the cause, and who can act on it."""

import base64

import pytest
from faust.types import TP, ConsumerMessage

from penstock.errors import MalformedEvent, StepFailed
from penstock.record import dead_letters as deadletters
from penstock.record import events
from penstock.record.events import first_event


def message(value: bytes | None, key: bytes | None = b"a run") -> ConsumerMessage:
    return ConsumerMessage("idea", 3, 7, 0.0, 0, [], key, value, None, tp=TP("idea", 3))


def caught(error: Exception, cause: Exception | None = None) -> Exception:
    """`error` as it is when it was raised here, from `cause`."""
    try:
        raise error from cause
    except Exception as exc:
        return exc


def test_a_dead_letter_survives_its_topic():
    event = first_event("tale", {"idea": "Ein Frosch 🐸"})
    raw = events.dump(event)
    dead_letter = deadletters.write("tale", "teller", message(raw), event, StepFailed("no"), 4)
    assert deadletters.load(deadletters.dump(dead_letter)) == dead_letter
    assert (dead_letter.topic, dead_letter.partition, dead_letter.offset) == ("idea", 3, 7)
    assert (dead_letter.cause, dead_letter.message, dead_letter.attempts) == ("StepFailed", "no", 4)
    assert dead_letter.raw is not None and dead_letter.raw.encode() == raw
    assert dead_letter.raw_base64 is None


@pytest.mark.parametrize("raw", [b"\xff\xfe\x00binary", bytes(range(256))])
def test_bytes_that_are_no_text_are_kept_in_base64(raw):
    dead_letter = deadletters.write("tale", "teller", message(raw), None, MalformedEvent("no"), 0)
    again = deadletters.load(deadletters.dump(dead_letter))
    assert again.raw is None and again.raw_base64 is not None
    assert base64.b64decode(again.raw_base64) == raw


def test_an_empty_record_is_kept_as_empty():
    dead_letter = deadletters.write("tale", "teller", message(None), None, MalformedEvent("no"), 0)
    assert (dead_letter.raw, dead_letter.raw_base64) == ("", None)


def test_the_run_is_that_of_the_event_or_the_key_or_the_offset():
    event = first_event("tale", {"idea": "x"})

    def trace(*, read: bool, key: bytes | None) -> str:
        found = message(b"x", key)
        error = MalformedEvent("no")
        return deadletters.write("p", "s", found, event if read else None, error, 0).trace_id

    assert trace(read=True, key=b"other") == event.trace_id
    assert trace(read=False, key=b"a run") == "a run"
    assert trace(read=False, key=b"\xff") == "\ufffd"
    assert trace(read=False, key=None) == "idea/3/7"


def test_the_same_failure_makes_the_same_id_and_a_replay_another():
    event = first_event("tale", {"idea": "x"})
    again = events.Event(**{f: getattr(event, f) for f in event.__struct_fields__} | {"replay": 1})
    ids = [
        deadletters.write("p", stage, message(b"x"), one, StepFailed("no"), 1).id
        for stage, one in (("s", event), ("s", event), ("s", again), ("t", event), ("s", None))
    ]
    assert ids[0] == ids[1]
    assert len(set(ids)) == 4


def test_the_line_of_the_code_is_reported_for_errors_of_others_only():
    def detail(error: Exception) -> str:
        return deadletters.write("p", "s", message(b"x"), None, error, 1).detail

    assert detail(caught(StepFailed("no"))) == ""
    theirs = detail(caught(StepFailed("no"), caught(KeyError("mood"))))
    assert "KeyError: 'mood'" in theirs and "test_deadletters.py" in theirs
    assert "ZeroDivisionError" in detail(caught(ZeroDivisionError()))


def test_a_long_trace_is_cut_to_its_end():
    dead_letter = deadletters.write(
        "p", "s", message(b"x"), None, caught(ValueError("x" * 9000 + "the end")), 1
    )
    assert len(dead_letter.detail) <= 4000
    assert dead_letter.detail.endswith("the end\n")


def test_the_topic_is_named_after_the_app():
    assert deadletters.topic_name("penstock") == "penstock-dead-letters"
