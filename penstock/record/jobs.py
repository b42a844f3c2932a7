"""Jobs: what somebody pushes, how it is named and checked, and what has become of it.

The run of a job has its trace id from the job's name, so a name is a key: all that is pushed under
it is one run, on one partition, and the first job that is taken has the name for good.
"""

import hashlib
import uuid
from collections.abc import Mapping
from typing import Any

import msgspec

from penstock.errors import JobRefused, did_you_mean
from penstock.record.events import NAMESPACE, Event, derive_id, first_event
from penstock.record.file_names import check_name
from penstock.record.values import read_json

PIPELINE = "jobs"
HIGH, LOW = "high", "low"
#: The entry of each priority.
TOPICS = {HIGH: "jobs_high", LOW: "jobs_low"}
FILES = "jobs_files"
#: Who the first event of a job says that it is from.
ORIGIN = "push_job"
#: Characters in a name.
NAME_CHARS = 200
#: Bytes of system prompt, query and context together: some 60,000 tokens, and with its answer
#: still an event.
PROMPT_BYTES = 250_000
#: What somebody may have given in place of an object or a text, in words.
KINDS = {
    type(None): "null",
    bool: "true or false",
    int: "a number",
    float: "a number",
    str: "text",
    list: "a list",
    dict: "an object",
}


class Job(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A job as it stands on its topic."""

    name: str
    system_prompt: str
    query: str
    output_file: str
    context: str = ""

    @property
    def digest(self) -> str:
        """The same for the same job, whatever its name and its priority."""
        said = [self.system_prompt, self.query, self.context, self.output_file]
        return hashlib.sha256(msgspec.json.encode(said)).hexdigest()

    @property
    def trace_id(self) -> str:
        return trace_id_of(self.name)


def trace_id_of(name: str) -> str:
    """The trace id of the run of the job `name`."""
    return str(uuid.uuid5(NAMESPACE, f"job|{name}"))


def job_event(job: Job, priority: str) -> Event:
    """The event that begins the job. Its id follows from name and job: pushed twice, it is one."""
    event = first_event(PIPELINE, {TOPICS[priority]: msgspec.to_builtins(job)}, job.trace_id)
    id_ = derive_id(job.trace_id, ORIGIN, job.digest)
    return msgspec.structs.replace(event, id=id_, stage=ORIGIN)


def read_job(name: str, job: Mapping[str, Any] | bytes | bytearray | str) -> Job:
    """The job as somebody wrote it: `{"system_prompt": ..., "params": {"query": ...,
    "output_file": ..., "context": ...}}`, or the JSON of that; a context that is null is none.
    Raises `JobRefused` with the key."""
    read: Any = job
    if isinstance(job, bytes | bytearray | str):
        try:
            read = read_json(job)
        except ValueError as exc:
            raise JobRefused(f"job '{name}': not JSON: {exc}") from exc
    _check_keys(name, read, "", ("system_prompt", "params"))
    params = read["params"]
    _check_keys(name, params, "params.", ("query", "output_file"), ("context",))
    texts = {"system_prompt": read["system_prompt"]}
    texts |= {f"params.{key}": params[key] for key in params if (key, params[key]) != _NO_CONTEXT}
    for key, text in texts.items():
        if not isinstance(text, str):
            raise JobRefused(f"job '{name}': '{key}' is {_kind(text)}, and not text")
    found = {key.removeprefix("params."): text for key, text in texts.items()}
    return check_job({"name": name, **found}, prefix="params.")


_NO_CONTEXT = ("context", None)


def _kind(found: Any) -> str:
    return KINDS.get(type(found), f"of the type {type(found).__name__}")


def _check_keys(
    name: str, found: Any, prefix: str, needed: tuple[str, ...], others: tuple[str, ...] = ()
) -> None:
    if not isinstance(found, Mapping):
        what = f"'{prefix[:-1]}'" if prefix else "the job"
        raise JobRefused(
            f"job '{name}': {what} is {_kind(found)}, and not an object with {' and '.join(needed)}"
        )
    known = (*needed, *others)
    for key in found:
        if key not in known:
            hint = did_you_mean(str(key), known, prefix)
            raise JobRefused(
                f"job '{name}': unknown field '{prefix}{key}'.{hint}"
                f" Known here: {', '.join(known)}."
            )
    for key in needed:
        if key not in found:
            raise JobRefused(f"job '{name}': the field '{prefix}{key}' is missing")


def check_job(found: Any, prefix: str = "") -> Job:
    """The job in a part of an event. Raises `JobRefused` that names what is wrong."""
    try:
        job = msgspec.convert(found, Job)
    except (msgspec.ValidationError, TypeError) as exc:
        raise JobRefused(f"not a job: {exc}") from exc
    said = f"job '{job.name[:NAME_CHARS]}'"
    check_job_name(job.name)
    for key, text in (("system_prompt", job.system_prompt), (f"{prefix}query", job.query)):
        if not text.strip():
            raise JobRefused(f"{said}: '{key}' is empty")
    try:
        size = sum(len(text.encode()) for text in (job.system_prompt, job.query, job.context))
    except UnicodeEncodeError as exc:
        raise JobRefused(f"{said}: its text is not Unicode: {exc}") from exc
    if size > PROMPT_BYTES:
        raise JobRefused(
            f"{said}: the prompt has {size} bytes (system_prompt, query and context); the largest"
            f" has {PROMPT_BYTES}"
        )
    try:
        check_name(job.output_file)
    except ValueError as exc:
        raise JobRefused(f"{said}: '{prefix}output_file' is {job.output_file!r}: {exc}") from exc
    return job


def check_job_name(name: str) -> None:
    """Raises `JobRefused` for what cannot name a job."""
    if not isinstance(name, str) or not 0 < len(name) <= NAME_CHARS:
        raise JobRefused(f"a job's name is text of 1 to {NAME_CHARS} characters, not {name!r:.80}")
    if not name.isprintable() or name != name.strip():
        raise JobRefused(
            f"{name!r} cannot name a job: only what can be seen, without spaces at its ends"
        )


def check_priority(priority: str) -> str:
    if not isinstance(priority, str) or priority not in TOPICS:
        raise JobRefused(f"the priority is {priority!r}: expected {' or '.join(TOPICS)}")
    return priority
