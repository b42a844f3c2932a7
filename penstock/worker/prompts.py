"""Prompts: what an agent is given of the run, each part between tags, and its task after them."""

import collections
import dataclasses
import functools
import itertools
import json
import re
import unicodedata
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from penstock.errors import StepFailed
from penstock.project.cards import Card
from penstock.project.chains import StageSpec
from penstock.project.front_matter import Recall
from penstock.record.events import Event
from penstock.record.notes import about_text
from penstock.steps import Work

EMPTY: tuple[Any, ...] = (None, "", [], {})
#: What a tag begins with, also in the forms that NFKC makes the same.
OPENING = "<\uff1c\ufe64"
#: How the name of a tag is found in a text, however it is spaced.
TAG = re.compile(r"<\s*/?\s*([\w-]+)")
#: What is said to an agent whose answer could not be used.
AGAIN = "Your last answer could not be used: the reason stands under 'fault'. Answer again."


def find_part(parts: Mapping[str, Any], reads: str, name: str) -> Any:
    """The part `name`; or a field of a part, as `PART.FIELD`; or else the field of that name in
    the part that the stage reads."""
    if name in parts:
        return parts[name]
    around, _, field = name.rpartition(".")
    found = find_part(parts, reads, around) if around else None
    if isinstance(found, dict) and field in found:
        return found[field]
    read = parts.get(reads)
    return read.get(name) if isinstance(read, dict) else None


def given_parts(event: Event, spec: StageSpec, card: Card) -> dict[str, Any]:
    """What the agent is given of the run, by the words that people have for it: all parts, or
    those that the card names. One that is missing or empty is left out, and of a text whose fields
    are named there is the text. Raises `StepFailed` when nothing is left of what the card names."""
    names = card.front.given
    parts = {}
    for name in names or event.parts:
        around = name.rpartition(".")[0]
        if around and isinstance(find_part(event.parts, spec.reads, around), str):
            name = around
        part = find_part(event.parts, spec.reads, name)
        if part not in EMPTY:
            parts[name] = part
    if names is not None and not parts:
        raise StepFailed(
            f"card '{card.name}' is given {', '.join(names)}, and the event has none of them,"
            f" neither as parts nor in '{spec.reads}'"
        )
    count = collections.Counter(map(spec.word_for, parts))
    return {
        word if count[word := spec.word_for(name)] == 1 else name: part
        for name, part in parts.items()
    }


def instructions_for(event: Event, reads: str, card: Card) -> str:
    """The card's own instructions, then those that the run brings. Raises `StepFailed` when
    the card counts on the run and it brings none."""
    name = card.front.instructions_from
    if name is None:
        return card.common
    brought = find_part(event.parts, reads, name)
    if not isinstance(brought, str) or not brought.strip():
        raise StepFailed(
            f"card '{card.name}' has its instructions from '{name}', and the event has no text of"
            f" that name, neither as a part nor in '{reads}'"
        )
    return f"{card.common}\n\n{brought}" if card.common else brought


@dataclasses.dataclass(frozen=True)
class Prompt:
    """What an agent is asked: the parts by their words, each between tags, and then its task.

    A part in JSON has a tag for each of its fields. No text ends its tag or begins another: where
    one holds such a tag, all tags have a number behind their names that is in none of the texts.
    """

    parts: Mapping[str, Any]
    task: str = ""
    #: What is said between the parts and the task.
    note: str = ""

    def again(self, fault: str) -> "Prompt":
        """The same, asked once more of an agent whose answer could not be used."""
        return Prompt({**self.parts, "fault": fault}, self.task, AGAIN)

    @functools.cached_property
    def text(self) -> str:
        sections = [
            _between(f"{name}{self._number}", self._numbered(content))
            for name, content in self._sections
        ]
        return "\n\n".join(filter(None, [*sections, self.note, self.task]))

    @functools.cached_property
    def tags(self) -> set[str]:
        """The names of all its tags."""
        return {f"{name}{self._number}" for name, _ in self._all()}

    @functools.cached_property
    def _sections(self) -> list[tuple[str, str | list[tuple[str, str]]]]:
        return [
            (
                tag_of(word),
                [(tag_of(name), _text(field)) for name, field in part.items() if field not in EMPTY]
                if isinstance(part, dict)
                else _text(part),
            )
            for word, part in self.parts.items()
        ]

    def _all(self) -> Iterator[tuple[str, str]]:
        """Each tag's name and text, those of fields too."""
        for name, content in self._sections:
            yield name, content if isinstance(content, str) else ""
            yield from () if isinstance(content, str) else content

    @functools.cached_property
    def _number(self) -> str:
        """What stands behind each tag's name. It follows from the texts alone, so that a step that
        is taken up again asks the same."""
        names = {name.casefold() for name, _ in self._all()}
        taken = set(itertools.chain.from_iterable(tags_in(text) for _, text in self._all()))
        numbers = itertools.chain([""], (f"-{number}" for number in itertools.count(2)))
        return next(n for n in numbers if taken.isdisjoint(name + n for name in names))

    def _numbered(self, content: str | list[tuple[str, str]]) -> str:
        if isinstance(content, str):
            return content
        return "\n".join(_between(f"{name}{self._number}", text) for name, text in content)


