"""Outputs: what a step's answer becomes. An event for each value, on the topic where it goes; and
where the chain has telemetry, one that reports what the agent did."""

import functools
import time
from typing import Any

import msgspec

from penstock.errors import EventTooLarge, StepFailed
from penstock.project.branches import Way
from penstock.project.chains import StageSpec
from penstock.record import events
from penstock.record.events import Event, Usage
from penstock.record.values import storable
from penstock.settings import Settings
from penstock.worker.prompts import find_part
from penstock.worker.work import Answer


def make_outputs(
    spec: StageSpec, event: Event, answer: Answer, attempts: int, settings: Settings
) -> list[tuple[str, Event, bytes]]:
    """Topic, event and record for each value of `answer` that goes on from `event`. Raises
    `StepFailed` for what is no JSON or has no branch, `EventTooLarge` above the limit."""
    made: list[tuple[str, Event, bytes]] = []
    reported = _report(spec, event, answer, attempts)
    if reported is not None:
        topic, report = reported
        made.append((topic, report, _encode(report, spec, topic, settings)))
    if spec.writes is None and spec.branches is None:
        return made
    kept = event.parts
    if spec.carries is not None:
        kept = {name: part for name, part in kept.items() if name in spec.carries}
    for index, made_value in enumerate(answer.values):
        value = _storable(made_value, spec)
        way = Way(spec.writes, event.rounds, event.seen)
        if spec.branches is not None:
            find = functools.partial(find_part, {**event.parts, spec.makes: value}, spec.reads)
            way = spec.branches.choose(spec.name, value, way.rounds, way.seen, find)
        if way.topic is None:
            continue
        id_ = events.derive_id(event.id, spec.name, way.topic, index, event.replay)
        parts = {**kept, spec.makes: value}
        output = _follow(event, spec, answer, attempts, id_, parts, answer.usage, way)
        made.append((way.topic, output, _encode(output, spec, way.topic, settings)))
    return made


def _report(
    spec: StageSpec, event: Event, answer: Answer, attempts: int
) -> tuple[str, Event] | None:
    """What the agent did and thought. It ends where it stands: nothing of the run hangs on it."""
    topic = spec.telemetry
    # An agent that was not asked did nothing, and one that writes there reports by itself.
    if topic is None or topic in spec.targets or answer.usage is None or answer.card is None:
        return None
    report = {
        "kind": "agent",
        "agent": spec.agent,
        "task": spec.again if spec.again and spec.makes in event.parts else spec.task,
        "stage": spec.name,
        "reads": spec.reads,
        "thinking": answer.thinking,
        # Not as the event's own: what was used is on the answer, and would be counted twice.
        "usage": msgspec.to_builtins(answer.usage),
    }
    id_ = events.derive_id(event.id, spec.name, topic, len(answer.values), event.replay)
    return topic, _follow(event, spec, answer, attempts, id_, {topic: report}, None)


def _follow(
    event: Event,
    spec: StageSpec,
    answer: Answer,
    attempts: int,
    id_: str,
    parts: dict[str, Any],
    usage: Usage | None,
    way: Way | None = None,
) -> Event:
    """An event of the same run, made from `event` by this stage."""
    return Event(
        id=id_,
        trace_id=event.trace_id,
        parent_id=event.id,
        pipeline=spec.pipeline,
        stage=spec.name,
        agent=spec.agent,
        card=answer.card,
        parts=parts,
        usage=usage,
        created=time.time(),
        attempt=attempts,
        forked_from=event.forked_from,
        tags=event.tags,
        rounds=dict(way.rounds) if way is not None else {},
        seen=dict(way.seen) if way is not None else {},
        ended=(way.ended or event.ended) if way is not None else "",
    )


def _storable(value: Any, spec: StageSpec) -> Any:
    """`value` as JSON holds it. Raises `StepFailed`; the encoder would write NaN as null."""
    try:
        plain = value if isinstance(value, str) else msgspec.to_builtins(value, str_keys=True)
        return storable(plain)
    except (TypeError, ValueError, RecursionError) as exc:
        raise StepFailed(
            f"'{spec.does}' answered with something that JSON cannot hold: {exc}"
        ) from exc


def _encode(output: Event, spec: StageSpec, topic: str, settings: Settings) -> bytes:
    raw = settings.redactor.record(events.dump(output))
    largest = settings.max_event_bytes
    if len(raw) > largest:
        raise EventTooLarge(
            f"'{spec.does}' made an event of {len(raw)} bytes for '{topic}'; the largest is"
            f" {largest} (PENSTOCK_MAX_EVENT_BYTES). Let the chain carry less ('carries'), or"
            " raise the limit."
        )
    return raw
