"""Cards: `agents/NAME.md`, front matter over the instructions of one agent."""

import dataclasses
import functools
import hashlib
import pathlib
import re
from typing import TYPE_CHECKING, Any, Literal

import pydantic
from frontmatter.default_handlers import YAMLHandler

from penstock.errors import ModelMisbehaved
from penstock.project.documents import Document, read_text
from penstock.project.schemas import check_schema, validator_of
from penstock.record.notes import KINDS, Kind

if TYPE_CHECKING:
    import jsonschema

#: A section of a card that is added to the instructions when a stage asks for that task.
TASK = re.compile(r"^##[ \t]+Task:[ \t]*(\S+)[ \t]*$", re.MULTILINE)

#: What is told in every task, and is probably meant for one.
NEARLY_A_TASK = re.compile(r"^#+[ \t]*task[ \t]*:[ \t]*(.*?)[ \t]*$", re.MULTILINE | re.IGNORECASE)


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


@dataclasses.dataclass(frozen=True)
class Card:
    """What an agent is told, and how it is called.

    `hash` is of the whole file, so two texts made by the same hash had the same instructions.
    """

    name: str
    front: Front
    common: str
    tasks: dict[str, str]
    hash: str
    document: Document = dataclasses.field(repr=False, compare=False)
    #: The whole file.
    text: str = dataclasses.field(default="", repr=False, compare=False)

    @property
    def file(self) -> pathlib.Path:
        return self.document.file

    @property
    def label(self) -> str:
        return f"{self.name}@{self.hash}"

    def instructions(self, task: str | None) -> str:
        """The text that the agent is told for `task`: the common part, then the task's."""
        return f"{self.common}\n\n{self.tasks[task]}".strip() if task else self.common

    def output_for(self, task: str | None) -> dict[str, Any] | None:
        """The JSON Schema of the answer for `task`, or nothing when prose is asked for."""
        return None if task is not None and task in self.front.prose else self.front.output

    def when_cut(self, task: str | None) -> str:
        """Return what becomes of an answer for `task` that was cut off."""
        return self.front.cut or ("accept" if self.output_for(task) is None else "fail")

    @functools.cached_property
    def validator(self) -> "jsonschema.Draft202012Validator":
        return validator_of(self.front.output or {})

    def check_output(self, value: Any) -> None:
        """Raises `ModelMisbehaved` that names the place where `value` breaks the card's schema."""
        error = next(iter(self.validator.iter_errors(value)), None)
        if error is not None:
            path = "".join(f"[{p!r}]" for p in error.absolute_path)
            raise ModelMisbehaved(
                f"the answer does not fit the output of card '{self.name}'"
                f"{' at ' + path if path else ''}: {error.message}"
            )


def _front_for(document: Document) -> type[Front]:
    """The keys that a card may have: those of the SDK are looked up where it has other ones."""
    if document.data.keys() <= Front.model_fields.keys():
        return Front
    from penstock.project.model_settings import front_with_settings

    return front_with_settings()


def read_card(file: pathlib.Path) -> Card:
    """The card in `file`. What is wrong with it is noted in its document."""
    try:
        return parse_card(file, read_text(file))
    except ValueError as exc:
        return parse_card(file, "", str(exc))


def parse_card(file: pathlib.Path, text: str, unreadable: str = "") -> Card:
    """The card that `text` is, which stands or stood in `file`. What is wrong with it is noted in
    its document."""
    handler = YAMLHandler()
    front_text, body, first_line = "", text.lstrip("\ufeff"), 1
    if handler.detect(body):
        try:
            front_text, body = handler.split(body)
            # The handler takes the first mark and the empty lines after it away.
            first_line = 1 + text[: text.index(front_text)].count("\n")
        except ValueError:
            unreadable = "the front matter has no closing '---' line"
    document = Document(file, front_text, first_line)
    if unreadable:
        document.spoil(unreadable)
    front = document.check(_front_for(document)) or Front.model_validate({})
    if front.output is not None:
        check_schema(front.output, document)
    common, *sections = TASK.split(body)
    tasks: dict[str, str] = {}
    for found, section in zip(TASK.finditer(body), sections[1::2], strict=True):
        if found[1] in tasks:
            document.note(
                f"two sections are for the task '{found[1]}'; one is enough",
                line=1 + text.count("\n") - body.count("\n", found.start()),
            )
        tasks.setdefault(found[1], section.strip())
    for found in NEARLY_A_TASK.finditer(body):
        if not TASK.fullmatch(found[0]):
            line = 1 + text.count("\n") - body.count("\n", found.start())
            document.warn(f"no task: that would be '## Task: {found[1]}'", line=line)
    for task in front.prose:
        if task not in tasks:
            document.note(f"'prose' names '{task}', which is no task of this card", "prose")
    if not (common.strip() or tasks or front.instructions_from or document.spoilt()):
        line = 1 + text.count("\n") - body.count("\n")
        document.note("there are no instructions below the front matter", line=line)
    return Card(
        name=file.stem,
        front=front,
        common=common.strip(),
        tasks=tasks,
        hash=hashlib.sha256(text.encode()).hexdigest()[:12],
        document=document,
        text=text,
    )
