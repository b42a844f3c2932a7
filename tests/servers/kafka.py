"""A real Apache Kafka: one node, broker and controller at once, on loopback, from its own jars.

The jars are brought by `make kafka-jars`; beyond that it needs Java 17. Run as a program
(`python -m tests.servers.kafka FOLDER [PORT]`) it is one for a person.
"""

from __future__ import annotations

import base64
import contextlib
import importlib
import os
import random
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
#: Seconds until a server that does not answer is given up. It takes 3 on two idle cores.
START_LIMIT_S = 60.0
#: Seconds that a server which was told to stop may take for it, before it is killed.
STOP_LIMIT_S = 20.0
#: What a user's password is kept for.
SCRAM = ("SCRAM-SHA-256", "SCRAM-SHA-512")
#: Java's first compiler alone, for what is over before the better one would be worth its time.
QUICK = "-XX:TieredStopAtLevel=1"
#: The oldest Java that runs Kafka 4.
JAVA = 17
#: Where `free_ports` looks. Both Linux and macOS take the ports of outgoing connections from above:
#: a client that tries again and again while a server is dead could be given the server's own port.
PORTS = range(20000, 30000)

#: Kafka as a child of a process that ends it when its own standard input ends, so Kafka does not
#: outlive whoever holds that, however that one ends. All that Kafka says goes to standard error.
GUARD = """
import os, subprocess, sys, threading
server = subprocess.Popen(sys.argv[1:], stdin=subprocess.DEVNULL, stdout=sys.stderr)
print(server.pid, flush=True)
threading.Thread(target=lambda: (os.read(0, 1), server.kill()), daemon=True).start()
sys.exit(server.wait())
"""

LOGGING = """\
rootLogger.level=WARN
rootLogger.appenderRef.console.ref=console
appender.console.type=Console
appender.console.name=console
appender.console.layout.type=PatternLayout
appender.console.layout.pattern=%d %p %c{1}: %m%n
"""


#: The files of a new folder, by the users that it knows: a second one needs no Java to be made.
FORMATTED: dict[frozenset[tuple[str, str]], dict[str, bytes]] = {}


class KafkaMissing(Exception):
    """Apache Kafka cannot be started: run `make kafka-jars` (43 MB, once; it needs Maven)."""

    def __str__(self) -> str:
        return str(self.args[0]) if self.args else str(self.__doc__)


