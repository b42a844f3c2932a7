"""The step `write_file`: the run's last part becomes a file under data/outputs/."""

import hashlib
from typing import Any

from penstock.errors import StepFailed, Unavailable
from penstock.models import LABEL, wrote_offline
from penstock.record.events import as_text
from penstock.record.file_names import FOLDER
from penstock.steps import Work
from penstock.steps.output_files import write_whole


def write_file(work: Work) -> dict[str, Any]:
    """The run's last part is in the file that its first part names as `output_file`: what somebody
    began the run with. What a model wrote is never looked at for a name.

    The file is there whole or not at all, labelled when no model wrote it. A crash before the
    step's end writes the same file again.
    """
    event = work.event
    parts = list(event.parts.values())
    name = parts[0].get("output_file") if isinstance(parts[0], dict) and len(parts) > 1 else None
    if not isinstance(name, str):
        raise StepFailed("the run's first part names no 'output_file'")
    text = as_text(parts[-1])
    if event.usage is not None and wrote_offline(event.usage.model):
        text = f"({LABEL})\n\n{text}"
    data = (text.rstrip("\n") + "\n").encode(errors="replace")
    try:
        # Hashed: an id comes from a topic, and may be anything.
        mark = hashlib.sha256(event.id.encode()).hexdigest()[:32]
        write_whole(work.data / FOLDER, name, data, mark)
    except ValueError as exc:
        raise StepFailed(f"output_file is {name!r}: {exc}") from None  # it says all there is
    except OSError as exc:
        # A full disk may have room again.
        raise Unavailable(f"{FOLDER}/{name} cannot be written: {exc}") from exc
    digest = hashlib.sha256(data).hexdigest()
    return {"file": f"{FOLDER}/{name}", "bytes": len(data), "sha256": digest}
