"""Filling: a value that is valid under a JSON Schema, for cards that ask for one."""

import itertools
import math
import random
import re
from collections.abc import Mapping

from penstock.models.offline.storyteller import prose

# --- Answers in JSON -------------------------------------------------------------------------

#: Levels below which what is optional is left out, so that a schema that holds itself ends.
_DEEP = 5
_PROSE_NAMES = (*prose.QUOTE_NAMES, "content", "answer", "response", "output")
_TITLE_NAMES = ("title", "headline", "heading", "subject", "name")
_FORMATS = {
    "date-time": "2026-01-01T12:00:00Z",
    "date": "2026-01-01",
    "time": "12:00:00Z",
    "duration": "PT1H",
    "email": "someone@example.org",
    "uri": "https://example.org/",
    "url": "https://example.org/",
    "hostname": "example.org",
    "ipv4": "192.0.2.1",
    "ipv6": "2001:db8::1",
    "uuid": "00000000-0000-4000-8000-000000000000",
}
_PATTERN_TRIES = (
    "a",
    "A",
    "1",
    "abc",
    "ABC",
    "123",
    "1234",
    "2026-01-01",
    "12:00",
    "0.5",
    "abc-1",
    "",
)


def fill(schema: Mapping[str, object], seed: str, text: str) -> object:
    """A value that is valid under `schema`, with `text` in it where text is asked for.

    The text goes to the string property that is named like one (critique, text, summary...),
    else to the first without an enum; other strings get sentences of it. A `pattern` is met only
    when one of a few common values happens to. Raises `ValueError` for a `$ref` that leads
    nowhere or out of the schema.
    """
    return _Filler(schema, prose.dice_of("fill", seed, text), text).value(schema, "", 0)


