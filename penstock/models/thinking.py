"""Thinking: what a model says to itself before it answers, where it gives that."""

import re
from collections.abc import Sequence
from typing import Any

from agents import ModelResponse
from openai.types.responses import ResponseOutputMessage, ResponseOutputText
from openai.types.responses.response_reasoning_item import ResponseReasoningItem, Summary

#: Characters that go on from here: it is for people, and does not count as an answer.
LONGEST = 20_000
#: How small models mark it in the answer itself. One that was cut off has no end.
_MARKED = re.compile(r"\s*<(think|thinking)>(.*?)(?:</\1>\s*|\Z)", re.DOTALL | re.IGNORECASE)


def set_apart(response: ModelResponse) -> ModelResponse:
    """`response`, with thinking that stands at the beginning of a text in an item of its own."""
    output: list[Any] = []
    for item in response.output:
        if isinstance(item, ResponseOutputMessage):
            for piece in item.content:
                if not isinstance(piece, ResponseOutputText):
                    continue
                marked = _MARKED.match(piece.text)
                if marked is not None:
                    output.append(
                        ResponseReasoningItem(
                            id=f"{item.id}_thinking",
                            summary=[Summary(text=marked[2].strip(), type="summary_text")],
                            type="reasoning",
                        )
                    )
                    piece.text = piece.text[marked.end() :]
        output.append(item)
    response.output = output
    return response


def thinking_of(responses: Sequence[ModelResponse]) -> str:
    """All that was thought for these responses, in order; nothing where the model gives none."""
    thoughts = []
    for response in responses:
        for item in response.output:
            if isinstance(item, ResponseReasoningItem):
                texts = [one.text for one in (*(item.content or ()), *item.summary)]
                thoughts += [text.strip() for text in texts if text.strip()]
    thinking = "\n\n".join(thoughts)
    return thinking if len(thinking) <= LONGEST else f"{thinking[: LONGEST - 1]}…"
