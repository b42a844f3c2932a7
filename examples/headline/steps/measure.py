"""The steps of the pipeline: does a headline fit, and on which page does it go."""

from typing import Any

from penstock import Work, step

MOST_WORDS = 8


@step
async def measure(work: Work) -> dict[str, Any]:
    """How long the headline is, and whether that will do."""
    words = len(work.parts["headline"].split())
    return {"words": words, "verdict": "FITS" if words <= MOST_WORDS else "TOO_LONG"}


@step
async def print_it(work: Work) -> None:
    measured = work.parts["measure"]
    work.show(f"{work.event.trace_id}: {work.parts['headline']} ({measured['words']} words)")
