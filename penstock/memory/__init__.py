"""The agents' memory: what failed, what succeeded and what keeps coming back, found by likeness.

    memory = Memory(settings)
    await memory.start()
    await memory.remember("failure", task, "split() drops empty fields", id=event.id)
    for note in await memory.recall(task, ["failure"]):
        print(note.score, note.lesson)

A memory that is down slows nothing and loses nothing: notes wait on the disk, looks find nothing.
qdrant-client is imported when the memory starts, and not with this package. docs/memory.md says
where the notes are, and how far they can be relied on.
"""

from penstock.memory.memory import Memory, Status, has_notes_to_deliver
from penstock.record.notes import KINDS, Found, Kind, Note

__all__ = ["KINDS", "Found", "Kind", "Memory", "Note", "Status", "has_notes_to_deliver"]
