"""The step `present`: shows a finished run on the worker's console."""

from penstock.models import LABEL, wrote_offline
from penstock.record.events import as_text
from penstock.steps import Work


async def present(work: Work) -> None:
    """The run's last part is on the console, under its trace id, labelled when no model wrote it.

    A crash between the printing and the transaction prints it again, under the same trace id.
    """
    event = work.event
    title = event.pipeline.replace("_", " ").replace("-", " ").title()
    text = as_text(list(event.parts.values())[-1])
    offline = event.usage is not None and wrote_offline(event.usage.model)
    label = f"({LABEL})\n" if offline else ""
    work.show(f"\n✅ Final {title} Output for Trace ID {event.trace_id}:\n{label}\n{text}\n")
