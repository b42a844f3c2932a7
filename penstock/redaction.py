"""Redaction: the secrets that the settings hold are taken out of what is said and recorded.

docs/operations.md says in which forms, and what is not looked for.
"""

import base64
import json
from collections.abc import Iterable, Iterator
from typing import Any
from urllib.parse import quote, quote_plus

import msgspec

#: What stands in place of a secret.
MARK = "[secret]"
#: Characters of the shortest text that is taken for one: shorter ones are parts of other words.
LEAST = 8


class Redactor:
    """Takes secrets out of texts. A search for a text as it is costs a microsecond for 1 kB of
    record, a tenth of what a pattern of all forms costs."""

    def __init__(self, secrets: Iterable[str]) -> None:
        forms = {form for secret in secrets if len(secret) >= LEAST for form in _forms(secret)}
        # The longest first: one may begin with another.
        self._forms = tuple(sorted(forms, key=len, reverse=True))
        self._raw = tuple(form.encode(errors="surrogateescape") for form in self._forms)

    def text(self, text: str) -> str:
        for form in self._forms:
            text = text.replace(form, MARK)
        return text

    def json(self, text: str) -> str:
        """`text`, which is JSON, and stays it."""
        return self.record(text.encode()).decode() if any(f in text for f in self._forms) else text

    def record(self, raw: bytes) -> bytes:
        """`raw`, which is JSON, and stays it: a secret may look like a number, or like a field."""
        for form in self._raw:
            if form in raw:
                break
        else:
            return raw
        return msgspec.json.encode(self._value(msgspec.json.decode(raw)))

    def _value(self, value: Any) -> Any:
        if isinstance(value, str):
            return self.text(value)
        if isinstance(value, list):
            return [self._value(one) for one in value]
        if isinstance(value, dict):
            return {self._name(name): self._value(one) for name, one in value.items()}
        return value

    def _name(self, name: str) -> str:
        return name if name.replace("_", "").isalpha() else self.text(name)


def _forms(secret: str) -> Iterator[str]:
    """The texts in which `secret` may be found again."""
    yield secret
    yield json.dumps(secret)[1:-1]
    yield json.dumps(secret, ensure_ascii=False)[1:-1]
    raw = secret.encode(errors="surrogateescape")
    for quoted in (quote(raw), quote(raw, safe=""), quote_plus(raw)):
        yield quoted
        yield "".join(_lower_escapes(quoted))
    for before in range(3):
        # Three bytes are four characters: what stands before it shifts it, and only the characters
        # that are made of the secret alone are the same wherever it stands.
        coded = base64.b64encode(bytes(before) + raw).decode()
        coded = coded[-(-before * 8 // 6) : (before + len(raw)) * 8 // 6]
        yield coded
        yield coded.replace("+", "-").replace("/", "_")


def _lower_escapes(quoted: str) -> Iterator[str]:
    first, *rest = quoted.split("%")
    yield first
    for one in rest:
        yield f"%{one[:2].lower()}{one[2:]}"
