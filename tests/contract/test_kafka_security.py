"""TLS, client certificates, SASL and rights on a real Kafka: a worker that is let in works, and one
that is not says why."""

import pathlib
import subprocess
from collections.abc import Iterator, Mapping

import pytest

from penstock.broker.kafka.connection import credentials
from penstock.errors import SettingsError
from penstock.settings import Settings
from tests.acceptance.homes import TRACEBACK, copy_project
from tests.programs import PATIENCE_S, environment, penstock, worker
from tests.servers.fixtures import kafka_or_skip
from tests.servers.kafka import KafkaServer

pytestmark = pytest.mark.timeout(120)
PASSWORD = "open-sesame-7d1f"
PLAIN = (
    "org.apache.kafka.common.security.plain.PlainLoginModule required"
    f' username="me" password="{PASSWORD}" user_me="{PASSWORD}";'
)
SCRAM = "org.apache.kafka.common.security.scram.ScramLoginModule required;"


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    """A folder with certificates that sign themselves, and their keys: of the server at 127.0.0.1,
    of a client that it knows, and of a stranger."""
    folder = tmp_path_factory.mktemp("certificates")

    def openssl(command: str) -> None:
        subprocess.run(["openssl", *command.split()], cwd=folder, check=True, capture_output=True)

    for name in ("server", "client", "stranger"):
        openssl(
            f"req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN={name}"
            f" -addext subjectAltName=IP:127.0.0.1 -keyout {name}.key -out {name}.pem"
        )
    openssl(
        "pkcs12 -export -in server.pem -inkey server.key -out server.p12 -passout pass:changeit"
    )
    openssl("rsa -aes128 -in client.key -out locked.key -passout pass:changeit")
    return folder


@pytest.fixture(scope="module")
def secured(
    tmp_path_factory: pytest.TempPathFactory, certificates: pathlib.Path
) -> Iterator[KafkaServer]:
    """A Kafka that lets nobody in without a password or a certificate, and a guest do nothing."""
    with kafka_or_skip(
        tmp_path_factory.mktemp("secured"),
        listeners={"PASSWORD": "SASL_PLAINTEXT", "BOTH": "SASL_SSL", "MUTUAL": "SSL"},
        users={"me": PASSWORD, "guest": PASSWORD},
        extra={
            "authorizer.class.name": "org.apache.kafka.metadata.authorizer.StandardAuthorizer",
            # All but the guest; the first is the server itself.
            "super.users": "User:ANONYMOUS;User:me;User:CN=client",
            "ssl.keystore.location": str(certificates / "server.p12"),
            "ssl.keystore.type": "PKCS12",
            "ssl.keystore.password": "changeit",
            "ssl.truststore.location": str(certificates / "client.pem"),
            "ssl.truststore.type": "PEM",
            "listener.name.mutual.ssl.client.auth": "required",
            "listener.name.password.sasl.enabled.mechanisms": "SCRAM-SHA-256",
            "listener.name.password.scram-sha-256.sasl.jaas.config": SCRAM,
            "listener.name.both.sasl.enabled.mechanisms": "PLAIN,SCRAM-SHA-512",
            "listener.name.both.plain.sasl.jaas.config": PLAIN,
            "listener.name.both.scram-sha-512.sasl.jaas.config": SCRAM,
        },
    ) as server:
        yield server


@pytest.fixture
def ways(certificates: pathlib.Path) -> dict[str, dict[str, str]]:
    """The settings of each way in; `at` is the listener."""
    tls = {"PENSTOCK_KAFKA_TLS": "on", "PENSTOCK_KAFKA_CA": str(certificates / "server.pem")}
    user = {"PENSTOCK_KAFKA_USER": "me", "PENSTOCK_KAFKA_PASSWORD": PASSWORD}
    own = {
        "PENSTOCK_KAFKA_CERT": str(certificates / "client.pem"),
        "PENSTOCK_KAFKA_KEY": str(certificates / "client.key"),
    }
    return {
        "SCRAM-SHA-256": {"at": "PASSWORD", "PENSTOCK_KAFKA_SASL": "SCRAM-SHA-256", **user},
        "PLAIN over TLS": {"at": "BOTH", "PENSTOCK_KAFKA_SASL": "PLAIN", **tls, **user},
        "SCRAM-SHA-512 over TLS": {
            "at": "BOTH",
            "PENSTOCK_KAFKA_SASL": "SCRAM-SHA-512",
            **tls,
            **user,
        },
        "mutual TLS": {"at": "MUTUAL", **tls, **own},
    }


