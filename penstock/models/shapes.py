"""Shapes: what compatible servers answer in other ones than OpenAI's, as the SDK reads it.

An answer is paid for: whatever can be understood of it is, and only what cannot is the event's own
failure.
"""

import contextlib
import json
from collections.abc import Mapping, Sequence
from typing import Any

from openai import BaseModel

#: Of an answer's usage, what the SDK takes to be there.
COUNTS = ("prompt_tokens", "completion_tokens", "total_tokens")
DETAILS = ("prompt_tokens_details", "completion_tokens_details")


def in_shape(response: Any) -> None:
    """Put what `response` holds, a completion that nobody has checked, into OpenAI's shapes: a
    content in parts is joined, calls of tools have ids and arguments as text, tokens are whole
    numbers. What is in no known shape stays."""
    for choice in getattr(response, "choices", None) or ():
        message = getattr(choice, "message", None)
        if isinstance(message, BaseModel):
            if isinstance(content := getattr(message, "content", None), list):
                message.content = joined(content)  # type: ignore[attr-defined]  # a message's own
            if isinstance(tools := getattr(message, "tool_calls", None), list):
                message.tool_calls = _named(tools) or None  # type: ignore[attr-defined]
    usage = getattr(response, "usage", None)
    if not isinstance(usage, BaseModel):
        response.usage = None
        return
    for name in COUNTS:
        setattr(usage, name, _number(getattr(usage, name, None)))
    for name in DETAILS:
        details = getattr(usage, name, None)
        if isinstance(details, BaseModel):
            for kind, count in list(details):
                setattr(details, kind, _number(count))
        elif details is not None:
            setattr(usage, name, None)


def _named(tools: Sequence[Any]) -> list[Any]:
    """The calls of tools that say which tool."""
    named = [tool for tool in tools if getattr(getattr(tool, "function", None), "name", None)]
    for number, tool in enumerate(named):
        tool.id = tool.id or f"call_{number}"
        if not isinstance(tool.function.arguments, str):
            tool.function.arguments = json.dumps(tool.function.arguments or {})
    return named


def _number(count: Any) -> int:
    with contextlib.suppress(TypeError, ValueError, OverflowError):
        return max(0, int(count))
    return 0


def joined(parts: Sequence[Any]) -> str:
    """Return the text of `parts`, as models that reason give them; what one thought stands in front
    of it, marked as smaller models mark it."""
    texts = []
    for part in parts:
        if isinstance(part, str):
            texts.append(part)
        elif isinstance(part, Mapping):
            if (thought := part.get("thinking")) is not None:
                thought = joined(thought) if isinstance(thought, list) else str(thought)
                texts.append(f"<think>{thought}</think>")
            elif isinstance(part.get("text"), str):
                texts.append(part["text"])
    # Of a stream each token is a part.
    return "".join(texts).replace("</think><think>", "")