class KafkaServer:
    """One server over one folder: killed or stopped, and started again, it is the same one on the
    same ports, with what it had on disk. `data` holds that, `output` is its log. All methods
    block."""

    def __init__(
        self,
        folder: Path,
        port: int | None = None,
        *,
        listeners: Mapping[str, str] | None = None,
        users: Mapping[str, str] | None = None,
        extra: Mapping[str, str] | None = None,
        short_lived: bool = False,
    ) -> None:
        listeners = listeners or {"CLIENTS": "PLAINTEXT"}
        ports = free_ports(len(listeners) + 2)
        self._inner_port, controller_port = ports.pop(), ports.pop()
        self.port = ports[0] = port or ports[0]
        self._ports = dict(zip(listeners, ports, strict=True))
        self.output = folder / "kafka.log"
        self.data = folder / "data"
        self._classes = class_path()
        self._properties = folder / "server.properties"
        self._logging = folder / "log4j2.properties"
        self._users = users or {}
        self._short_lived = short_lived
        self._guard: subprocess.Popen[str] | None = None
        self._pid = 0
        folder.mkdir(parents=True, exist_ok=True)
        settings = {**self._settings(listeners, controller_port), **(extra or {})}
        self._properties.write_text("".join(f"{key}={settings[key]}\n" for key in settings))
        self._logging.write_text(LOGGING)

    @property
    def address(self) -> str:
        """Where its first listener is."""
        return f"127.0.0.1:{self.port}"

    def address_of(self, listener: str) -> str:
        return f"127.0.0.1:{self._ports[listener]}"

    def start(self) -> None:
        """It answers. Raises `RuntimeError` with the last that it said when it does not."""
        # Its own listener would answer for a moment before it finds that clients cannot come.
        try:
            socket.create_server(("127.0.0.1", self.port)).close()
        except OSError as error:
            why = os.strerror(error.errno or 0)
            raise RuntimeError(f"Kafka cannot listen at {self.address}: {why}") from None
        if not (self.data / "meta.properties").exists():
            users = frozenset(self._users.items())
            if users not in FORMATTED:
                self._format()
                FORMATTED[users] = {file.name: file.read_bytes() for file in self.data.iterdir()}
            self.data.mkdir(exist_ok=True)
            for name, text in FORMATTED[users].items():
                (self.data / name).write_bytes(text)
        command = self._java("kafka.Kafka", *([QUICK] if self._short_lived else []))
        with self.output.open("ab") as output:
            self._guard = subprocess.Popen(
                [sys.executable, "-c", GUARD, *command, str(self._properties)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=output,
                text=True,
                start_new_session=True,  # Ctrl-C is for whoever started it
            )
        assert self._guard.stdout is not None
        self._pid = int(self._guard.stdout.readline())
        deadline = time.monotonic() + START_LIMIT_S
        while not self.answers():
            ended = self._guard.poll()
            if ended is not None or time.monotonic() > deadline:
                self.kill()
                late = f"did not answer in {START_LIMIT_S:g} s"
                raise self._failed(late if ended is None else f"ended with {ended}")
            time.sleep(0.02)

    def answers(self) -> bool:
        """Whether it serves: it names itself among the brokers that are alive, as it does when its
        partitions have a leader. A port that can be connected to says less."""
        # A request for the metadata of no topic: key 3, version 1, number 1, client "t".
        request = b"\x00\x03\x00\x01\x00\x00\x00\x01\x00\x01t\x00\x00\x00\x00"
        with (
            contextlib.suppress(OSError),
            socket.create_connection(("127.0.0.1", self._inner_port), timeout=1) as connection,
            connection.makefile("rb") as answer,
        ):
            connection.sendall(len(request).to_bytes(4, "big") + request)
            # Its size, its number, and how many brokers it names.
            return int.from_bytes(answer.read(12)[8:], "big") > 0
        return False

    def empty(self) -> None:
        """No topic is left on it but Kafka's own."""
        library: Any = importlib.import_module("confluent_kafka.admin")
        admin = library.AdminClient({"bootstrap.servers": self.address})
        deadline = time.monotonic() + START_LIMIT_S
        while True:
            there = admin.list_topics(timeout=START_LIMIT_S).topics
            names = [name for name in there if not name.startswith("__")]
            if not names:
                return
            assert time.monotonic() < deadline, f"these topics cannot be deleted: {names}"
            for done in admin.delete_topics(names).values():
                with contextlib.suppress(library.KafkaException):  # it is being deleted
                    done.result(START_LIMIT_S)

    def kill(self) -> None:
        """`kill -9`."""
        self._end(signal.SIGKILL)

    def stop(self) -> None:
        """SIGTERM, which closes its files; `kill -9` when that takes longer than STOP_LIMIT_S."""
        self._end(signal.SIGTERM)

    def pause(self) -> None:
        """SIGSTOP: its connections are there, and nothing is answered."""
        os.kill(self._pid, signal.SIGSTOP)

    def resume(self) -> None:
        """It goes on where `pause` stopped it."""
        os.kill(self._pid, signal.SIGCONT)

    def wait(self) -> None:
        """Raises `RuntimeError` when it has ended by itself."""
        assert self._guard is not None
        raise self._failed(f"ended with {self._guard.wait()}")

    def _end(self, number: signal.Signals) -> None:
        guard, self._guard = self._guard, None
        if guard is None:
            return
        if guard.poll() is None:  # else its number may be another process's by now
            with contextlib.suppress(ProcessLookupError):
                os.kill(self._pid, number)
            with contextlib.suppress(subprocess.TimeoutExpired):
                guard.wait(STOP_LIMIT_S)
        guard.communicate()  # closes its standard input, which kills whatever is left

    def _settings(self, listeners: Mapping[str, str], controller: int) -> dict[str, object]:
        """The server's properties. Clients come to `listeners`, for which TLS and SASL can be set;
        the server itself and `answers` have one of their own, which stays plain."""
        protocols = {**listeners, "INNER": "PLAINTEXT", "CONTROLLER": "PLAINTEXT"}
        ports = {**self._ports, "INNER": self._inner_port}
        addresses = ",".join(f"{name}://127.0.0.1:{port}" for name, port in ports.items())
        return {
            "process.roles": "broker,controller",
            "node.id": 1,
            "controller.quorum.voters": f"1@127.0.0.1:{controller}",
            "controller.listener.names": "CONTROLLER",
            "inter.broker.listener.name": "INNER",
            "listeners": f"{addresses},CONTROLLER://127.0.0.1:{controller}",
            "advertised.listeners": addresses,
            "listener.security.protocol.map": ",".join(
                f"{name}:{protocol}" for name, protocol in protocols.items()
            ),
            "log.dirs": self.data,
            "num.partitions": 4,
            "auto.create.topics.enable": "false",
            # There is one node, and what is kept on three by default has to be kept on it.
            "offsets.topic.replication.factor": 1,
            "offsets.topic.num.partitions": 4,  # not 50: each is a folder that a start looks into
            "transaction.state.log.replication.factor": 1,
            "transaction.state.log.min.isr": 1,
            "transaction.state.log.num.partitions": 4,
            "share.coordinator.state.topic.replication.factor": 1,
            "share.coordinator.state.topic.min.isr": 1,
            # A new group would wait 3 s for more members, and a killed one's place 6 s at least.
            "group.initial.rebalance.delay.ms": 0,
            "group.min.session.timeout.ms": 1000,
            # A killed server that is started again waits until it has been given up.
            "broker.session.timeout.ms": 1000,
            "broker.heartbeat.interval.ms": 250,
            # How soon a compacted topic is compacted, when its segments allow it.
            "log.cleaner.backoff.ms": 100,
        }

    def _format(self) -> None:
        # The zero is an "A" at its beginning. A "-" would be taken for an option.
        cluster = base64.urlsafe_b64encode(bytes(1) + os.urandom(15)).decode().rstrip("=")
        command = self._java("kafka.tools.StorageTool", QUICK)
        command += ["format", "--ignore-formatted"]
        for name, password in self._users.items():
            for kind in SCRAM:
                command += ["--add-scram", f"{kind}=[name={name},password={password}]"]
        with self.output.open("ab") as output:
            done = subprocess.run(
                [*command, "-t", cluster, "-c", str(self._properties)],
                check=False,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                timeout=START_LIMIT_S,
            )
        if done.returncode != 0:
            raise self._failed("could not format its folder")

    def _failed(self, how: str) -> RuntimeError:
        return RuntimeError(f"Kafka {how}:\n{self.output.read_text(errors='replace')[-3000:]}")

    def _java(self, program: str, *options: str) -> list[str]:
        quiet = f"-Dlog4j2.configurationFile={self._logging}"
        options += ("-Xms128m", "-Xmx384m", "-XX:+UseSerialGC", quiet)
        return ["java", *options, "-cp", self._classes, program]


@contextlib.contextmanager
def kafka_server(
    folder: Path,
    port: int | None = None,
    *,
    listeners: Mapping[str, str] | None = None,
    users: Mapping[str, str] | None = None,
    extra: Mapping[str, str] | None = None,
    short_lived: bool = False,
) -> Iterator[KafkaServer]:
    """A server over `folder` that answers inside the block, and is dead after it.

    It dies with this process too, however that ends. `listeners` are the names of those that
    clients come to, each with its protocol: one plain one, unless they are given. `users` are names
    and passwords for SCRAM. `extra` are properties that are added to the server's, or replace them.
    One that is `short_lived` starts with half the work, and is slower for good.
    Raises `KafkaMissing` when there is no Kafka or no Java, and `RuntimeError` with the last that
    it said when it does not start.
    """
    server = KafkaServer(
        folder, port, listeners=listeners, users=users, extra=extra, short_lived=short_lived
    )
    try:
        server.start()
        yield server
    finally:
        server.kill()


def class_path() -> str:
    """The jars, for Java. Raises `KafkaMissing` unless all of them and a Java are there."""
    pom = (HERE / "kafka-pom.xml").read_text()
    version = re.search(r"<artifactId>kafka_2\.13</artifactId>\s*<version>(.+?)<", pom)
    assert version, "kafka-pom.xml does not pin kafka_2.13"
    cache = os.environ.get("PENSTOCK_TEST_CACHE") or Path.home() / ".cache" / "penstock"
    home = Path(cache) / f"kafka-{version[1]}"
    if not (home / "installed").exists():
        raise KafkaMissing
    need = f"Apache Kafka needs Java {JAVA} or newer (on Debian: default-jre-headless)"
    try:
        said = subprocess.run(["java", "-version"], capture_output=True, text=True, check=False)
    except FileNotFoundError:
        raise KafkaMissing(f"{need}, and there is none") from None
    java = re.search(r'version "(\d+)', said.stderr)
    if java is None or int(java[1]) < JAVA:
        raise KafkaMissing(f"{need}, and there is: {said.stderr.strip() or 'none'}")
    return f"{home / 'libs'}/*"


def free_ports(count: int) -> list[int]:
    """Ports on loopback that nobody has, and that no outgoing connection is given."""
    found: set[int] = set()
    while len(found) < count:
        port = random.choice(PORTS)
        with contextlib.suppress(OSError), socket.create_server(("127.0.0.1", port)):
            found.add(port)
    return list(found)


def main() -> None:
    """One for a person, until Ctrl-C."""
    folder, port = Path(sys.argv[1]).absolute(), int(sys.argv[2]) if len(sys.argv) > 2 else 9092
    try:
        with kafka_server(folder, port) as server:
            print(f"Apache Kafka answers, its data is in {folder}. Ctrl-C ends it.\n")
            print(f"    export PENSTOCK_BROKER=kafka://{server.address}\n", flush=True)
            try:
                server.wait()
            except KeyboardInterrupt:
                server.stop()
                print("Kafka has ended.")
    except (KafkaMissing, RuntimeError) as error:
        raise SystemExit(str(error)) from None
    except KeyboardInterrupt:
        raise SystemExit(130) from None


if __name__ == "__main__":
    main()
