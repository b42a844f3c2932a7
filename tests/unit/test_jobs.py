"""Jobs: how they are written down, checked and named."""

import json
from typing import Any

import pytest

from penstock.errors import JobRefused
from penstock.record.events import Event
from penstock.record.jobs import (
    PROMPT_BYTES,
    TOPICS,
    check_priority,
    job_event,
    read_job,
    trace_id_of,
)

JOB: dict[str, Any] = {
    "system_prompt": "You are helpful.",
    "params": {"query": "Why?", "output_file": "why.txt"},
}


def changed(**fields):
    """`JOB` with other params, or with another system prompt."""
    top = {key: fields.pop(key) for key in ("system_prompt", "extra") if key in fields}
    return {**JOB, **top, "params": {**JOB["params"], **fields}}


def test_a_job_is_read_from_an_object_and_from_its_json():
    job = read_job("why", JOB)
    assert (job.name, job.query, job.context) == ("why", "Why?", "")
    text = json.dumps(JOB)
    assert read_job("why", text) == read_job("why", text.encode()) == job
    assert (
        read_job("why", bytearray(text.encode())) == read_job("why", changed(context=None)) == job
    )
    assert read_job("why", changed(context="Because.")).context == "Because."


@pytest.mark.parametrize(
    ("job", "complaint"),
    [
        (b"{", "job 'j': not JSON: "),
        (b"\xff", "job 'j': not JSON: "),
        (b"[" * 100_000, "job 'j': not JSON: more than 100 levels, one in the other"),
        (b'{"a": ' + b"[" * 200 + b"]" * 200 + b"}", "job 'j': not JSON: more than 100 levels"),
        (b'{"params": 1, "params": 2}', "job 'j': not JSON: the key 'params' stands twice"),
        ([], "job 'j': the job is a list, and not an object with system_prompt and params"),
        (None, "job 'j': the job is null"),
        ({"system_prompt": "x"}, "job 'j': the field 'params' is missing"),
        ({"params": {}}, "job 'j': the field 'system_prompt' is missing"),
        ({**JOB, "params": "x"}, "job 'j': 'params' is text, and not an object with query and"),
        (changed(extra=1), "job 'j': unknown field 'extra'."),
        (changed(contxt="x"), "unknown field 'params.contxt'. Did you mean 'params.context'?"),
        (changed(query=1), "job 'j': 'params.query' is a number, and not text"),
        (changed(system_prompt=None), "job 'j': 'system_prompt' is null, and not text"),
        (changed(query=" "), "job 'j': 'params.query' is empty"),
        (changed(system_prompt=""), "job 'j': 'system_prompt' is empty"),
        (changed(output_file="../x"), "'params.output_file' is '../x': '..' leads out"),
        (changed(output_file="\0"), "'params.output_file' is '\\x00'"),
        (changed(context="é" * PROMPT_BYTES), f"the largest has {PROMPT_BYTES}"),
        (changed(query="\ud800"), "not Unicode"),
    ],
)
def test_what_is_no_job_is_refused_with_the_field_that_is_wrong(job, complaint):
    with pytest.raises(JobRefused) as caught:
        read_job("j", job)
    assert complaint in caught.value.message


@pytest.mark.parametrize("name", ["", " x", "x\n", "x" * 201, "\x1b[2J", None])
def test_what_cannot_name_a_job_is_refused(name):
    with pytest.raises(JobRefused):
        read_job(name, JOB)


def test_the_same_job_has_one_event_and_another_under_its_name_has_another_in_the_same_run():
    first, same = (job_event(read_job("why", JOB), p) for p in ("low", "high"))
    other = job_event(read_job("why", changed(query="How?")), "low")
    assert first.id == same.id != other.id
    assert first.trace_id == same.trace_id == other.trace_id == trace_id_of("why")
    assert job_event(read_job("how", JOB), "low").trace_id != first.trace_id
    assert isinstance(first, Event) and list(same.parts) == [TOPICS["high"]]


@pytest.mark.parametrize("priority", ["urgent", None, ["high"]])
def test_there_are_two_priorities(priority):
    assert check_priority("high") == "high"
    with pytest.raises(JobRefused, match=r"the priority is .*: expected high or low"):
        check_priority(priority)
