"""The model that answers when none is configured: in process, at once, the same every time."""

import hashlib
import json
from collections.abc import AsyncIterator, Mapping
from typing import Any

import jsonschema
from agents import (
    AgentOutputSchemaBase,
    Handoff,
    Model,
    ModelResponse,
    ModelSettings,
    ModelTracing,
    Tool,
    TResponseInputItem,
    Usage,
)
from agents.items import TResponseStreamEvent
from openai.types.responses import ResponseOutputMessage, ResponseOutputText
from openai.types.responses.response_prompt_param import ResponsePromptParam

from penstock.models import LABEL
from penstock.models.offline import coder
from penstock.models.offline.storyteller import KINDS, content_of, fill, reply, tell

__all__ = ["LABEL", "OfflineModel"]


class OfflineModel(Model):
    """Answers every request with the storyteller's text, or the coder's code, for `parts`.

    `writes` is the part that the answer will be: one of the storyteller's kinds gets its text, one
    of the coder's parts what the coder writes there, any other a short reply about the last part,
    or about the input when there are no parts. The
    same seed, parts and request give the same answer, ids and usage. Tools and handoffs are never
    called. The text carries no label: whoever shows it puts `LABEL` beside it.
    """

    def __init__(
        self,
        name: str = "storyteller",
        *,
        seed: str,
        writes: str,
        parts: Mapping[str, object],
    ) -> None:
        self.name = name
        self.seed = seed
        self.writes = writes
        self.parts = parts

    async def get_response(
        self,
        system_instructions: str | None,
        input: str | list[TResponseInputItem],
        model_settings: ModelSettings,
        tools: list[Tool],
        output_schema: AgentOutputSchemaBase | None,
        handoffs: list[Handoff],
        tracing: ModelTracing,
        *,
        previous_response_id: str | None,
        conversation_id: str | None,
        prompt: ResponsePromptParam | None,
    ) -> ModelResponse:
        """One finished message: text, or JSON that is valid under `output_schema`."""
        asked = _last_text(input)
        written = self._code(asked)
        said = coder.as_text(written) if written else self._prose(system_instructions or "", asked)
        if output_schema is not None and not output_schema.is_plain_text():
            schema = output_schema.json_schema()
            # A card of somebody else's may ask for other things than the coder writes.
            fits = written and jsonschema.Draft202012Validator(schema).is_valid(written)
            answer = written if fits else fill(schema, self.seed, said)
            said = json.dumps(answer, ensure_ascii=False)
        taken = _tokens(system_instructions or "") + _tokens(asked)
        given = _tokens(said)
        request = f"{self.name}\0{self.seed}\0{self.writes}\0{asked}"
        number = hashlib.sha256(request.encode("utf-8", "replace")).hexdigest()[:24]
        message = ResponseOutputMessage(
            id=f"msg_{number}",
            content=[ResponseOutputText(annotations=[], text=said, type="output_text")],
            role="assistant",
            status="completed",
            type="message",
        )
        return ModelResponse(
            output=[message],
            usage=Usage(
                requests=1, input_tokens=taken, output_tokens=given, total_tokens=taken + given
            ),
            response_id=f"resp_{number}",
        )

    def stream_response(
        self,
        system_instructions: str | None,
        input: str | list[TResponseInputItem],
        model_settings: ModelSettings,
        tools: list[Tool],
        output_schema: AgentOutputSchemaBase | None,
        handoffs: list[Handoff],
        tracing: ModelTracing,
        *,
        previous_response_id: str | None,
        conversation_id: str | None,
        prompt: ResponsePromptParam | None,
    ) -> AsyncIterator[TResponseStreamEvent]:
        """Always raises: the answer is there at once, so there is nothing to stream."""
        raise NotImplementedError(
            "the offline model does not stream: call Runner.run, not Runner.run_streamed"
        )

    def _code(self, asked: str) -> dict[str, object] | None:
        if self.writes not in coder.PARTS:
            return None
        return coder.write(self.writes, self.parts, asked, self.seed)

    def _prose(self, instructions: str, asked: str) -> str:
        if self.writes not in KINDS:
            # What the run has come to, without the headings of the whole prompt.
            told = content_of(list(self.parts.values())[-1]) if self.parts else asked
            return reply(instructions, told, self.seed)
        # A pipeline with other part names still gets a story about what it was asked.
        known = self.parts if self.parts.keys() & {"premise", *KINDS} else {"premise": asked}
        return tell(self.writes, known, self.seed)


def _last_text(input: str | list[TResponseInputItem]) -> str:
    """The text of the last input item that has any."""
    if isinstance(input, str):
        return input
    for item in reversed(input):
        if said := _item_text(item):
            return said
    return ""


def _item_text(item: Mapping[str, Any]) -> str:
    content = item.get("content") or item.get("output")
    if isinstance(content, str):
        return content
    pieces = content if isinstance(content, list) else []
    texts = (piece.get("text") for piece in pieces if isinstance(piece, Mapping))
    return "\n".join(text for text in texts if isinstance(text, str))


def _tokens(text: str) -> int:
    """An estimate, at four characters a token; the same text always counts the same."""
    return len(text) // 4 + 1