def env_of(way: Mapping[str, str], server: KafkaServer, folder: pathlib.Path) -> dict[str, str]:
    settings = {name: value for name, value in way.items() if name != "at"}
    return environment(
        folder,
        PENSTOCK_BROKER=f"kafka://{server.address_of(way['at'])}",
        PENSTOCK_APP_ID=f"secured-{folder.name}",
        PENSTOCK_SHARED_TOPICS="on",  # each test is an app, and the topics are those of the story
        PENSTOCK_PROJECT=str(copy_project(folder / "project")),
        PENSTOCK_SEED="0",
        **settings,
    )


@pytest.mark.parametrize(
    "name", ["SCRAM-SHA-256", "PLAIN over TLS", "SCRAM-SHA-512 over TLS", "mutual TLS"]
)
def test_a_worker_that_is_let_in_finishes_a_run_and_writes_no_secret_anywhere(
    name: str,
    ways: dict[str, dict[str, str]],
    secured: KafkaServer,
    certificates: pathlib.Path,
    tmp_path: pathlib.Path,
) -> None:
    env = env_of(ways[name], secured, tmp_path)
    premise = f"A shy volcano, by {name}"
    with worker(env, tmp_path) as running:
        sent = penstock("submit", "story", "--premise", premise, "--wait", env=env)
        assert sent.returncode == 0 and "Final Story Output" in sent.stdout, sent.stderr
        assert running.stop() == 0
    (tmp_path / "said").write_text(sent.stdout + sent.stderr)
    assert TRACEBACK not in running.text()
    ours = [file.read_bytes() for file in tmp_path.rglob("*") if file.is_file()]
    events = [file.read_bytes() for file in secured.data.rglob("*.log")]
    for texts in (ours, events):
        assert any(premise.encode() in text for text in texts), "this finds what is written"
    key = (certificates / "client.key").read_bytes().splitlines()[1:-1]
    for secret in (PASSWORD.encode(), *key):
        assert not any(secret in text for text in ours + events)


def test_doctor_finds_a_kafka_that_lets_it_in_well(
    ways: dict[str, dict[str, str]], secured: KafkaServer, tmp_path: pathlib.Path
) -> None:
    asked = penstock("doctor", env=env_of(ways["mutual TLS"], secured, tmp_path))
    assert asked.returncode == 0 and "answers" in asked.stdout, asked.stdout + asked.stderr


@pytest.mark.parametrize("command", ["worker", "doctor"])
@pytest.mark.parametrize("name", ["SCRAM-SHA-256", "PLAIN over TLS", "SCRAM-SHA-512 over TLS"])
def test_a_wrong_password_is_a_clear_error(
    name: str,
    command: str,
    ways: dict[str, dict[str, str]],
    secured: KafkaServer,
    tmp_path: pathlib.Path,
) -> None:
    env = env_of(ways[name] | {"PENSTOCK_KAFKA_PASSWORD": "wrong-sesame"}, secured, tmp_path)
    said = refused(command, env)
    assert "refuses PENSTOCK_KAFKA_USER and PENSTOCK_KAFKA_PASSWORD" in said
    assert "wrong-sesame" not in said


@pytest.mark.parametrize("command", ["worker", "doctor"])
@pytest.mark.parametrize("own", ["nothing", "a stranger's"])
def test_a_certificate_that_kafka_does_not_accept_is_a_clear_error(
    own: str,
    command: str,
    ways: dict[str, dict[str, str]],
    secured: KafkaServer,
    certificates: pathlib.Path,
    tmp_path: pathlib.Path,
) -> None:
    stranger = {
        "PENSTOCK_KAFKA_CERT": str(certificates / "stranger.pem"),
        "PENSTOCK_KAFKA_KEY": str(certificates / "stranger.key"),
    }
    change = stranger if own != "nothing" else dict.fromkeys(stranger, "")
    said = refused(command, env_of(ways["mutual TLS"] | change, secured, tmp_path))
    assert "does not accept this client's certificate, or the lack of one" in said


@pytest.mark.parametrize(
    ("name", "change", "words"),
    [
        ("mutual TLS", {"PENSTOCK_KAFKA_CA": ""}, "has a certificate that is not trusted: "),
        ("SCRAM-SHA-256", {"PENSTOCK_KAFKA_SASL": "PLAIN"}, "does not offer PENSTOCK_KAFKA_SASL="),
    ],
)
def test_what_kafka_has_and_the_settings_do_not_fit_is_a_clear_error(
    name: str,
    change: dict[str, str],
    words: str,
    ways: dict[str, dict[str, str]],
    secured: KafkaServer,
    tmp_path: pathlib.Path,
) -> None:
    assert words in refused("worker", env_of(ways[name] | change, secured, tmp_path))


