"""Cards: `agents/NAME.md`, front matter over the instructions of one agent."""

import dataclasses
import functools
import hashlib
import pathlib
import re
from typing import TYPE_CHECKING, Any

from frontmatter.default_handlers import YAMLHandler

from penstock.errors import ModelMisbehaved
from penstock.project.documents import Document, read_text
from penstock.project.front_matter import Front
from penstock.project.schemas import check_schema, validator_of

if TYPE_CHECKING:
    import jsonschema

#: A section of a card that stands at the end of the prompt: of each stage that names the task, or,
#: without a name, of each that names none.
TASK = re.compile(r"^##[ \t]+Task(?::[ \t]*(\S+))?[ \t]*$", re.MULTILINE)

#: What is told in every task, and is probably meant for one.
NEARLY_A_TASK = re.compile(r"^#+[ \t]*task[ \t]*:[ \t]*(.*?)[ \t]*$", re.MULTILINE | re.IGNORECASE)


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

    def task(self, name: str | None) -> str:
        """What the agent is asked to do with what it is given: the section of that name, or the
        one without."""
        return self.tasks.get(name or "", "")

    def instructions(self, task: str | None) -> str:
        """All that the agent is told for `task`: the common part, then the task's."""
        return f"{self.common}\n\n{self.task(task)}".strip()

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
        task = found[1] or ""
        if task in tasks:
            which = f"for the task '{task}'" if task else "'## Task', without a name"
            document.note(
                f"two sections are {which}; one is enough",
                line=1 + text.count("\n") - body.count("\n", found.start()),
            )
        tasks.setdefault(task, section.strip())
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
