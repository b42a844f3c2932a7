"""YAML that people write: read within bounds, checked against a model. Each mistake is noted with
file, line and key, and what is right is read on."""

import copy
import dataclasses
import functools
import math
import operator
import pathlib
import reprlib
import typing
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, TypeVar, cast

import pydantic
import yaml

from penstock.errors import closest, did_you_mean

KeyPath = tuple[str | int, ...]
M = TypeVar("M", bound=pydantic.BaseModel)

#: Bytes of a file, and what its YAML may hold: keys and values, those of an alias wherever it
#: stands, and levels. People's files have a hundredth of it; a few aliases can ask for all memory.
FILE_BYTES, VALUES, LEVELS = 1_000_000, 10_000, 50
#: Characters of YAML that are read once more by the slower parser, which explains its mistakes.
EXPLAINED_CHARS = 50_000
#: Characters of a number.
DIGITS = 100
#: Characters of a mistake: what is wrong may be as long as the file.
MISTAKE_CHARS = 1_000
#: What reads it: libyaml takes a tenth of the time, where PyYAML was built with it.
LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_TAG = "tag:yaml.org,2002:"
#: Keys are text; '<<' merges another mapping in.
KEY_TAGS = (f"{_TAG}str", f"{_TAG}merge")
#: What values are: what JSON has.
VALUE_TAGS = tuple(
    f"{_TAG}{kind}" for kind in ("str", "int", "float", "bool", "null", "map", "seq")
)
_AS_TEXT = {yaml.ScalarNode: "str", yaml.SequenceNode: "seq", yaml.MappingNode: "map"}
#: What YAML makes of plain words that JSON has no value for.
_OTHER_KINDS = {"timestamp": "a date", "value": "a sign of its own", "merge": "a sign of its own"}
#: What stands for a value that is missing, so that all else is checked.
STAND_INS = ("_", 1)

_shown = reprlib.Repr()
_shown.maxstring = _shown.maxother = 200


