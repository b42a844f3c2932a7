"""The first event of a run: as a record, and in the event log."""

from penstock.errors import EventTooLarge, MalformedEvent
from penstock.record import events
from penstock.record.event_log import EventLog
from penstock.record.events import Event
from penstock.settings import Settings


def encode(event: Event, settings: Settings) -> bytes:
    """`event` as record. Raises `EventTooLarge` or `MalformedEvent`: better here than as a dead
    letter."""
    try:
        raw = events.dump(event)
    except (TypeError, ValueError, RecursionError) as exc:
        raise MalformedEvent(f"the run's parts hold what JSON cannot hold: {exc}") from exc
    if len(raw) > settings.max_event_bytes:
        raise EventTooLarge(
            f"the run's first event has {len(raw)} bytes; the largest is"
            f" {settings.max_event_bytes}. Begin with less, or raise PENSTOCK_MAX_EVENT_BYTES."
        )
    return raw


def log_begun(
    event_log: EventLog, topic: str, event: Event, partition: int, offset: int | None
) -> None:
    event_log.write(
        "produce",
        topic,
        event.trace_id,
        event,
        stage=event.stage,
        agent=None,
        card=None,
        partition=partition,
        offset=offset,
        usage=None,
    )
