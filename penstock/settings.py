"""The settings: one frozen object, read once from the environment."""

import contextlib
import dataclasses
import functools
import os
import pathlib
import re
import sys
from collections.abc import Callable, Iterator, Mapping
from typing import Any
from urllib.parse import SplitResult, quote, unquote, urlsplit

from penstock.errors import SettingsError, did_you_mean
from penstock.redaction import Redactor

PREFIX = "PENSTOCK_"
#: Names with this prefix belong to the tests and are not read by the program.
TEST_PREFIX = "PENSTOCK_TEST_"
#: See `penstock.sandbox`.
TIERS = ("native", "docker", "wasm")
SCRAM = ("SCRAM-SHA-256", "SCRAM-SHA-512")
#: What a secret is called in the query of an address.
SECRET_NAME = re.compile("auth|code|cred|key|pass|secret|sig|token", re.IGNORECASE)
#: Where an installed package keeps the cards and chains that it ships.
SHARED_PROJECT = pathlib.Path(sys.prefix) / "share" / "penstock"


def _setting(
    default: Any, about: str, parse: Callable[[str], Any] = str, *, secret: bool = False
) -> Any:
    metadata = {"about": about, "parse": parse}
    return dataclasses.field(default=default, metadata=metadata, repr=not secret)


def _switch(text: str) -> bool:
    on, off = ("1", "on", "yes", "true"), ("0", "off", "no", "false")
    if text.lower() not in on + off:
        raise ValueError("expected on or off")
    return text.lower() in on


def _whole(least: int, most: int) -> Callable[[str], int]:
    def parse(text: str) -> int:
        if not text.strip().isdecimal() or not least <= int(text) <= most:
            raise ValueError(f"expected a whole number from {least} to {most}")
        return int(text)

    return parse


def _seconds(text: str) -> float:
    with contextlib.suppress(ValueError):
        if 0 <= float(text) < 1e9:
            return float(text)
    raise ValueError("expected a number of seconds, 0 or more")


def _one_of(*words: str) -> Callable[[str], str]:
    def parse(text: str) -> str:
        if text not in words:
            raise ValueError(f"expected one of {', '.join(words)}")
        return text

    return parse


def _broker(text: str) -> str:
    url = urlsplit(text.split(";")[0])
    # sqlite://data/x.db would silently be /x.db, on a host 'data'.
    file = url.scheme == "sqlite" and not url.netloc and url.path[:1] == "/" != url.path
    if not file and not (url.scheme == "kafka" and url.hostname):
        raise ValueError("expected sqlite:///ABSOLUTE/PATH or kafka://HOST:PORT")
    return text


def _names(text: str) -> tuple[str, ...]:
    return tuple(name.strip() for name in text.split(",") if name.strip())


def _name(text: str) -> str:
    # Kafka's rule for the names of groups and topics, which are made from it.
    if not text or not all(c.isascii() and (c.isalnum() or c in "._-") for c in text):
        raise ValueError("expected letters, digits, '.', '_' and '-'")
    return text


