"""Plain records: what other programs put on an entry that accepts them, and the runs they begin."""

import contextlib
import json
import uuid
from typing import Any

import msgspec

from penstock.errors import ChainError, MalformedEvent
from penstock.project.chains import Chain
from penstock.record.events import NAMESPACE, Event, first_event

#: Who the first event of such a run says that it is from.
ORIGIN = "plain"


def begin_plain(chain: Chain, position: str, key: bytes | None, raw: bytes | None) -> Event:
    """The first event of the run that the plain record `raw` at TOPIC/PARTITION/OFFSET begins. Its
    trace id follows from that position, so the same record is the same run; its key becomes the tag
    `key`. Raises `MalformedEvent` for what no run of `chain` can begin with."""
    try:
        parts = chain.read_parts(_parts(position.partition("/")[0], raw or b""))
    except (ChainError, ValueError, RecursionError) as exc:
        said = exc.message if isinstance(exc, ChainError) else str(exc)
        raise MalformedEvent(f"no run can begin with this record: {said}") from exc
    event = first_event(chain.name, parts, str(uuid.uuid5(NAMESPACE, position)), ORIGIN)
    tags = {"key": key.decode(errors="replace")} if key else {}
    return msgspec.structs.replace(event, tags=tags)


def _parts(topic: str, raw: bytes) -> dict[str, Any]:
    """An object that has the entry's part is the run's parts; any other object is that part as a
    whole, and so is the text of a record that is no object."""
    text = raw.decode()
    part: Any = text
    if text.lstrip().startswith("{"):
        with contextlib.suppress(json.JSONDecodeError):
            part = json.loads(text)
    return part if isinstance(part, dict) and topic in part else {topic: part}
