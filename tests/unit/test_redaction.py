"""Redaction: in which forms a secret is found, and what stays as it is."""

import base64
import json
import logging
import time
from urllib.parse import quote

import msgspec
import pytest

from penstock.redaction import Redactor
from penstock.settings import Settings
from penstock.worker.console import on_one_line

#: With characters that addresses, JSON and both alphabets of base64 write in ways of their own.
KEY = 'sk-ant_/+ é?>"0123'
REDACTOR = Redactor([KEY])


@pytest.mark.parametrize(
    "form",
    [
        KEY,
        quote(KEY),
        quote(KEY, safe=""),
        quote(KEY, safe="").lower().replace("sk-ant_", "sk-ant_"),
        f"https://host/v1?key={quote(KEY, safe='')}&x=1",
        json.dumps({"error": KEY}),
    ],
)
def test_a_secret_is_found_as_it_is_and_as_addresses_and_json_write_it(form):
    said = REDACTOR.text(f"before {form} after")
    assert "[secret]" in said and "0123" not in said
    assert said.startswith("before ") and said.endswith(" after")


@pytest.mark.parametrize("before", ["", "a", "ab", "user:", "Bearer "])
@pytest.mark.parametrize("code", [base64.b64encode, base64.urlsafe_b64encode])
def test_a_secret_is_found_in_base64_wherever_it_stands_in_what_was_coded(before, code):
    coded = code(f"{before}{KEY} and more".encode()).decode()
    said = REDACTOR.text(coded)
    assert "[secret]" in said
    left = said.replace("[secret]", "")
    assert len(left) <= len(coded) - len(KEY), "more than the characters that it shares"
    assert REDACTOR.text(coded[:10]) == coded[:10]


def test_json_stays_json_whatever_the_secret_looks_like():
    redactor = Redactor(["12345678", "response_id", "sk-12-abc"])
    found = {"n": 1.25, "at": 9123456789, "response_id": "the response_id", "sk-12-abc": [None]}
    assert msgspec.json.decode(redactor.record(msgspec.json.encode(found))) == {
        "n": 1.25,
        "at": 9123456789,
        "response_id": "the [secret]",
        "[secret]": [None],
    }
    assert json.loads(redactor.json(json.dumps(found)))["at"] == 9123456789


def test_what_holds_no_secret_is_the_same_object_and_costs_microseconds():
    raw = msgspec.json.encode({"text": "The quick brown fox. " * 5_000})
    begun = time.process_time()
    assert all(REDACTOR.record(raw) is raw for _ in range(20))
    assert time.process_time() - begun < 0.2, "a tenth of it, on an idle machine, for 2 MB"


def test_a_short_text_is_no_secret():
    assert Redactor(["hunter2", ""]).text("hunter2 and more") == "hunter2 and more"


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("PENSTOCK_MODEL", "https://host/v1?api-version=2026-01-31&api_key=AIza-12345#m"),
        ("OPENAI_BASE_URL", "https://host/v1?sig=AIza-12345"),
        ("QDRANT_URL", "http://AIza-12345@store:6333"),
        ("PENSTOCK_EMBEDDINGS", "http://host/v1?access_token=AIza%2D12345#m"),
    ],
)
def test_keys_in_the_addresses_of_the_settings_are_secrets_and_the_rest_is_not(name, value):
    settings = Settings.read({name: value})
    assert settings.redact("with AIza-12345") == "with [secret]"
    assert "AIza" not in settings.redact(value)
    assert settings.redact("api-version=2026-01-31") == "api-version=2026-01-31"


def test_a_line_of_the_log_and_its_traceback_hold_no_secret():
    try:
        raise ValueError(f"refused {KEY}\x1b[2J")
    except ValueError as exc:
        arguments = ("the call with %s failed", (KEY,), (ValueError, exc, exc.__traceback__))
    record = logging.LogRecord("penstock", logging.ERROR, "f", 1, *arguments)
    assert on_one_line(record, REDACTOR.text)
    text = logging.Formatter().format(record)
    assert "the call with [secret] failed" in text and "ValueError: refused [secret][2J" in text
