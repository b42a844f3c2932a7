"""TLS and SASL on a real Kafka: a worker with the right password works, a wrong one is said."""

import pathlib
import subprocess
from collections.abc import Iterator

import pytest

from tests.acceptance.places import TRACEBACK
from tests.programs import Worker, environment, penstock
from tests.servers.fixtures import kafka_or_skip
from tests.servers.kafka import KafkaServer

pytestmark = pytest.mark.timeout(120)
PASSWORD = "open-sesame-7d1f"
JAAS = f'org.apache.kafka.common.security.plain.PlainLoginModule required user_me="{PASSWORD}";'


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    """A folder with a certificate of 127.0.0.1 that signs itself, and what Kafka makes of it."""
    folder = tmp_path_factory.mktemp("certificate")
    for command in (
        "req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=127.0.0.1"
        " -addext subjectAltName=IP:127.0.0.1 -keyout key.pem -out cert.pem",
        "pkcs12 -export -in cert.pem -inkey key.pem -out store.p12 -passout pass:changeit",
    ):
        subprocess.run(["openssl", *command.split()], cwd=folder, check=True, capture_output=True)
    return folder


@pytest.fixture(scope="module")
def secured(
    tmp_path_factory: pytest.TempPathFactory, certificate: pathlib.Path
) -> Iterator[KafkaServer]:
    """A Kafka that speaks TLS only, and asks for a password."""
    with kafka_or_skip(
        tmp_path_factory.mktemp("secured"),
        protocol="SASL_SSL",
        extra={
            "ssl.keystore.location": str(certificate / "store.p12"),
            "ssl.keystore.type": "PKCS12",
            "ssl.keystore.password": "changeit",
            "sasl.enabled.mechanisms": "PLAIN",
            "listener.name.clients.plain.sasl.jaas.config": JAAS,
        },
    ) as server:
        yield server


@pytest.fixture
def env(secured: KafkaServer, certificate: pathlib.Path, tmp_path: pathlib.Path) -> dict[str, str]:
    return environment(
        tmp_path,
        PENSTOCK_BROKER=f"kafka://{secured.address}",
        PENSTOCK_APP_ID=f"secured-{tmp_path.name}",
        PENSTOCK_KAFKA_TLS="on",
        PENSTOCK_KAFKA_CA=str(certificate / "cert.pem"),
        PENSTOCK_KAFKA_SASL="PLAIN",
        PENSTOCK_KAFKA_USER="me",
        PENSTOCK_KAFKA_PASSWORD=PASSWORD,
    )


def test_a_worker_tells_its_story_over_tls_with_a_password(
    env: dict[str, str], tmp_path: pathlib.Path
) -> None:
    worker = Worker(env, tmp_path)
    try:
        worker.wait_for("Final Story Output")
        sent = penstock("submit", "story", "--premise", "A shy volcano", "--wait", env=env)
        assert sent.returncode == 0 and "Final Story Output" in sent.stdout, sent.stderr
        assert "answers" in penstock("doctor", env=env).stdout
        assert worker.stop() == 0
    finally:
        worker.kill()
    assert PASSWORD not in worker.text() + sent.stdout + sent.stderr
    assert not [
        p for p in tmp_path.rglob("*") if p.is_file() and PASSWORD.encode() in p.read_bytes()
    ]


@pytest.mark.parametrize("command", ["worker", "doctor"])
def test_a_wrong_password_is_a_clear_error(
    env: dict[str, str], tmp_path: pathlib.Path, command: str
) -> None:
    done = penstock(command, env=env | {"PENSTOCK_KAFKA_PASSWORD": "wrong-sesame"})
    said = done.stdout + done.stderr
    assert done.returncode == 1, said
    assert "refuses PENSTOCK_KAFKA_USER and PENSTOCK_KAFKA_PASSWORD" in said
    assert TRACEBACK not in said and "wrong-sesame" not in said


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"PENSTOCK_KAFKA_PASSWORD": ""}, "needs PENSTOCK_KAFKA_USER and PENSTOCK_KAFKA_PASSWORD"),
        ({"PENSTOCK_KAFKA_SASL": ""}, "need PENSTOCK_KAFKA_SASL"),
        ({"PENSTOCK_KAFKA_CA": "/nowhere.pem"}, "PENSTOCK_KAFKA_CA=/nowhere.pem"),
    ],
)
def test_a_half_setting_is_named(env: dict[str, str], change: dict[str, str], words: str) -> None:
    done = penstock("worker", env=env | change)
    assert done.returncode == 1 and words in done.stderr, done.stderr
    assert TRACEBACK not in done.stderr