class _Filler:
    def __init__(self, root: Mapping[str, object], dice: random.Random, text: str) -> None:
        self.root = root
        self.dice = dice
        self.prose = text
        self.sentences = itertools.cycle(prose.sentences(prose.body(text)) or [text])
        self.prose_is_due = True

    def value(self, schema: object, name: str, depth: int) -> object:
        found = self.plain(schema, depth)
        if "const" in found:
            return found["const"]
        if "enum" in found:
            return prose.pick(self.dice, _list(found["enum"]))
        match _type(found):
            case "object":
                return self.make_object(found, depth)
            case "array":
                return self.make_array(found, name, depth)
            case "integer":
                return self.make_integer(found)
            case "number":
                return self.make_number(found)
            case "boolean":
                return self.dice.random() < 0.5
            case "null":
                return None
        return self.make_string(found, name, is_prose=depth == 0)

    def plain(self, schema: object, depth: int) -> dict[str, object]:
        """`schema` without references and alternatives."""
        found = dict(schema) if isinstance(schema, Mapping) else {}
        for _ in range(32):
            if "$ref" in found:
                found = {**self.target(str(found.pop("$ref"))), **found}
            elif "allOf" in found:
                for part in _list(found.pop("allOf")):
                    found = _both(found, self.plain(part, depth))
            elif "anyOf" in found or "oneOf" in found:
                options = _list(found.pop("anyOf" if "anyOf" in found else "oneOf"))
                ends = [option for option in options if _dict(option).get("type") == "null"]
                choice = ends[0] if ends and depth > _DEEP else options[0]
                found = _both(found, _dict(choice))
            else:
                return found
        raise ValueError("the schema refers to itself and never says what it is")

    def target(self, ref: str) -> dict[str, object]:
        at: object = self.root
        for step in ref.removeprefix("#").strip("/").split("/"):
            step = step.replace("~1", "/").replace("~0", "~")
            if step and isinstance(at, Mapping) and step in at:
                at = at[step]
            elif step and isinstance(at, list) and step.isdigit() and int(step) < len(at):
                at = at[int(step)]
            elif step or not ref.startswith("#"):
                raise ValueError(f"the schema refers to {ref!r}, which it does not contain")
        return _dict(at)

    def make_object(self, schema: dict[str, object], depth: int) -> dict[str, object]:
        properties = _dict(schema.get("properties"))
        required = [str(name) for name in _list(schema.get("required"))]
        others = schema.get("additionalProperties")
        names = [name for name in properties if name in required or depth <= _DEEP]
        names += [name for name in required if name not in properties]
        for number in range(1, _int(schema.get("minProperties"), 0) - len(names) + 1):
            names.append(f"item_{number}")
        if len(names) > (most := _int(schema.get("maxProperties"), len(names))):
            names = (required + [name for name in names if name not in required])[:most]
        home = self.home_of_prose(properties, depth) if self.prose_is_due else None
        if home is not None:
            self.prose_is_due = False
        made: dict[str, object] = {}
        for name in names:
            wanted = properties.get(name, others)
            if name == home:
                made[name] = self.make_string(self.plain(wanted, depth), name, is_prose=True)
            else:
                made[name] = self.value(wanted, name, depth + 1)
        return made

    def home_of_prose(self, properties: dict[str, object], depth: int) -> str | None:
        free = [
            name
            for name, schema in properties.items()
            if _type(found := self.plain(schema, depth)) == "string"
            and not {"enum", "const", "format", "pattern"} & found.keys()
        ]
        named = [name for name in free if name.lower() in _PROSE_NAMES]
        return next(iter(named + free), None)

    def make_array(self, schema: dict[str, object], name: str, depth: int) -> list[object]:
        least = _int(schema.get("minItems"), 0)
        first = _list(schema.get("prefixItems"))
        items = schema.get("items", {})
        usual = len(first) or (2 if items is not False else 0)
        count = max(least, usual if depth <= _DEEP else 0)
        count = min(count, _int(schema.get("maxItems"), count))
        made: list[object] = []
        tries = 0
        while len(made) < count and tries < 200:
            tries += 1
            at = len(made)
            one = self.value(first[at] if at < len(first) else items, name, depth + 1)
            if schema.get("uniqueItems") is not True or one not in made:
                made.append(one)
            elif isinstance(one, str) and at >= len(first) and "enum" not in _dict(items):
                made.append(f"{one} ({at + 1})")
        return made

    def make_integer(self, schema: dict[str, object]) -> int:
        low, high = self.bounds(schema, 1, 10)
        step = max(1, math.ceil(_number(schema.get("multipleOf"), 1)))
        least, most = math.ceil(low / step), math.floor(high / step)
        if _number(schema.get("exclusiveMinimum"), math.nan) == least * step:
            least += 1
        if _number(schema.get("exclusiveMaximum"), math.nan) == most * step:
            most -= 1
        return step * min(most, least + int((most - least + 1) * self.share()))

    def make_number(self, schema: dict[str, object]) -> float:
        low, high = self.bounds(schema, 0, 1)
        if "multipleOf" in schema:
            step = _number(schema["multipleOf"], 1)
            for times in range(math.floor(high / step), math.ceil(low / step) - 1, -1):
                if low < times * step < high and (times * step) / step == times:
                    return times * step
            return math.ceil(low / step) * step
        exact = low + (high - low) * self.share()
        return rounded if low < (rounded := round(exact, 2)) < high else exact

    def bounds(self, schema: dict[str, object], low: float, high: float) -> tuple[float, float]:
        """The range that the schema leaves, as wide as the usual one where it says nothing."""
        wide = high - low
        lows = [_number(schema.get(key), -math.inf) for key in ("minimum", "exclusiveMinimum")]
        highs = [_number(schema.get(key), math.inf) for key in ("maximum", "exclusiveMaximum")]
        least, most = max(lows), min(highs)
        if math.isinf(least):
            least = low if math.isinf(most) or most > low else most - wide
        if math.isinf(most):
            most = high if high > least else least + wide
        return least, most

    def share(self) -> float:
        # In the upper half: a sample whose every mark is poor reads like a fault.
        return 0.55 + 0.4 * self.dice.random()

    def make_string(self, schema: dict[str, object], name: str, *, is_prose: bool) -> str:
        if (format_ := str(schema.get("format"))) in _FORMATS:
            return _FORMATS[format_]
        if is_prose:
            said = self.prose
        elif name.lower() in _TITLE_NAMES:
            said = prose.short(prose.title(self.prose) or prose.first_sentence(self.prose))
        else:
            said = next(self.sentences)
        if "pattern" in schema:
            fits = re.compile(str(schema["pattern"])).search
            said = next((text for text in (said, *_PATTERN_TRIES) if fits(text)), said)
        most = _int(schema.get("maxLength"), len(said))
        if len(said) > most:
            cut = said[:most]
            said = cut.rsplit(" ", 1)[0] if " " in cut[1:] else cut
        while len(said) < (least := _int(schema.get("minLength"), 0)):
            said = f"{said} {self.prose or '-'}"[: max(least, min(most, 4 * least))]
        return said


def _type(schema: dict[str, object]) -> str:
    said = schema.get("type")
    if isinstance(said, list):
        return next((str(one) for one in said if one != "null"), "null")
    if isinstance(said, str):
        return said
    hints = {"object": {"properties", "required", "additionalProperties", "minProperties"},
             "array": {"items", "prefixItems", "minItems"},
             "number": {"minimum", "maximum", "exclusiveMinimum", "multipleOf"}}  # fmt: skip
    return next((kind for kind, keys in hints.items() if keys & schema.keys()), "string")


def _both(one: dict[str, object], other: dict[str, object]) -> dict[str, object]:
    """Two schemas that hold at once."""
    both = {**one, **other}
    if "properties" in one and "properties" in other:
        both["properties"] = {**_dict(one["properties"]), **_dict(other["properties"])}
    if "required" in one and "required" in other:
        both["required"] = [*_list(one["required"]), *_list(other["required"])]
    return both


def _dict(value: object) -> dict[str, object]:
    return dict(value) if isinstance(value, Mapping) else {}


def _list(value: object) -> list[object]:
    return list(value) if isinstance(value, list | tuple) else []


def _number(value: object, otherwise: float) -> float:
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return value if is_number else otherwise  # type: ignore[return-value]


def _int(value: object, otherwise: int) -> int:
    return int(_number(value, otherwise))
