"""A step in Python: a function that a chain calls by name."""

from penstock import Work, step


@step
async def count_words(work: Work) -> dict[str, int]:
    """What it returns becomes the part named after the topic that its stage writes: 'measured'."""
    return {"words": len(str(work.parts["draft"]).split())}
