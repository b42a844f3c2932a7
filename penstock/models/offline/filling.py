"""Filling: a value that is valid under a JSON Schema, for cards that ask for one."""

import itertools
import math
import re
from collections.abc import Mapping
from typing import Any

from penstock.models.offline import prose
from penstock.models.offline.data import load

#: Levels below which what is optional is left out, so that a schema that holds itself ends.
_DEEP = 5


def fill(schema: Mapping[str, Any], seed: str, text: str) -> Any:
    """Return a value that is valid under `schema`, with `text` in it where text is asked for.

    The text goes to the string property that is named like one (critique, text, summary...),
    else to the first without an enum; other strings get sentences of it. A `pattern` is met only
    when one of a few common values happens to. Raises `ValueError` for a `$ref` that leads
    nowhere or out of the schema.
    """
    return _Filler(schema, seed, text).value(schema, "", 0)


def example_of(schema: Mapping[str, Any]) -> Any:
    """Return a value in the form of `schema` that says of each text what it is."""
    return _Example(schema, "", "").value(schema, "", 0)


class _Filler:
    def __init__(self, root: Mapping[str, Any], seed: str, text: str) -> None:
        self.root, self.text = root, text
        self.dice = prose.dice_of("fill", seed, text)
        self.sentences = itertools.cycle(prose.sentences(prose.body(text)) or [text])
        self.text_is_due = True

    def value(self, schema: Any, name: str, depth: int) -> Any:
        found = self.plain(schema, depth)
        if options := [found["const"]] if "const" in found else found.get("enum"):
            return prose.pick(self.dice, options)
        match _type(found):
            case "object":
                return self.object(found, depth)
            case "array":
                return self.array(found, name, depth)
            case "integer":
                return int(self.number(found, 1, 10, 1))
            case "number":
                return self.number(found, 0, 1, 0.01)
            case "boolean":
                return self.dice.random() < 0.5
            case "null":
                return None
        return self.string(found, name, is_text=depth == 0)

    def plain(self, schema: Any, depth: int) -> dict[str, Any]:
        """`schema` without references and alternatives."""
        found = dict(schema) if isinstance(schema, Mapping) else {}
        for _ in range(32):
            if "$ref" in found:
                found = _both(found, self.target(found.pop("$ref")))
            elif parts := found.pop("allOf", None):
                for part in parts:
                    found = _both(found, self.plain(part, depth))
            elif options := found.pop("anyOf", None) or found.pop("oneOf", None):
                ends = [one for one in options if depth > _DEEP and _type(one) == "null"]
                found = _both(found, [*ends, *options][0])
            else:
                return found
        raise ValueError("the schema refers to itself and never says what it is")

    def target(self, ref: str) -> Any:
        at: Any = {"#": self.root}
        try:
            for step in ref.split("/"):
                step = step.replace("~1", "/").replace("~0", "~")
                at = at[int(step) if isinstance(at, list) else step]
        except (LookupError, TypeError, ValueError):
            raise ValueError(f"the schema refers to {ref!r}, which it does not contain") from None
        return at

    def object(self, schema: dict[str, Any], depth: int) -> dict[str, Any]:
        properties, required = schema.get("properties", {}), schema.get("required", [])
        # In the order of the schema, as models write it.
        shown = (name for name in properties if depth <= _DEEP or name in required)
        names = list(dict.fromkeys([*shown, *required]))
        missing = schema.get("minProperties", 0) - len(names)
        names += [f"item_{number}" for number in range(1, missing + 1)]
        home = self.home_of_text(properties, depth) if self.text_is_due else None
        self.text_is_due = self.text_is_due and home is None
        made = {}
        for name in names[: schema.get("maxProperties")]:
            wanted = properties.get(name, schema.get("additionalProperties"))
            if name == home:
                made[name] = self.string(self.plain(wanted, depth), name, is_text=True)
            else:
                made[name] = self.value(wanted, name, depth + 1)
        return made

    def home_of_text(self, properties: Mapping[str, Any], depth: int) -> str | None:
        closed = {"enum", "const", "format", "pattern"}
        plain = ((name, self.plain(schema, depth)) for name, schema in properties.items())
        free = [name for name, of in plain if _type(of) == "string" and not closed & of.keys()]
        named = [name for name in free if name.lower() in load("schemas")["text"]]
        return next(iter(named + free), None)

    def array(self, schema: dict[str, Any], name: str, depth: int) -> list[Any]:
        first, items = schema.get("prefixItems", []), schema.get("items", {})
        usual = (len(first) or 2 * (items is not False)) if depth <= _DEEP else 0
        count = max(schema.get("minItems", 0), usual)
        made: list[Any] = []
        for _ in range(200):
            at = len(made)
            if at == min(count, schema.get("maxItems", count)):
                break
            wanted = self.plain(first[at] if at < len(first) else items, depth)
            one = self.value(wanted, name, depth + 1)
            if schema.get("uniqueItems") and one in made:
                if not isinstance(one, str) or "enum" in wanted:
                    continue
                one = f"{one} ({at + 1})"
            made.append(one)
        return made

    def number(self, schema: dict[str, Any], low: float, high: float, step: float) -> float:
        """A multiple of `step` from `low` to `high`, or in the range that the schema leaves."""
        lows = [schema[key] for key in ("minimum", "exclusiveMinimum") if key in schema]
        highs = [schema[key] for key in ("maximum", "exclusiveMaximum") if key in schema]
        most = min(highs, default=math.inf)
        least = max(lows, default=low if most > low else most - (high - low))
        most = most if highs else max(high, least + (high - low))
        # In the upper half: a sample whose every mark is poor reads like a fault.
        exact = least + (most - least) * (0.55 + 0.4 * self.dice.random())
        step = schema.get("multipleOf", step)
        ends = (schema.get("exclusiveMinimum"), schema.get("exclusiveMaximum"))
        near = (round(step * (exact // step + at), 9) for far in range(50) for at in (-far, far))
        fits = (one for one in near if min([one, *highs]) == one == max([one, *lows]))
        exactly = (one for one in fits if "multipleOf" not in schema or (one / step).is_integer())
        return next((one for one in exactly if one not in ends), exact)

    def string(self, schema: dict[str, Any], name: str, *, is_text: bool) -> str:
        said = load("schemas")
        if schema.get("format") in said["formats"]:
            return str(said["formats"][schema["format"]])
        text = self.text if is_text else next(self.sentences)
        if not is_text and name.lower() in said["headline"]:
            text = prose.short(prose.title(self.text) or prose.first_sentence(self.text))
        fits = re.compile(schema.get("pattern", "")).search
        text = next(filter(fits, (text, *said["patterns"])), text)
        least, most = schema.get("minLength", 0), schema.get("maxLength", math.inf)
        if len(text) > most:
            cut = text[:most]
            text = cut.rsplit(" ", 1)[0] if " " in cut[1:] else cut
        while len(text) < least:
            text = f"{text} {self.text or '-'}"[: int(min(most, 4 * least))]
        return text


class _Example(_Filler):
    """What a model is shown: of a text its description, of a choice all that can be chosen."""

    def value(self, schema: Any, name: str, depth: int) -> Any:
        found = self.plain(schema, depth)
        choices = found.get("enum")
        if not choices:
            return super().value(found, name, depth)
        if all(isinstance(one, str) for one in choices):
            return " | ".join(choices)
        return choices[(len(choices) - 1) // 2]

    def array(self, schema: dict[str, Any], name: str, depth: int) -> list[Any]:
        return super().array({"maxItems": 1, **schema}, name, depth)

    def string(self, schema: dict[str, Any], name: str, *, is_text: bool) -> str:
        return str(schema.get("description") or "...")


def _type(schema: Any) -> str:
    said = schema.get("type") if isinstance(schema, Mapping) else "string"
    if isinstance(said, list):
        return next((one for one in said if one != "null"), "null")
    hints = load("schemas")["hints"].items()
    return said or next((kind for kind, keys in hints if schema.keys() & keys), "string")


def _both(one: dict[str, Any], other: Any) -> dict[str, Any]:
    """Two schemas that hold at once."""
    other = other if isinstance(other, Mapping) else {}
    properties = {**one.get("properties", {}), **other.get("properties", {})}
    required = [*one.get("required", []), *other.get("required", [])]
    joined = {"properties": properties, "required": required}
    return {**one, **other, **{key: value for key, value in joined.items() if value}}