class Document:
    """A YAML mapping, the line of each of its keys, and what is wrong with it.

    `first_line` is the line of `file` on which `text` begins, counted from 1.
    """

    def __init__(self, file: pathlib.Path, text: str, first_line: int = 1) -> None:
        self.file = file
        self.first_line = first_line
        self.lines: dict[KeyPath, int] = {}
        self.data: Mapping[str, Any] = {}
        self._spoilt: set[KeyPath] = set()
        self._mistakes: list[tuple[int, str]] = []
        self._warnings: list[tuple[int, str]] = []
        try:
            node = _compose(text)
            if isinstance(node, yaml.MappingNode):
                self._walk(node, ())
            data = None if node is None else yaml.SafeLoader("").construct_document(node)
        except yaml.MarkedYAMLError as exc:
            mark = exc.problem_mark
            # The problem alone is half a sentence: 'but found another document'.
            problem = ", ".join(text for text in (exc.context, exc.problem) if text)
            line = first_line + (mark.line if mark else 0)
            self._spoilt.add(())
            self.note(f"not YAML: {problem or exc}", line=line)
        except (yaml.YAMLError, ValueError, KeyError) as exc:
            self.spoil(f"not YAML: {exc}")
        else:
            if isinstance(data, Mapping):
                self.data = data
            elif node is not None:
                self.spoil(f"expected 'key: value' lines, found {_shown.repr(data)}")

    def _walk(self, node: yaml.Node, path: KeyPath) -> None:
        """Note the line of each key, and what YAML would make of it that nobody means: it is read
        on as what was meant."""
        other = _other_value(node) if isinstance(node, yaml.ScalarNode) else None
        if other is None and node.tag not in VALUE_TAGS:
            self.spoil(f"the tag {node.tag.replace(_TAG, '!!')} makes what JSON has not", *path)
            node.tag = _TAG + _AS_TEXT[type(node)]
        if isinstance(node, yaml.MappingNode):
            self._walk_keys(node, path)
        elif isinstance(node, yaml.SequenceNode):
            for index, value in enumerate(node.value):
                inner = (*path, index)
                self.lines[inner] = self.first_line + value.start_mark.line
                self._walk(value, inner)
        elif isinstance(node, yaml.ScalarNode) and not node.style:
            other = _other_value(node)
            if other is not None:
                way = "" if other.startswith("a ") else f", or {other}"
                text = _shown.repr(node.value)
                self.spoil(
                    f"{text[1:-1]} is {other} to YAML: write {text} for the text{way}", *path
                )
                node.tag = KEY_TAGS[0]

    def _walk_keys(self, node: yaml.MappingNode, path: KeyPath) -> None:
        seen: set[str] = set()
        for key, value in tuple(node.value):
            line = self.first_line + key.start_mark.line
            if not isinstance(key, yaml.ScalarNode):
                self.note("a key is text", line=line)
                node.value.remove((key, value))
                continue
            inner = (*path, str(key.value))
            self.lines[inner] = line
            if key.tag not in KEY_TAGS:
                self.spoil(
                    f"the key {key.value} is not text to YAML, which takes words such as on and no,"
                    f" and numbers, for values: write '{key.value}'",
                    *inner,
                )
                key.tag = KEY_TAGS[0]
            # YAML lets the last of two equal keys win in silence; nobody means that.
            if key.value in seen:
                self.note(f"'{key.value}' stands here twice", line=line)
            seen.add(key.value)
            self._walk(value, inner)

    # -- what is wrong

    def note(self, message: str, *path: str | int, line: int | None = None) -> None:
        """`message` is a mistake at the key `path`, or on `line`; unless the key, or one around it,
        was spoilt before, for then it only follows from that."""
        if line is not None or not self.spoilt(*path):
            self._mistakes.append((line or self._line(path), message))

    def spoil(self, message: str, *path: str | int) -> None:
        """`message` is a mistake at the key `path`, which therefore says nothing."""
        self.note(message, *path)
        self._spoilt.add(path)

    def spoilt(self, *path: str | int) -> bool:
        return any(path[:length] in self._spoilt for length in range(len(path) + 1))

    def warn(self, message: str, *path: str | int, line: int | None = None) -> None:
        """`message` is about something at `path` or on `line` that works, and that hardly anybody
        means."""
        self._warnings.append((line or self._line(path), message))

    @property
    def problems(self) -> list[str]:
        """Every mistake, a line each, in the order of the file."""
        return self._said(self._mistakes)

    @property
    def warnings(self) -> list[str]:
        return self._said(self._warnings)

    def _said(self, notes: list[tuple[int, str]]) -> list[str]:
        said = (
            f"{self.file}:{line}: {' '.join(message[:MISTAKE_CHARS].split())}"
            for line, message in sorted(notes, key=lambda note: note[0])
        )
        return list(dict.fromkeys(said))

    def _line(self, path: KeyPath) -> int:
        """The line of a key, or of the nearest thing around it."""
        while path and path not in self.lines:
            path = path[:-1]
        return self.lines.get(path, self.first_line)

    # -- what it says

    def check(self, model: type[M]) -> M | None:
        """Return the document as `model`, with every key noted that is wrong, so that what is right
        is checked further: a misspelt key has the name that was probably meant, a bad value is as
        if it were not there. None when that makes no `model`."""
        data = copy.deepcopy(dict(self.data))
        tries: dict[KeyPath, int] = {}
        while True:
            try:
                return model.model_validate(data)
            except pydantic.ValidationError as exc:
                problems = exc.errors()
            # First what is misspelt: then it is not missing any more.
            unknown = [one for one in problems if one["type"] == "extra_forbidden"]
            problems = unknown or problems
            for path in dict.fromkeys(self._explain(problem, model, data) for problem in problems):
                if not _mend(path, data, tries):
                    return None

    def _explain(self, problem: Any, model: type[pydantic.BaseModel], data: Any) -> KeyPath:
        """Note what pydantic found, and return the key of `data` that is to be mended for it."""
        path: KeyPath = tuple(problem["loc"])
        dotted = ".".join(str(p) for p in path)
        if problem["type"] == "missing":
            self.spoil(f"the key '{dotted}' is missing.", *path)
            return path
        if problem["type"] != "extra_forbidden":
            message = problem["msg"].removeprefix("Value error, ")
            said = f"'{dotted}' is {_shown.repr(problem['input'])}: {message}" if path else message
            path = _there(path, data)
            # What is around a mistake that was mended may be wrong for that alone.
            if all(spoilt[: len(path)] != path for spoilt in self._spoilt):
                self.spoil(said, *path)
            return path
        *around, key = path
        allowed = _keys_at(model, path[:-1])
        hint = did_you_mean(str(key), allowed)
        self.spoil(f"unknown key '{dotted}'.{hint} Allowed here: {', '.join(allowed)}.", *path)
        meant, holder = closest(str(key), allowed), _at(data, around)
        if meant is not None and meant not in holder:
            holder[meant] = holder[key]
            self.lines[*around, meant] = self._line(path)
        return path


def read_text(file: pathlib.Path) -> str:
    """Return what stands in a file that people write. Raises `ValueError` that says why not."""
    try:
        with file.open("rb") as opened:
            raw = opened.read(FILE_BYTES + 1)
        if len(raw) <= FILE_BYTES:
            return raw.decode().replace("\r\n", "\n").replace("\r", "\n")
    except (OSError, UnicodeDecodeError) as exc:
        raise ValueError(f"cannot be read: {exc}") from exc
    raise ValueError(f"larger than {FILE_BYTES:,} bytes")


class _OutOfBounds(yaml.MarkedYAMLError):
    """YAML that is not read on."""


@dataclasses.dataclass
class _Open:
    """A mapping or sequence that has begun: its anchor, the values in it, the levels of it."""

    anchor: str | None = None
    values: int = 1
    levels: int = 1