@pytest.mark.parametrize(
    ("command", "words"),
    [
        ("worker", "does not let this user make the topic 'secured-"),
        ("doctor", "does not let this user into the group 'secured-"),
    ],
)
def test_a_user_without_rights_is_a_clear_error(
    command: str,
    words: str,
    ways: dict[str, dict[str, str]],
    secured: KafkaServer,
    tmp_path: pathlib.Path,
) -> None:
    guest = ways["SCRAM-SHA-256"] | {"PENSTOCK_KAFKA_USER": "guest"}
    assert words in refused(command, env_of(guest, secured, tmp_path))


def test_the_rights_that_the_documents_name_are_enough(
    ways: dict[str, dict[str, str]], secured: KafkaServer, tmp_path: pathlib.Path
) -> None:
    guest = ways["SCRAM-SHA-256"] | {"PENSTOCK_KAFKA_USER": "guest"}
    env = env_of(guest, secured, tmp_path)
    app_id, rights = env["PENSTOCK_APP_ID"], "CREATE DESCRIBE READ WRITE"
    topics = ("premise", "plot", "story", "critique", "final", f"{app_id}-")
    allow(secured, {("TOPIC", name): rights for name in topics})
    # It says so of what it then needs, and does not only wait.
    assert "into the group" in refused("worker", env)
    allow(secured, {("GROUP", app_id): "READ"})
    with worker(env, tmp_path) as running:
        sent = penstock("submit", "story", "--premise", "A shy guest", "--wait", env=env)
        assert sent.returncode == 0 and "Final Story Output" in sent.stdout, sent.stderr
        assert running.stop() == 0
    assert TRACEBACK not in running.text()


def allow(server: KafkaServer, rights: Mapping[tuple[str, str], str]) -> None:
    """The guest may do so much, by kind and by what names begin with."""
    admin = pytest.importorskip("confluent_kafka.admin")
    client = admin.AdminClient(
        {
            "bootstrap.servers": server.address_of("PASSWORD"),
            "security.protocol": "SASL_PLAINTEXT",
            "sasl.mechanism": "SCRAM-SHA-256",
            "sasl.username": "me",
            "sasl.password": PASSWORD,
        }
    )
    bindings = [
        admin.AclBinding(
            admin.ResourceType[kind],
            name,
            admin.ResourcePatternType.PREFIXED,
            "User:guest",
            "*",
            admin.AclOperation[right],
            admin.AclPermissionType.ALLOW,
        )
        for (kind, name), all_of_them in rights.items()
        for right in all_of_them.split()
    ]
    for done in client.create_acls(bindings).values():
        done.result(PATIENCE_S)


def refused(command: str, env: dict[str, str]) -> str:
    """What `command` says, which ends with exit code 1 and without a traceback."""
    done = penstock(command, env=env)
    said = " ".join((done.stdout + done.stderr).split())
    assert done.returncode == 1 and TRACEBACK not in said, said
    assert "PENSTOCK_BROKER" not in said  # it is the right one
    return said


@pytest.mark.parametrize(
    ("name", "change", "words"),
    [
        (
            "SCRAM-SHA-256",
            {"PENSTOCK_KAFKA_PASSWORD": ""},
            "needs PENSTOCK_KAFKA_USER and PENSTOCK_KAFKA_PASSWORD",
        ),
        ("SCRAM-SHA-256", {"PENSTOCK_KAFKA_SASL": ""}, "need PENSTOCK_KAFKA_SASL"),
        ("mutual TLS", {"PENSTOCK_KAFKA_TLS": ""}, "need PENSTOCK_KAFKA_TLS=on"),
        ("mutual TLS", {"PENSTOCK_KAFKA_CERT": ""}, "needs PENSTOCK_KAFKA_CERT"),
        ("mutual TLS", {"PENSTOCK_KAFKA_CA": "/nowhere.pem"}, "PENSTOCK_KAFKA_CA=/nowhere.pem"),
        ("mutual TLS", {"PENSTOCK_KAFKA_KEY": "stranger.key"}, "cannot be used with"),
        ("mutual TLS", {"PENSTOCK_KAFKA_KEY": "locked.key"}, "asks for a passphrase"),
    ],
)
def test_a_half_setting_is_named(
    name: str,
    change: dict[str, str],
    words: str,
    ways: dict[str, dict[str, str]],
    certificates: pathlib.Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(certificates)
    way = {name: value for name, value in (ways[name] | change).items() if name != "at"}
    with pytest.raises(SettingsError, match=words):
        credentials(Settings.read(way))


def test_a_half_setting_ends_a_command_without_a_traceback(tmp_path: pathlib.Path) -> None:
    kafka = {"PENSTOCK_BROKER": "kafka://127.0.0.1:1", "PENSTOCK_KAFKA_KEY": "own.key"}
    assert "need PENSTOCK_KAFKA_TLS=on" in refused("worker", environment(tmp_path, **kafka))