@dataclasses.dataclass(frozen=True, kw_only=True)
class Settings:
    """What the environment asked for. Read with `Settings.read()`, never from `os.environ`."""

    broker: str = _setting("", "sqlite:///ABSOLUTE/PATH (embedded) or kafka://HOST:PORT", _broker)
    model: str = _setting("", "the model of cards that name none, as PROVIDER/NAME")
    data: pathlib.Path = _setting(
        pathlib.Path("data"), "folder of the embedded database and other state", pathlib.Path
    )
    logs: pathlib.Path = _setting(pathlib.Path("logs"), "folder of the event log", pathlib.Path)
    project: pathlib.Path = _setting(
        pathlib.Path("."), "folder that holds agents/, topics/ and steps/", pathlib.Path
    )
    app_id: str = _setting("penstock", "name of the app: its consumer group on Kafka", _name)
    topic_prefix: str = _setting(
        "", "what the names of the pipelines' topics on Kafka begin with", _name
    )
    shared_topics: bool = _setting(
        False, "other apps may work on the same topics on Kafka, and pay for each event", _switch
    )
    worker_id: str = _setting("", "name of this worker (Kafka: static membership)", _name)
    kafka_tls: bool = _setting(False, "Kafka over TLS", _switch)
    kafka_ca: str = _setting("", "file of certificates that the Kafka's is checked against")
    kafka_cert: str = _setting("", "file of this client's own certificate (mutual TLS)")
    kafka_key: str = _setting("", "file of its key")
    kafka_sasl: str = _setting(
        "",
        "PLAIN, SCRAM-SHA-256 or SCRAM-SHA-512",
        _one_of("PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"),
    )
    kafka_user: str = _setting("", "name for SASL")
    kafka_password: str = _setting("", "password for SASL", secret=True)
    session_s: float = _setting(
        10.0, "seconds of silence after which a worker's partitions on Kafka go to others", _seconds
    )
    replication: int = _setting(1, "copies of each topic that is made on Kafka", _whole(1, 32))
    partitions: int = _setting(4, "partitions of each topic", _whole(1, 1024))
    seed: str = _setting(
        "1", "1: seed each pipeline once, again: seed it anew, 0: never", _one_of("1", "0", "again")
    )
    every_s: float = _setting(
        0.0, "seconds between runs that the timer starts; 0: no timer", _seconds
    )
    start: tuple[str, ...] = _setting(
        (),
        "pipelines that this worker seeds and times, with commas; all but those with start: manual",
        _names,
    )
    sandbox: str = _setting(
        "native",
        "what keeps a model's code in: native (Linux), docker or wasm",
        _one_of("native", "docker", "wasm"),
    )
    sandbox_s: float = _setting(10.0, "seconds that a program has in the sandbox", _seconds)
    sandbox_mb: int = _setting(256, "megabytes of memory that it has", _whole(64, 65_536))
    concurrency: int = _setting(200, "events in flight per stage", _whole(1, 100_000))
    max_tokens: int = _setting(
        0,
        "most tokens of an answer, for all cards: the lower one counts where a card says it too",
        _whole(0, 10**9),
    )
    timeout_s: float = _setting(
        0.0,
        "seconds of an answer, for all cards: the lower one counts where a card says it too",
        _seconds,
    )
    calls_at_once: int = _setting(
        0,
        "calls of one model in flight at first; 0: 2 of ollama/ and local/, else all that come",
        _whole(0, 100_000),
    )
    attempts: int = _setting(5, "tries of an event before it is a dead letter", _whole(1, 100))
    drain_s: float = _setting(20.0, "seconds that a stopping worker waits for calls", _seconds)
    event_log: bool = _setting(True, "write logs/broker_interactions.json", _switch)
    event_log_bytes: int = _setting(
        50_000_000, "size at which the event log is rotated", _whole(1_000, 10**12)
    )
    event_log_files: int = _setting(5, "rotated event logs to keep", _whole(0, 1_000))
    log_instructions: bool = _setting(
        True, "repeat an agent's instructions in the log line of its answer", _switch
    )
    record_text: int = _setting(
        2000, "characters of a tool's arguments and answer on a step's record", _whole(0, 1_000_000)
    )
    max_event_bytes: int = _setting(
        1_000_000, "largest event, in bytes of JSON", _whole(1_000, 10**9)
    )
    retention_s: float = _setting(
        7 * 86400.0, "seconds that finished runs are kept; 0: for ever", _seconds
    )
    embeddings: str = _setting(
        "", "the model of the memory's vectors, as PROVIDER/NAME or local/minilm; none: words"
    )
    recall_s: float = _setting(
        1.0, "seconds that a look into memory may take; 0: it is never asked", _seconds
    )
    memory_notes: int = _setting(
        10_000, "notes that wait while the memory is down; then the oldest go", _whole(1, 10**7)
    )
    #: Not PENSTOCK_*: the names that the providers' own tools use. Never shown or logged.
    openai_api_key: str = dataclasses.field(default="", repr=False)
    openai_base_url: str = ""
    mistral_api_key: str = dataclasses.field(default="", repr=False)
    ollama_host: str = ""
    qdrant_url: str = ""
    qdrant_api_key: str = dataclasses.field(default="", repr=False)

    @classmethod
    def read(cls, environ: Mapping[str, str] | None = None) -> "Settings":
        """The settings of `environ`. Raises `SettingsError` for an unknown name or a bad value."""
        environ = os.environ if environ is None else environ
        ours = {PREFIX + f.name.upper(): f for f in dataclasses.fields(cls) if f.metadata}
        for name in sorted(environ):
            if name.startswith(PREFIX) and not name.startswith(TEST_PREFIX) and name not in ours:
                # Without the prefix, which makes any two names look alike.
                words = [word.removeprefix(PREFIX) for word in ours]
                hint = did_you_mean(name.removeprefix(PREFIX), words, PREFIX)
                raise SettingsError(
                    f"{name} is not a setting.{hint} The settings are: {', '.join(ours)}."
                )
        keys = {f.name.upper(): f for f in dataclasses.fields(cls) if not f.metadata}
        values: dict[str, Any] = {}
        for name, field in (ours | keys).items():
            if text := environ.get(name):
                try:
                    values[field.name] = field.metadata.get("parse", str)(text)
                except ValueError as exc:
                    raise SettingsError(f"{name}={text!r}: {exc}.") from exc
        return cls(**values)

    @property
    def root(self) -> pathlib.Path:
        """The project's folder: the one named, else the one shipped with the package."""
        if (self.project / "topics").is_dir() or not SHARED_PROJECT.is_dir():
            return self.project
        return SHARED_PROJECT

    @property
    def broker_url(self) -> str:
        """The broker, with the embedded one's default place filled in."""
        return self.broker or f"sqlite://{quote(str((self.data / 'penstock.db').absolute()))}"

    @property
    def embedded(self) -> bool:
        return self.broker_url.startswith("sqlite:")

    @property
    def database(self) -> pathlib.Path:
        """The embedded broker's file."""
        return pathlib.Path(unquote(urlsplit(self.broker_url).path))

    @property
    def secrets(self) -> tuple[str, ...]:
        """What must never be written anywhere: keys, passwords, and what stands for them in the
        addresses."""
        found = [getattr(self, field.name) for field in dataclasses.fields(self) if not field.repr]
        models = (self.model, self.embeddings, self.openai_base_url, self.ollama_host)
        for url in (*self.broker_url.split(";"), *models, self.qdrant_url):
            with contextlib.suppress(ValueError):  # no address at all: it is refused elsewhere
                found += _secrets_in(urlsplit(url if "://" in url else f"//{url}"))
        return tuple(dict.fromkeys(filter(None, found)))

    @functools.cached_property
    def redactor(self) -> Redactor:
        return Redactor(self.secrets)

    def redact(self, text: str) -> str:
        """`text` without any of the secrets."""
        return self.redactor.text(text)


def _secrets_in(url: SplitResult) -> Iterator[str]:
    """The password of an address, or the name that stands for one; and the keys in its query."""
    secret = url.password if url.password is not None else url.username
    written = [secret or ""]
    for one in url.query.split("&"):
        name, _, value = one.partition("=")
        if SECRET_NAME.search(name):
            written.append(value)
    for one in written:
        yield from (one, unquote(one))


def describe() -> list[tuple[str, str, str]]:
    """Name, default and meaning of every setting, for `penstock settings` and the docs."""
    return [
        (PREFIX + field.name.upper(), _shown(field.default), field.metadata["about"])
        for field in dataclasses.fields(Settings)
        if field.metadata
    ]


def _shown(value: Any) -> str:
    """`value` as somebody would write it in the environment."""
    if isinstance(value, bool):
        return "on" if value else "off"
    if isinstance(value, tuple):
        return ",".join(value)
    return f"{value:g}" if isinstance(value, float) else str(value)