def _compose(text: str) -> yaml.Node | None:
    try:
        _check_bounds(text)
        return yaml.compose(text, Loader=LOADER)
    except yaml.YAMLError as exc:
        if not isinstance(exc, _OutOfBounds) and len(text) <= EXPLAINED_CHARS:
            # PyYAML's own parser says in other words what is wrong.
            yaml.compose(text, Loader=yaml.SafeLoader)
        raise


def _check_bounds(text: str) -> None:
    """Raise `_OutOfBounds` for YAML that holds itself, or more than a file of people's. Read as
    events, before anything is made of it: what aliases and levels make may have no end."""
    around = [_Open()]
    anchors: dict[str, _Open] = {}
    for count, event in enumerate(yaml.parse(text, Loader=LOADER)):
        ended, problem = None, ""
        if isinstance(event, yaml.CollectionStartEvent):
            around.append(_Open(event.anchor))
        elif isinstance(event, yaml.CollectionEndEvent):
            ended = around.pop()
        elif isinstance(event, yaml.ScalarEvent):
            ended = _Open(event.anchor)
        elif isinstance(event, yaml.AliasEvent):
            ended = anchors.get(event.anchor or "")
            if any(one.anchor == event.anchor for one in around):
                problem = "what this alias stands for contains it"
        if ended is not None:
            if ended.anchor:
                anchors[ended.anchor] = ended
            around[-1].values += ended.values
            around[-1].levels = max(around[-1].levels, ended.levels + 1)
        if around[-1].values > VALUES or count > 2 * VALUES:
            problem = f"more than {VALUES:,} keys and values, with those that aliases stand for"
        elif len(around) + (ended.levels if ended else 0) > LEVELS:
            problem = f"more than {LEVELS} levels, one in the other"
        if problem:
            mark = cast(yaml.Mark, event.start_mark)
            raise _OutOfBounds(problem=problem, problem_mark=mark)


def _other_value(node: yaml.ScalarNode) -> str | None:
    """Return what YAML makes of a plain value that looks like something else, or that JSON has not:
    of no, 12:30, 010, 2026-01-31, .inf."""
    if node.style:
        return None  # quoted
    kind, text = node.tag.removeprefix(_TAG), node.value
    make = yaml.constructor.SafeConstructor()
    if kind in ("int", "float") and len(text) > DIGITS:
        return "a number too long"
    if kind == "bool" and text.lower() not in ("true", "false"):
        return str(make.construct_yaml_bool(node)).lower()
    if kind == "int":
        number = str(make.construct_yaml_int(node))
        return number if number != text.removeprefix("+") else None
    if kind == "float":
        value = make.construct_yaml_float(node)
        if not math.isfinite(value):
            return "a number beyond JSON"
        return str(value) if ":" in text else None
    return _OTHER_KINDS.get(kind)


def _there(path: KeyPath, data: Any) -> KeyPath:
    """The part of `path` that leads to something: pydantic's goes on with kinds of values."""
    for length, step in enumerate(path):
        try:
            data = data[step]
        except (LookupError, TypeError):
            return path[:length]
    return path


def _at(data: Any, path: Sequence[str | int]) -> Any:
    return functools.reduce(operator.getitem, path, data)


def _mend(path: KeyPath, data: Any, tries: dict[KeyPath, int]) -> bool:
    """`data` is without what is wrong at `path`: without it, then with a stand-in, then without
    what is around it. False when nothing would be left."""
    while path:
        *around, key = path
        try:
            holder = _at(data, around)
        except (LookupError, TypeError):
            return True  # what it was in has been mended
        is_list = isinstance(holder, list)
        tried = tries[path] = tries.get(path, 0 if is_list or key in holder else 1) + 1
        if tried == 1 and is_list:
            holder[key] = {}
        elif tried == 1:
            del holder[key]
        elif tried <= 1 + len(STAND_INS):
            holder[key] = STAND_INS[tried - 2]
        else:
            path = path[:-1]
            continue
        return True
    return False


def _keys_at(model: type[pydantic.BaseModel], path: KeyPath) -> list[str]:
    """The keys that are allowed at `path` inside `model`."""
    names = [step for step in path if not isinstance(step, int)]
    if issubclass(model, pydantic.RootModel):
        names = ["root", *names]
    while names:
        field = next(
            (f for n, f in model.model_fields.items() if (f.alias or n) == names[0]),
            None,
        )
        inside = list(_inside(field.annotation)) if field is not None else []
        models = [one for one in inside if issubclass(one, pydantic.BaseModel)]
        if not models:
            return []
        model = models[0]
        names = names[2:] if dict in inside else names[1:]  # a mapping's own keys are free
    return [f.alias or n for n, f in model.model_fields.items()]


def _inside(annotation: Any) -> Iterator[type]:
    """The classes that `annotation` is made of."""
    origin = typing.get_origin(annotation)
    for one in (annotation, origin):
        if isinstance(one, type):
            yield one
    for argument in typing.get_args(annotation):
        yield from _inside(argument)
