"""A real Apache Kafka: one node, broker and controller at once, on loopback, from its own jars.

The jars are brought by `make kafka-jars`; beyond that it needs Java 17. Run as a program
(`python -m tests.servers.kafka FOLDER [PORT]`) it is one for a person.
"""

from __future__ import annotations

import base64
import contextlib
import os
import re
import shutil
import signal
import socket
import ssl
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator, Mapping
from pathlib import Path

HERE = Path(__file__).resolve().parent
#: Seconds until a server that does not answer is given up. It takes 3 on two idle cores.
START_LIMIT_S = 60.0

#: Ends the server with whoever holds its standard input, however that ends.
GUARD = """
import os, subprocess, sys, threading
server = subprocess.Popen(sys.argv[1:], stdin=subprocess.DEVNULL, stdout=sys.stderr)
print(server.pid, flush=True)
def guard():
    while os.read(0, 1000): pass
    server.kill()
threading.Thread(target=guard, daemon=True).start()
os._exit(server.wait() and 1)
"""

PROPERTIES = """\
process.roles=broker,controller
node.id=1
controller.quorum.voters=1@127.0.0.1:{controller}
listeners={protocol}://127.0.0.1:{port},CONTROLLER://127.0.0.1:{controller}
advertised.listeners={protocol}://127.0.0.1:{port}
inter.broker.listener.name={protocol}
controller.listener.names=CONTROLLER
listener.security.protocol.map=CONTROLLER:PLAINTEXT,{protocol}:{protocol}
log.dirs={data}
num.partitions=4
auto.create.topics.enable=false
offsets.topic.replication.factor=1
offsets.topic.num.partitions=4
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
group.initial.rebalance.delay.ms=0
group.min.session.timeout.ms=1000
log.cleaner.backoff.ms=1000
broker.session.timeout.ms=1000
broker.heartbeat.interval.ms=250
"""
QUIET = """\
rootLogger.level=WARN
rootLogger.appenderRef.console.ref=console
appender.console.type=Console
appender.console.name=console
appender.console.layout.type=PatternLayout
appender.console.layout.pattern=%d %p %c{1}: %m%n
"""


class KafkaMissing(Exception):
    """Apache Kafka is not installed: run `make kafka-jars` (43 MB, once; it needs Maven), and have
    Java 17 or newer."""

    def __str__(self) -> str:
        return " ".join((self.__doc__ or "").split())


def jars() -> str:
    """The class path. Raises `KafkaMissing`."""
    found = re.search(
        r"kafka_2\.13</.*?<version>(.+?)<", (HERE / "kafka-pom.xml").read_text(), re.S
    )
    assert found, "kafka-pom.xml does not pin kafka_2.13"
    cache = os.environ.get("PENSTOCK_TEST_CACHE") or Path.home() / ".cache" / "penstock"
    libs = Path(cache) / f"kafka-{found[1]}" / "libs"
    if not libs.is_dir() or shutil.which("java") is None:
        raise KafkaMissing
    return f"{libs}/*"


class KafkaServer:
    """One server over one folder; killed and started again, it is the same one."""

    def __init__(
        self,
        folder: Path,
        port: int = 0,
        protocol: str = "PLAINTEXT",
        properties: Mapping[str, str] | None = None,
    ) -> None:
        self.folder = folder
        self.port = port or free_port()
        self.protocol = protocol
        self.output = folder / "kafka.log"
        self._classes = jars()
        self._guard: subprocess.Popen[str] | None = None
        self._pid = 0
        folder.mkdir(parents=True, exist_ok=True)
        text = PROPERTIES.format(
            port=self.port, controller=free_port(), protocol=protocol, data=folder / "data"
        )
        extra = "".join(f"{key}={value}\n" for key, value in (properties or {}).items())
        (folder / "server.properties").write_text(text + extra)
        (folder / "log4j2.properties").write_text(QUIET)

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.port}"

    def start(self) -> None:
        """It answers. Raises `RuntimeError` with the last that it said when it does not."""
        properties = str(self.folder / "server.properties")
        if not (self.folder / "data").exists():
            # A first byte of 0: an id that begins with '-' would be taken for an option.
            raw = b"\0" + uuid.uuid4().bytes[1:]
            cluster = base64.urlsafe_b64encode(raw).decode().rstrip("=")
            subprocess.run(
                [*self._java("kafka.tools.StorageTool"), "format", "-t", cluster, "-c", properties],
                check=True,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                timeout=START_LIMIT_S,
            )
        with self.output.open("ab") as output:
            self._guard = subprocess.Popen(
                [sys.executable, "-c", GUARD, *self._java("kafka.Kafka"), properties],
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
            if self._guard.poll() is not None or time.monotonic() > deadline:
                self.kill()
                raise RuntimeError(f"Kafka did not start:\n{self.output.read_text()[-3000:]}")
            time.sleep(0.05)

    def answers(self) -> bool:
        """Whether it takes requests: an ApiVersions request has an answer, or over TLS, it shakes
        hands."""
        request = b"\x00\x12\x00\x00\x00\x00\x00\x01\x00\x01t"  # key 18, version 0, from 't'
        with (
            contextlib.suppress(OSError),
            socket.create_connection(("127.0.0.1", self.port), timeout=1) as connection,
        ):
            if self.protocol.endswith("SSL"):
                context = ssl.create_default_context()
                context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
                context.wrap_socket(connection).close()
                return True
            connection.sendall(len(request).to_bytes(4, "big") + request)
            return len(connection.recv(4)) == 4
        return False

    def kill(self) -> None:
        """`kill -9`; the folder stays."""
        if self._guard is not None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self._pid, signal.SIGKILL)
            self._guard.communicate()
            self._guard = None

    def signal(self, number: signal.Signals) -> None:
        os.kill(self._pid, number)

    def _java(self, program: str) -> list[str]:
        quiet = f"-Dlog4j2.configurationFile={self.folder / 'log4j2.properties'}"
        return [
            "java",
            "-Xms128m",
            "-Xmx384m",
            "-XX:+UseSerialGC",
            quiet,
            "-cp",
            self._classes,
            program,
        ]


@contextlib.contextmanager
def kafka_server(
    folder: Path, port: int = 0, protocol: str = "PLAINTEXT", **properties: str
) -> Iterator[KafkaServer]:
    """A server that answers inside the block, and is dead after it. Properties are Kafka's, with
    `_` for `.`. Raises `KafkaMissing`."""
    dotted = {
        key if "." in key else key.replace("_", "."): value for key, value in properties.items()
    }
    server = KafkaServer(folder, port, protocol, dotted)
    try:
        server.start()
        yield server
    finally:
        server.kill()


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as free:
        return int(free.getsockname()[1])


def main() -> None:
    """One for a person, until Ctrl-C."""
    folder, port = Path(sys.argv[1]).absolute(), int(sys.argv[2]) if len(sys.argv) > 2 else 9092
    try:
        with kafka_server(folder, port) as server:
            print(f"Apache Kafka answers, its data is in {folder}. Ctrl-C ends it.\n")
            print(f"    export PENSTOCK_BROKER=kafka://{server.address}\n", flush=True)
            signal.pause()
    except KafkaMissing as missing:
        raise SystemExit(str(missing)) from None
    except RuntimeError as error:
        raise SystemExit(str(error)) from None
    except KeyboardInterrupt:
        print("Kafka has ended.")


if __name__ == "__main__":
    main()