def tag_of(word: str) -> str:
    """`word` as the name of a tag."""
    return re.sub(r"[^\w-]+", "_", word).strip("_") or "part"


def tags_in(text: str) -> Iterable[str]:
    """The names of what a reader may take for tags in `text`: also in capitals, with spaces or
    invisible characters between, or with other forms of the brackets."""
    if not any(sign in text for sign in OPENING):
        return ()
    text = unicodedata.normalize("NFKC", text).casefold()
    return TAG.findall("".join(one for one in text if one.isprintable() or one in "\n\t"))


def _between(tag: str, text: str) -> str:
    around = "\n" if "\n" in text else ""
    return f"<{tag}>{around}{text}{around}</{tag}>"


def _text(value: Any) -> str:
    """A text as it is, a list of short things as lines, anything else as JSON."""
    if isinstance(value, str):
        return value
    if isinstance(value, list) and all(isinstance(one, str) and "\n" not in one for one in value):
        return "\n".join(f"- {one}" for one in value)
    return json.dumps(value, ensure_ascii=False)


def without_echo(answer: str, words: Iterable[str]) -> str:
    """`answer` without the tags and headings of its prompt around it or at its start, where a model
    repeats them. `words` are what they can be called. Other markup is left as it is, with all that
    is around it; of an answer that is nothing else nothing is left."""
    names = {name for word in words if word for name in (word, tag_of(word))}
    word = "|".join(re.escape(name).replace("_", "[_ ]") for name in sorted(names, reverse=True))
    first = re.compile(
        rf"<(?P<tag>{word})>|(?:#+\s*|\*\*)(?:{word})(?:\s*:|\*\*)*\s*(?:\n|$)|(?:{word}):\s*(?:\n|$)",
        re.IGNORECASE,
    )
    last = re.compile(rf"</(?:{word})>$", re.IGNORECASE)
    bare = answer.strip()
    while found := first.match(bare) or last.search(bare):
        bare = (bare[: found.start()] + bare[found.end() :]).strip()
        if tag := found.groupdict().get("tag"):
            bare = bare.replace(f"</{tag}>", "", 1).strip()
    is_other = bare == answer.strip() or re.search(r"</\w", bare)
    return answer if is_other else bare


async def look_up(recall: Recall, work: Work, reads: str) -> dict[str, Any]:
    """What the memory has for the agent, as one more part; none when it has nothing. Recorded: an
    agent that is asked again after a crash is given the same."""
    if not recall.about:
        notes = await work.recall(None, recall.kinds, recall.limit)
        lines = [note["task"].partition("\n")[0] for note in notes]
    else:
        notes = await work.recall(
            about_text(*(find_part(work.event.parts, reads, name) for name in recall.about)),
            recall.kinds,
            recall.limit,
        )
        lines = [
            f"{note['kind']} (alike by {note['score']:.2f}), {note['task'].partition(chr(10))[0]}:"
            f" {note['lesson']}"
            for note in notes
        ]
    return {recall.under: "\n".join(f"- {line}" for line in lines)} if lines else {}
