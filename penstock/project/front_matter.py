"""Front matter: the keys of a card, which say how its agent is called."""

from typing import Any, Literal

import pydantic

from penstock.record.notes import KINDS, Kind


class Recall(pydantic.BaseModel):
    """What an agent is told of the memory: the notes nearest to `about` (parts, or fields of the
    part that the stage reads), or without it the titles of the latest."""

    model_config = pydantic.ConfigDict(extra="forbid", strict=True)

    about: list[str] = []
    kinds: list[Kind] = pydantic.Field(list(KINDS), min_length=1)
    limit: int = pydantic.Field(3, ge=1, le=100)
    under: str = pydantic.Field("lessons", min_length=1)


class Front(pydantic.BaseModel):
    """The front matter of a card. An unknown key is an error."""

    model_config = pydantic.ConfigDict(extra="forbid", strict=True)

    about: str = ""
    model: str = ""
    temperature: float = pydantic.Field(0.7, ge=0, le=2)
    max_tokens: int = pydantic.Field(5000, ge=1)
    concurrency: int | None = pydantic.Field(None, ge=1, le=100_000)
    #: Seconds that one answer may take, its first token, and each one after another.
    timeout_s: float = pydantic.Field(600.0, gt=0)
    first_token_s: float = pydantic.Field(300.0, gt=0)
    token_timeout_s: float = pydantic.Field(60.0, gt=0)
    #: What becomes of an answer that the model did not end: by default, prose goes on with a mark,
    #: and JSON fails.
    cut: Literal["accept", "retry", "fail"] | None = None
    tools: list[str] = []
    #: The part, or the field of the part that the stage reads, that holds the instructions.
    instructions_from: str | None = None
    #: The parts, or fields of the part that the stage reads, that the agent is given; all parts.
    given: list[str] | None = pydantic.Field(None, min_length=1)
    recall: Recall | None = None
    output: dict[str, Any] | None = None
    #: Tasks that are answered in prose all the same.
    prose: list[str] = []

    @property
    def extra_settings(self) -> set[str]:
        """The names of what it says beyond these keys: see `penstock.project.model_settings`."""
        return self.model_fields_set - Front.model_fields.keys()

    @property
    def said_settings(self) -> dict[str, Any]:
        """What it says beyond these keys, as JSON: it is part of a request."""
        if not self.extra_settings:
            return {}
        return self.model_dump(mode="json", include=self.extra_settings)
