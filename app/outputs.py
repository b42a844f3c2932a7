"""Outputs: what a step's answer becomes. An event for each value, on the topic where it goes."""

import time

from app import events
from app.chains import StageSpec
from app.errors import EventTooLarge, StepFailed
from app.events import Event
from app.work import Answer


def make_outputs(
    spec: StageSpec, event: Event, answer: Answer, attempts: int, max_bytes: int
) -> list[tuple[str, Event, bytes]]:
    """Topic, event and record for each value of `answer` that goes on from `event`. Raises
    `StepFailed` for what is no JSON or has no branch, `EventTooLarge` above `max_bytes`."""
    if spec.writes is None and spec.branches is None:
        return []
    kept = event.parts
    if spec.carries is not None:
        kept = {name: part for name, part in kept.items() if name in spec.carries}
    made = []
    for index, value in enumerate(answer.values):
        topic, rounds = spec.writes, event.rounds
        if spec.branches is not None:
            topic, rounds = spec.branches.choose(spec.name, value, rounds)
        if topic is None:
            continue
        output = Event(
            id=events.derive_id(event.id, spec.name, topic, index, event.replay),
            trace_id=event.trace_id,
            parent_id=event.id,
            pipeline=event.pipeline,
            stage=spec.name,
            agent=spec.agent,
            card=answer.card,
            parts={**kept, spec.makes: value},
            usage=answer.usage,
            created=time.time(),
            attempt=attempts,
            forked_from=event.forked_from,
            rounds=rounds,
        )
        made.append((topic, output, _encode(output, spec, topic, max_bytes)))
    return made


def _encode(output: Event, spec: StageSpec, topic: str, max_bytes: int) -> bytes:
    try:
        raw = events.dump(output)
    except (TypeError, ValueError, RecursionError) as exc:
        raise StepFailed(
            f"'{spec.does}' answered with something that JSON cannot hold: {exc}"
        ) from exc
    if len(raw) > max_bytes:
        raise EventTooLarge(
            f"'{spec.does}' made an event of {len(raw)} bytes for '{topic}'; the largest is"
            f" {max_bytes} (PENSTOCK_MAX_EVENT_BYTES). Let the chain carry less ('carries'), or"
            " raise the limit."
        )
    return raw
