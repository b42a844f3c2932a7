"""YAML that people write: read safely, checked against a model, errors with file, line and key."""

import contextlib
import pathlib
import typing
from collections.abc import Iterator, Mapping
from typing import Any, TypeVar

import pydantic
import yaml

from penstock.errors import ProjectError, did_you_mean

KeyPath = tuple[str | int, ...]
M = TypeVar("M", bound=pydantic.BaseModel)
#: Keys are text; '<<' merges another mapping in.
KEY_TAGS = ("tag:yaml.org,2002:str", "tag:yaml.org,2002:merge")


class Document:
    """A YAML mapping and the line of each of its keys.

    `first_line` is the line of `file` on which `text` begins, counted from 1.
    """

    def __init__(
        self,
        file: pathlib.Path,
        text: str,
        error: type[ProjectError],
        first_line: int = 1,
    ) -> None:
        self.file = file
        self.error = error
        self.first_line = first_line
        self.lines: dict[KeyPath, int] = {}
        try:
            node, self.data = _load(text)
        except yaml.MarkedYAMLError as exc:
            mark = exc.problem_mark
            line = first_line + (mark.line if mark else 0)
            # The problem alone is half a sentence: 'but found another document'.
            problem = ", ".join(text for text in (exc.context, exc.problem) if text)
            raise error(f"{file}:{line}: not YAML: {problem or exc}") from exc
        except (yaml.YAMLError, ValueError) as exc:
            raise error(f"{file}:{first_line}: not YAML: {exc}") from exc
        if node is None:
            self.data = {}
        elif not isinstance(self.data, Mapping):
            raise error(f"{file}:{first_line}: expected 'key: value' lines, found {self.data!r}")
        else:
            self._walk(node, ())

    def _walk(self, node: yaml.Node, path: KeyPath, around: tuple[yaml.Node, ...] = ()) -> None:
        if node in around:
            line = self.first_line + node.start_mark.line
            raise self.error(f"{self.file}:{line}: what begins here contains itself, by an alias")
        around = (*around, node)
        if isinstance(node, yaml.MappingNode):
            seen = set()
            for key, value in node.value:
                inner = (*path, str(key.value))
                line = self.first_line + key.start_mark.line
                if key.tag not in KEY_TAGS:
                    raise self.error(
                        f"{self.file}:{line}: the key {key.value} is not text to YAML, which takes"
                        f" words such as on and no, and numbers, for values: write '{key.value}'"
                    )
                # YAML lets the last of two equal keys win in silence; nobody means that.
                if key.value in seen:
                    raise self.error(f"{self.file}:{line}: '{key.value}' stands here twice")
                seen.add(key.value)
                self.lines[inner] = line
                self._walk(value, inner, around)
        elif isinstance(node, yaml.SequenceNode):
            for index, value in enumerate(node.value):
                inner = (*path, index)
                self.lines[inner] = self.first_line + value.start_mark.line
                self._walk(value, inner, around)
        elif isinstance(node, yaml.ScalarNode) and not node.style:
            other = _other_value(node)
            if other is not None:
                line = self.first_line + node.start_mark.line
                raise self.error(
                    f"{self.file}:{line}: {node.value} is {other} to YAML: write '{node.value}' for"
                    f" the text{'' if other == 'a date' else f', or {other}'}"
                )

    def where(self, *path: str | int) -> str:
        """`file:line` of a key, or of the nearest thing around it."""
        while path and path not in self.lines:
            path = path[:-1]
        return f"{self.file}:{self.lines.get(path, self.first_line)}"

    def fail(self, message: str, *path: str | int) -> ProjectError:
        return self.error(f"{self.where(*path)}: {message}")

    def check(self, model: type[M]) -> M:
        """The document as `model`. Raises one error that names every key that is wrong."""
        try:
            return model.model_validate(self.data)
        except pydantic.ValidationError as exc:
            problems = [self._explain(problem, model) for problem in exc.errors()]
            raise self.error("\n".join(dict.fromkeys(problems))) from exc

    def _explain(self, problem: Any, model: type[pydantic.BaseModel]) -> str:
        path: KeyPath = tuple(problem["loc"])
        dotted = ".".join(str(p) for p in path)
        if problem["type"] == "extra_forbidden":
            allowed = _keys_at(model, path[:-1])
            hint = did_you_mean(str(path[-1]), allowed)
            return (
                f"{self.where(*path)}: unknown key '{dotted}'.{hint}"
                f" Allowed here: {', '.join(allowed)}."
            )
        if problem["type"] == "missing":
            return f"{self.where(*path[:-1])}: the key '{dotted}' is missing."
        message = problem["msg"].removeprefix("Value error, ")
        if not path:
            return f"{self.where()}: {message}"
        return f"{self.where(*path)}: '{dotted}' is {problem['input']!r}: {message}"


def _other_value(node: yaml.ScalarNode) -> str | None:
    """Return what YAML makes of a plain value that looks like something else: of no, 12:30, 010,
    2026-01-31."""
    kind, text = node.tag.rpartition(":")[2], node.value
    if kind == "bool" and text.lower() not in ("true", "false"):
        return str(yaml.constructor.SafeConstructor().construct_yaml_bool(node)).lower()
    if kind == "int":
        number = str(yaml.constructor.SafeConstructor().construct_yaml_int(node))
        return number if number != text.removeprefix("+") else None
    if kind == "float" and ":" in text:
        return str(yaml.constructor.SafeConstructor().construct_yaml_float(node))
    return "a date" if kind == "timestamp" else None


def _load(text: str) -> tuple[yaml.Node | None, Any]:
    """The YAML of `text`, as nodes that know their lines and as data."""
    with contextlib.suppress(yaml.YAMLError, AttributeError):
        # libyaml takes a tenth of the time, where PyYAML was built with it. What it does not take
        # PyYAML's own parser explains, in sentences of its own.
        return yaml.compose(text, Loader=yaml.CSafeLoader), yaml.load(text, Loader=yaml.CSafeLoader)
    return yaml.compose(text, Loader=yaml.SafeLoader), yaml.safe_load(text)


def _keys_at(model: type[pydantic.BaseModel], path: KeyPath) -> list[str]:
    """The keys that are allowed at `path` inside `model`."""
    names = [step for step in path if not isinstance(step, int)]
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
