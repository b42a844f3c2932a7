"""Values: what an answer, a premise, a runs file or a step may hold, the same for all of them."""

import collections
import json
import math
from typing import Any

#: Levels of a value, one in the other: below what any reader of JSON takes.
LEVELS = 100


def storable(value: Any, levels: int = LEVELS) -> Any:
    """Return `value` as every JSON reader reads it back: half of a surrogate pair, which JSON can
    escape and UTF-8 cannot hold, is U+FFFD. Raises `ValueError` for a number that is none in JSON
    (NaN, and what is too large for a float) and for a value of more than `levels`. Anything that
    is no JSON is left for its encoder."""
    if not levels:
        raise ValueError(f"more than {LEVELS} levels, one in the other")
    if isinstance(value, str):
        return whole(value)
    if isinstance(value, float):
        if not math.isfinite(value):
            raise ValueError(f"{value} is no number in JSON")
        return value
    if isinstance(value, dict):
        return {
            whole(key) if isinstance(key, str) else key: storable(one, levels - 1)
            for key, one in value.items()
        }
    if isinstance(value, (list, tuple)):
        return [storable(one, levels - 1) for one in value]
    return value


def read_json(text: str | bytes | bytearray) -> Any:
    """Return what somebody wrote as JSON. Raises `ValueError` for what is none, for what is not
    storable, and for a key that stands twice in one object, of which readers keep any."""
    try:
        return storable(json.loads(text, object_pairs_hook=_of_once))
    except RecursionError as exc:
        raise ValueError(f"more than {LEVELS} levels, one in the other") from exc


def _of_once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    made = dict(pairs)
    if len(made) < len(pairs):
        (key, _), *_ = collections.Counter(key for key, _ in pairs).most_common(1)
        raise ValueError(f"the key {key!r} stands twice in one object")
    return made


def whole(text: str) -> str:
    """Return `text` with U+FFFD for each half of a surrogate pair; two halves in a row are one
    character."""
    if text.isascii():
        return text
    try:
        text.encode()
    except UnicodeEncodeError:
        return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    return text
