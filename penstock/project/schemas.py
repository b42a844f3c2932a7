"""Schemas: the JSON Schema of a card's `output`, which every server that is asked can be given."""

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

from penstock.errors import closest, did_you_mean
from penstock.project.documents import Document, KeyPath

if TYPE_CHECKING:
    import jsonschema

#: What would name a schema by an address, or change what '#' is. No server takes them, and nothing
#: is fetched.
_ADDRESSES = (
    "$id",
    "$anchor",
    "$dynamicRef",
    "$dynamicAnchor",
    "$recursiveRef",
    "$recursiveAnchor",
)
#: Keywords that no answer is checked against, or only with another one.
_SILENT = {"$schema", "$comment", "$defs", "definitions", "title", "description", "default"}
_SILENT |= {"example", "examples", "deprecated", "readOnly", "writeOnly", "nullable", "then"}
_SILENT |= {"else", "minContains", "maxContains", "contentEncoding", "contentMediaType"}
_SILENT |= {"contentSchema", *_ADDRESSES}
#: Keywords whose values are no schemas, and those that hold one for each name.
_VALUES = ("const", "default", "enum", "examples", "dependentRequired")
_NAMED = ("properties", "patternProperties", "dependentSchemas", "$defs", "definitions")


def validator_of(schema: dict[str, Any]) -> "jsonschema.Draft202012Validator":
    """What tells whether an answer fits `schema`. It fetches nothing, whatever is referred to."""
    import jsonschema  # a tenth of a second, for cards that have one
    import referencing

    return jsonschema.Draft202012Validator(schema, registry=referencing.Registry())


def check_schema(schema: dict[str, Any], document: Document) -> None:
    """Everything is noted for which `schema`, the `output` of `document`, is no JSON Schema of an
    answer: also what it refers to that is elsewhere, not there, or never ends."""
    import jsonschema

    draft = jsonschema.Draft202012Validator
    rules = draft(draft.META_SCHEMA, format_checker=draft.FORMAT_CHECKER)
    for error in rules.iter_errors(schema):
        # Of alternatives, what the nearest says: that none fits says nothing.
        found = jsonschema.exceptions.best_match([error]) or error
        document.spoil(f"not a JSON Schema: {found.message}", "output", *found.absolute_path)
    if schema.get("type") != "object":
        document.note("the schema of an agent's output begins with 'type: object'", "output")
    for path, inner in _schemas(schema, ()):
        for key in _ADDRESSES:
            if key in inner:
                document.note(
                    f"'{key}' is for schemas that are found by an address, and nothing is fetched."
                    " Leave it out, and refer to parts of this schema: $ref: '#/$defs/NAME'",
                    *("output", *path, key),
                )
        for key in inner:
            # Others may mean something to a server. One that is nearly known means nothing.
            if key not in (known := {*draft.VALIDATORS, *_SILENT}) and closest(key, known):
                document.warn(
                    f"'{key}' says nothing in a schema.{did_you_mean(key, known)}",
                    *("output", *path, key),
                )
        fields, required = inner.get("properties"), inner.get("required")
        for name in required if isinstance(required, list) and isinstance(fields, dict) else ():
            if name not in fields:
                document.warn(
                    f"'required' names '{name}', which is none of the properties"
                    f" ({', '.join(fields)}).{did_you_mean(str(name), fields)}",
                    *("output", *path, "required"),
                )
        ref = inner.get("$ref")
        if not isinstance(ref, str):
            continue
        if not ref.startswith("#"):
            problem = "leads out of this schema, and nothing is fetched. Put what it means"
            problem += " below '$defs', and refer to it: '#/$defs/NAME'"
        elif _target(schema, ref) is None:
            problem = "leads to nothing in this schema"
        elif _returns(schema, inner, _of_same_value):
            problem = "leads back to itself, and never to what the value is"
        elif _returns(schema, inner, _always_inside):
            problem = "is in each value of what it leads to: no answer would end"
        else:
            continue
        document.note(f"$ref: '{ref}' {problem}", *("output", *path, "$ref"))


def _schemas(schema: Any, path: KeyPath, names: bool = False) -> Iterator[tuple[KeyPath, Any]]:
    """Each schema in `schema`, with where it is. With `names` that is a schema for each name."""
    if isinstance(schema, dict):
        if not names:
            yield path, schema
        for key, value in schema.items():
            if names or key not in _VALUES:
                yield from _schemas(value, (*path, key), not names and key in _NAMED)
    elif isinstance(schema, list):
        for index, value in enumerate(schema):
            yield from _schemas(value, (*path, index))


def _target(root: dict[str, Any], ref: str) -> Any:
    """The schema that `ref` leads to, or None."""
    import referencing
    from referencing.exceptions import Unresolvable
    from referencing.jsonschema import DRAFT202012

    registry = referencing.Registry().with_resource("", DRAFT202012.create_resource(root))
    try:
        found = registry.resolver().lookup(ref).contents
    except (Unresolvable, ValueError):
        return None
    return found if isinstance(found, (dict, bool)) else None


def _returns(root: dict[str, Any], schema: Any, of: Callable[[Any], Iterator[Any]]) -> bool:
    """Whether `schema` is reached again from itself, by references and by what is inside that `of`
    gives."""
    seen: set[int] = set()
    line = [schema]
    while line:
        one = line.pop()
        if isinstance(one, dict) and id(one) not in seen:
            seen.add(id(one))
            line += of(one)
            if isinstance(one.get("$ref"), str):
                line.append(_target(root, one["$ref"]))
            if any(inner is schema for inner in line):
                return True
    return False


def _of_same_value(schema: dict[str, Any]) -> Iterator[Any]:
    """What is asked of the same value."""
    for key in ("allOf", "anyOf", "oneOf"):
        found = schema.get(key)
        yield from found if isinstance(found, list) else ()
    yield from (schema.get(key) for key in ("not", "if", "then", "else"))


def _always_inside(schema: dict[str, Any]) -> Iterator[Any]:
    """What each value holds, in any case."""
    fields, required, parts = (schema.get(key) for key in ("properties", "required", "allOf"))
    if isinstance(fields, dict) and isinstance(required, list):
        yield from (fields.get(str(name)) for name in required)
    yield from parts if isinstance(parts, list) else ()
    if schema.get("minItems"):
        yield schema.get("items")
