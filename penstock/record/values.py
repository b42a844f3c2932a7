"""Values: what an answer, a premise, a runs file or a step may hold, the same for all of them."""

import math
from typing import Any


def storable(value: Any) -> Any:
    """Return `value` as every JSON reader reads it back: half of a surrogate pair, which JSON can
    escape and UTF-8 cannot hold, is U+FFFD. Raises `ValueError` for a number that is none in JSON:
    NaN, and what is too large for a float. Anything that is no JSON is left for its encoder."""
    if isinstance(value, str):
        return whole(value)
    if isinstance(value, float):
        if not math.isfinite(value):
            raise ValueError(f"{value} is no number in JSON")
        return value
    if isinstance(value, dict):
        return {
            whole(key) if isinstance(key, str) else key: storable(one) for key, one in value.items()
        }
    if isinstance(value, (list, tuple)):
        return [storable(one) for one in value]
    return value


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
