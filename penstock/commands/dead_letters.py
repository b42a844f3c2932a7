"""Commands about dead letters: what could not be processed, and what becomes of it."""

import contextlib
import json
import sys

import click
import msgspec

from penstock.client import Client
from penstock.commands.command import Context
from penstock.commands.printing import complain, put, put_json, say
from penstock.errors import MalformedEvent, NotFound, SettingsError
from penstock.record.dead_letters import DeadLetter, Exchange

#: Characters that are shown of each text of a model's, or for it.
SHORT = 2000


async def dead_letters(
    context: Context,
    action: str,
    dead_letter_id: str | None,
    edit: bool,
    every: bool,
    cause: str | None,
    full: bool = False,
) -> None:
    as_json = context.as_json
    async with context.client() as client:
        if action == "list":
            show(chosen(client, None, True, cause), as_json)
            return
        dead_letters = chosen(client, dead_letter_id, every, cause)
        if action == "show":
            show(dead_letters, as_json, SHORT if not full else sys.maxsize)
            return
        if not dead_letters:
            say("There are no such dead letters.")
        left = 0
        for dead_letter in dead_letters:
            if action == "replay":
                record = edited(client.record_of(dead_letter)) if edit else None
                try:
                    event = await client.replay(dead_letter.id, record)
                except (MalformedEvent, NotFound) as exc:
                    if not every:
                        raise
                    # The others can be replayed all the same.
                    left += 1
                    complain(exc.message)
                    continue
                said = {"id": dead_letter.id, "trace_id": event.trace_id, "replay": event.replay}
                text = f"replayed {dead_letter.id}  run {event.trace_id}  for {dead_letter.stage}"
            else:
                await client.drop(dead_letter.id)
                said = {"id": dead_letter.id, "trace_id": dead_letter.trace_id, "dropped": True}
                text = f"dropped {dead_letter.id}  run {dead_letter.trace_id}"
            put_json(said) if as_json else put(text)
        if action == "replay" and dead_letters and not client.worker_running():
            say("No worker is running: they wait. Start one with: penstock worker")
        if left:
            raise MalformedEvent(f"{left} of {len(dead_letters)} could not be replayed, as said")


def chosen(
    client: Client, dead_letter_id: str | None, every: bool, cause: str | None
) -> list[DeadLetter]:
    """The open dead letters that were asked for. Raises `SettingsError` or `NotFound`."""
    dead_letters = client.dead_letters()
    if every:
        return [dead_letter for dead_letter in dead_letters if cause in (None, dead_letter.cause)]
    if dead_letter_id is None:
        raise SettingsError("which one? Give its id (penstock dead-letters), or --all")
    found = [dead_letter for dead_letter in dead_letters if dead_letter.id == dead_letter_id]
    if not found:
        raise NotFound(f"there is no dead letter {dead_letter_id} that is open")
    return found


def edited(record: bytes) -> bytes:
    """The record as somebody has mended it in their editor."""
    before = record.decode(errors="replace")
    with contextlib.suppress(ValueError):  # that is what there is to mend
        before = json.dumps(json.loads(before), indent=2, ensure_ascii=False)
    after = click.edit(before, extension=".json")
    if after is None or after == before:
        raise SettingsError("nothing was changed, so nothing was replayed")
    return after.encode()


def show(dead_letters: list[DeadLetter], as_json: bool, longest: int = 0) -> None:
    """The letters on the screen, a line each; with `longest`, all of them, and so many characters
    of each text that a model was given or gave."""
    if as_json:
        for one in dead_letters:
            put_json(msgspec.to_builtins(one))
        return
    if not dead_letters:
        say("There are no dead letters.")
    for one in dead_letters:
        put(f"{one.id}  run {one.trace_id}  {one.stage}  {one.cause}: {one.message}")
        if longest:
            put(one.detail)
            alone = f"(its record stands on {one.topic}/{one.partition}/{one.offset} alone)"
            put(one.raw if one.raw is not None else one.raw_base64 or alone)
        if longest and one.exchange is not None:
            show_exchange(one.exchange, longest)


def show_exchange(exchange: Exchange, longest: int) -> None:
    """What a model was asked and what it said."""
    number = len(exchange.answers)
    texts = [
        (f"{exchange.model} was told:", exchange.instructions),
        ("and asked:", exchange.input),
        *((f"and said ({n} of {number}):", said) for n, said in enumerate(exchange.answers, 1)),
    ]
    for title, text in texts:
        left_out = len(text) - longest
        more = f"… ({left_out} characters more: --full)" if left_out > 0 else ""
        put(f"\n{title}\n{text[:longest]}{more}")
    if not exchange.answers:
        put("\nand gave no answer.")
