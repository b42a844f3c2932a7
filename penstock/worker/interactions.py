"""Interactions: a line of the event log for each event that is taken, and for each that is made."""

from typing import Any

from penstock.record.beginnings import log_begun
from penstock.record.event_log import EventLog
from penstock.signals import DeadLettered, EventTaken, PlainBegun, Signals, StepFinished


class Interactions:
    """Writes what stages consume and produce to the event log, and with `instructions` what an
    agent was asked with."""

    def __init__(self, event_log: EventLog, *, instructions: bool) -> None:
        self._event_log = event_log
        self._write = event_log.write
        self._instructions = instructions

    def subscribe(self, signals: Signals) -> None:
        signals.on(EventTaken, self.taken)
        signals.on(StepFinished, self.finished)
        signals.on(PlainBegun, self.begun)
        signals.on(DeadLettered, self.dead_lettered)

    def taken(self, signal: EventTaken) -> None:
        where, event = signal.where, signal.event
        self._write(
            "consume",
            signal.topic,
            event.trace_id,
            event,
            stage=where.name,
            agent=where.agent,
            card=where.card,
            partition=signal.partition,
            offset=signal.offset,
        )

    def finished(self, signal: StepFinished) -> None:
        where = signal.where
        made = zip(signal.outputs, signal.positions, strict=True)
        for (topic, event, _), (partition, offset) in made:
            fields: dict[str, Any] = {
                "stage": where.name,
                "agent": event.agent,
                "card": event.card,
                "partition": partition,
                "offset": offset,
                "usage": event.usage,
            }
            # Once: the agent's report stands beside its answer.
            if self._instructions and signal.instructions is not None and topic in where.targets:
                fields["instructions"] = signal.instructions
            self._write("produce", topic, event.trace_id, event, **fields)

    def begun(self, signal: PlainBegun) -> None:
        ((topic, event, _),), (location,) = signal.outputs, signal.positions
        log_begun(self._event_log, topic, event, *location)

    def dead_lettered(self, signal: DeadLettered) -> None:
        where = signal.where
        ((partition, offset),) = signal.positions
        self._write(
            "produce",
            signal.topic,
            signal.trace_id,
            signal.dead_letter,
            stage=where.name,
            agent=where.agent,
            card=where.card,
            partition=partition,
            offset=offset,
        )
