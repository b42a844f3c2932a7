"""Prompts: an agent's instructions and what it is given, of its card and of the run."""

import json
from collections.abc import Mapping
from typing import Any

from penstock.errors import StepFailed
from penstock.project.cards import Card, Recall
from penstock.record.events import Event
from penstock.record.notes import about_text
from penstock.steps import Work


def find_part(event: Event, reads: str, name: str) -> Any:
    """The part `name`, or else the field of that name in the part that the stage reads."""
    if name in event.parts:
        return event.parts[name]
    read = event.parts.get(reads)
    return read.get(name) if isinstance(read, dict) else None


def given_parts(event: Event, reads: str, card: Card) -> dict[str, Any]:
    """What the agent is given of the run: all of its parts, or those that the card names. One that
    is missing or empty is left out. Raises `StepFailed` when nothing is left."""
    names = card.front.given
    if names is None:
        return event.parts
    found = {name: find_part(event, reads, name) for name in names}
    parts = {name: part for name, part in found.items() if part not in (None, "", [], {})}
    if not parts:
        raise StepFailed(
            f"card '{card.name}' is given {', '.join(names)}, and the event has none of them,"
            f" neither as parts nor in '{reads}'"
        )
    return parts


def instructions_for(event: Event, reads: str, card: Card, own: str) -> str:
    """The card's own instructions, then those that the run brings. Raises `StepFailed` when
    the card counts on the run and it brings none."""
    name = card.front.instructions_from
    if name is None:
        return own
    brought = find_part(event, reads, name)
    if not isinstance(brought, str) or not brought.strip():
        raise StepFailed(
            f"card '{card.name}' has its instructions from '{name}', and the event has no text of"
            f" that name, neither as a part nor in '{reads}'"
        )
    return f"{own}\n\n{brought}" if own else brought


def write_prompt(parts: Mapping[str, Any]) -> str:
    """What an agent is asked: what the run has made so far, each part under its name."""
    sections = []
    for name, part in parts.items():
        text = part if isinstance(part, str) else json.dumps(part, ensure_ascii=False, indent=2)
        sections.append(f"# {name}\n\n{text}")
    return "\n\n".join(sections)


async def look_up(recall: Recall, work: Work, reads: str) -> dict[str, Any]:
    """What the memory has for the agent, as one more part; none when it has nothing. Recorded: an
    agent that is asked again after a crash is given the same."""
    if not recall.about:
        notes = await work.recall(None, recall.kinds, recall.limit)
        lines = [note["task"].partition("\n")[0] for note in notes]
    else:
        notes = await work.recall(
            about_text(*(find_part(work.event, reads, name) for name in recall.about)),
            recall.kinds,
            recall.limit,
        )
        lines = [
            f"{note['kind']} (alike by {note['score']:.2f}), {note['task'].partition(chr(10))[0]}:"
            f" {note['lesson']}"
            for note in notes
        ]
    return {recall.under: "\n".join(f"- {line}" for line in lines)} if lines else {}
