"""The model that answers when none is configured: in process, at once, the same every time."""

import hashlib
import json
from collections.abc import AsyncIterator, Mapping
from typing import Any

import jsonschema
from agents import AgentOutputSchemaBase, Model, ModelResponse, TResponseInputItem, Usage
from agents.items import TResponseStreamEvent
from openai.types.responses import ResponseOutputMessage, ResponseOutputText

from penstock.models import LABEL
from penstock.models.offline import coder, stories
from penstock.models.offline.filling import fill
from penstock.models.offline.prose import text_of
from penstock.models.offline.replies import reply

__all__ = ["LABEL", "OfflineModel"]


class OfflineModel(Model):
    """Answers every request with the storyteller's text, or the coder's code, for `parts`.

    `writes` is the part that the answer will be: one of the story's gets its text, one of the
    mesh's what the coder writes there, any other a short reply about the last part, or about the
    input when there are no parts. The same seed, parts and request give the same answer, ids and
    usage. Tools and handoffs are never called. The text carries no label: whoever shows it puts
    `LABEL` beside it.
    """

    def __init__(
        self, name: str = "storyteller", *, seed: str, writes: str, parts: Mapping[str, object]
    ) -> None:
        self.name = name
        self.seed = seed
        self.writes = writes
        self.parts = parts

    async def get_response(
        self,
        system_instructions: str | None,
        input: str | list[TResponseInputItem],
        model_settings: object,
        tools: object,
        output_schema: AgentOutputSchemaBase | None,
        *others: Any,
        **more: Any,
    ) -> ModelResponse:
        """Return one finished message: text, or JSON that is valid under `output_schema`."""
        asked, told = _last_text(input), system_instructions or ""
        coded = self.writes in coder.PARTS
        written = coder.write(self.writes, self.parts, asked, self.seed) if coded else {}
        said = coder.as_text(written) if coded else self._prose(told, asked)
        if output_schema is not None and not output_schema.is_plain_text():
            schema = output_schema.json_schema()
            # A card of somebody else's may ask for other things than the coder writes.
            fits = coded and jsonschema.Draft202012Validator(schema).is_valid(written)
            value = written if fits else fill(schema, self.seed, said)
            said = json.dumps(value, ensure_ascii=False)
        taken, given = _tokens(told) + _tokens(asked), _tokens(said)
        request = f"{self.name}\0{self.seed}\0{self.writes}\0{asked}"
        number = hashlib.sha256(request.encode("utf-8", "replace")).hexdigest()[:24]
        message = ResponseOutputMessage(
            id=f"msg_{number}",
            content=[ResponseOutputText(annotations=[], text=said, type="output_text")],
            role="assistant",
            status="completed",
            type="message",
        )
        usage = Usage(
            requests=1, input_tokens=taken, output_tokens=given, total_tokens=taken + given
        )
        return ModelResponse(output=[message], usage=usage, response_id=f"resp_{number}")

    def stream_response(self, *request: Any, **more: Any) -> AsyncIterator[TResponseStreamEvent]:
        """Always raises: the answer is there at once, so there is nothing to stream."""
        raise NotImplementedError(
            "the offline model does not stream: call Runner.run, not Runner.run_streamed"
        )

    def _prose(self, instructions: str, asked: str) -> str:
        # What the run has come to, without the tags and the task of the whole prompt.
        last = text_of([*self.parts.values()][-1]) if self.parts else asked
        if self.writes not in stories.KINDS:
            return reply(instructions, last, self.seed)
        # A pipeline with other part names still gets a story about what it was asked.
        is_story = self.parts.keys() & {"premise", *stories.KINDS}
        parts = self.parts if is_story else {"premise": last}
        return stories.tell(self.writes, parts, self.seed)


def _last_text(said: Any) -> str:
    """The text of the last input item that has any."""
    items = [said] if isinstance(said, str) else reversed(said)
    return next(filter(None, map(_text, items)), "")


def _text(item: Any) -> str:
    if isinstance(item, Mapping):
        item = item.get("content") or item.get("output") or item.get("text")
    return item if isinstance(item, str) else "\n".join(map(_text, item or ()))


def _tokens(text: str) -> int:
    """An estimate, at four characters a token; the same text always counts the same."""
    return len(text) // 4 + 1
