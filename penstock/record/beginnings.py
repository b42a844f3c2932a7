"""Submitting: the first event of a run, onto the entry of its pipeline."""

import asyncio
from typing import TYPE_CHECKING

from penstock.broker.tp import TP
from penstock.errors import EventTooLarge, MalformedEvent
from penstock.project.chains import Chain
from penstock.record import events
from penstock.record.event_log import EventLog
from penstock.record.events import Event
from penstock.settings import Settings

if TYPE_CHECKING:
    from penstock.worker.application import PenstockApp


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


async def submit(
    app: "PenstockApp", chain: Chain, event: Event, *, kept: bool = False, topic: str | None = None
) -> bool:
    """From inside the worker: the run has begun, at the chain's entry or on `topic`; or it had
    before, or is another worker's to begin (False)."""
    # For a worker, which has Faust; a client only encodes.
    from penstock.broker.embedded.transport import Transport as EmbeddedTransport

    raw = encode(event, app.settings)
    topic = topic or chain.entry_of(event.parts)
    transport = app.transport
    if isinstance(transport, EmbeddedTransport):
        store = transport.store
        tp = TP(topic, store.partition_of(topic, event.key))
        future: asyncio.Future[int | None] = asyncio.get_running_loop().create_future()

        def durable(offset: int | None) -> None:
            if not future.done():  # a worker that stops cancels who waits here
                future.set_result(offset)

        store.submit(event.id, tp, event.key, raw, durable, kept=kept)
        if not store.running:
            store.commit_now()
        offset = await future
        if offset is None:
            return False
        partition = tp.partition
    else:
        assert app.kafka is not None
        sent = await app.kafka.journal.begin(topic, event.id, event.key, raw, kept)
        if sent is None:
            return False
        partition, offset = sent.partition, sent.offset
    log_begun(app.event_log, topic, event, partition, offset)
    return True


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
