"""The settings: read once, from an environment that may be wrong."""

import dataclasses
import pathlib
import re

import pytest

from penstock import settings
from penstock.errors import SettingsError
from penstock.settings import Settings


def refused(**environ: str) -> str:
    with pytest.raises(SettingsError) as caught:
        Settings.read(environ)
    return caught.value.message


def test_an_empty_environment_gives_the_embedded_broker_and_no_model():
    read = Settings.read({})
    assert read == Settings()
    assert read.embedded
    assert read.database == pathlib.Path("data/penstock.db").absolute()
    assert read.model == ""


def test_every_setting_can_be_set_by_its_name():
    given = {
        "PENSTOCK_BROKER": "kafka://one:9092;kafka://two:9092",
        "PENSTOCK_MODEL": "ollama/gemma3:1b",
        "PENSTOCK_DATA": "/var/data",
        "PENSTOCK_LOGS": "/var/logs",
        "PENSTOCK_PROJECT": "/srv/tales",
        "PENSTOCK_APP_ID": "tales-2.b",
        "PENSTOCK_WORKER_ID": "w1",
        "PENSTOCK_KAFKA_TLS": "on",
        "PENSTOCK_KAFKA_CA": "/etc/ca.pem",
        "PENSTOCK_KAFKA_CERT": "/etc/me.pem",
        "PENSTOCK_KAFKA_KEY": "/etc/me.key",
        "PENSTOCK_KAFKA_SASL": "SCRAM-SHA-256",
        "PENSTOCK_KAFKA_USER": "me",
        "PENSTOCK_KAFKA_PASSWORD": "open sesame",
        "PENSTOCK_TOPIC_PREFIX": "team-a.",
        "PENSTOCK_SHARED_TOPICS": "on",
        "PENSTOCK_SESSION_S": "6",
        "PENSTOCK_REPLICATION": "3",
        "PENSTOCK_PARTITIONS": " 8 ",
        "PENSTOCK_SEED": "again",
        "PENSTOCK_EVERY_S": "1.5",
        "PENSTOCK_CONCURRENCY": "7",
        "PENSTOCK_MAX_TOKENS": "400",
        "PENSTOCK_TIMEOUT_S": "60",
        "PENSTOCK_CALLS_AT_ONCE": "3",
        "PENSTOCK_ATTEMPTS": "2",
        "PENSTOCK_DRAIN_S": "0",
        "PENSTOCK_EVENT_LOG": "Off",
        "PENSTOCK_START": "mesh, story",
        "PENSTOCK_SANDBOX": "docker",
        "PENSTOCK_SANDBOX_S": "2.5",
        "PENSTOCK_SANDBOX_MB": "128",
        "PENSTOCK_EVENT_LOG_BYTES": "5000",
        "PENSTOCK_EVENT_LOG_FILES": "0",
        "PENSTOCK_LOG_INSTRUCTIONS": "no",
        "PENSTOCK_RECORD_TEXT": "100",
        "PENSTOCK_MAX_EVENT_BYTES": "2000",
        "PENSTOCK_RETENTION_S": "60",
        "PENSTOCK_EMBEDDINGS": "ollama/nomic-embed-text",
        "PENSTOCK_RECALL_S": "0.5",
        "PENSTOCK_MEMORY_NOTES": "100",
    }
    assert set(given) == {name for name, _, _ in settings.describe()}, "one of them is not tried"
    read = Settings.read(given)
    changed = {
        field.name
        for field in dataclasses.fields(Settings)
        if getattr(read, field.name) != field.default
    }
    assert {"PENSTOCK_" + name.upper() for name in changed} == set(given)
    assert (read.partitions, read.every_s, read.event_log) == (8, 1.5, False)
    assert (read.log_instructions, read.data) == (False, pathlib.Path("/var/data"))
    assert not read.embedded and read.start == ("mesh", "story")


def test_an_unknown_name_is_refused_with_the_name_that_was_probably_meant():
    message = refused(PENSTOCK_CONCURENCY="5")
    assert "PENSTOCK_CONCURENCY is not a setting" in message
    assert "Did you mean 'PENSTOCK_CONCURRENCY'?" in message


def test_a_name_that_resembles_none_is_refused_with_the_list_of_all():
    message = refused(PENSTOCK_ZZZ="5")
    assert "Did you mean" not in message
    assert "PENSTOCK_BROKER, PENSTOCK_MODEL" in message


def test_names_of_others_and_of_the_tests_are_left_alone():
    assert Settings.read({"PENSTOCK_TEST_LONG": "1", "HOME": "/", "KAFKA": "x"}) == Settings()


def test_an_empty_value_is_no_value():
    assert Settings.read({"PENSTOCK_ATTEMPTS": "", "PENSTOCK_BROKER": ""}) == Settings()


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        ("PENSTOCK_ATTEMPTS", "0", "expected a whole number from 1 to 100"),
        ("PENSTOCK_ATTEMPTS", "101", "expected a whole number from 1 to 100"),
        ("PENSTOCK_ATTEMPTS", "-1", "expected a whole number from 1 to 100"),
        ("PENSTOCK_ATTEMPTS", "2.0", "expected a whole number from 1 to 100"),
        ("PENSTOCK_ATTEMPTS", "\u00b2", "expected a whole number from 1 to 100"),
        ("PENSTOCK_DRAIN_S", "soon", "expected a number of seconds, 0 or more"),
        ("PENSTOCK_DRAIN_S", "-1", "expected a number of seconds, 0 or more"),
        ("PENSTOCK_DRAIN_S", "nan", "expected a number of seconds, 0 or more"),
        ("PENSTOCK_DRAIN_S", "inf", "expected a number of seconds, 0 or more"),
        ("PENSTOCK_EVENT_LOG", "maybe", "expected on or off"),
        ("PENSTOCK_SEED", "2", "expected one of 1, 0, again"),
        ("PENSTOCK_APP_ID", "my app", "expected letters, digits, '.', '_' and '-'"),
        ("PENSTOCK_APP_ID", "größe", "expected letters, digits, '.', '_' and '-'"),
        ("PENSTOCK_BROKER", "localhost:9092", "expected sqlite:///ABSOLUTE/PATH or kafka://"),
        ("PENSTOCK_BROKER", "redis://x", "expected sqlite:///ABSOLUTE/PATH or kafka://"),
        ("PENSTOCK_BROKER", "sqlite://data/x.db", "expected sqlite:///ABSOLUTE/PATH or kafka://"),
        ("PENSTOCK_BROKER", "sqlite:data/x.db", "expected sqlite:///ABSOLUTE/PATH or kafka://"),
        ("PENSTOCK_BROKER", "sqlite://", "expected sqlite:///ABSOLUTE/PATH or kafka://"),
        ("PENSTOCK_BROKER", "kafka://", "expected sqlite:///ABSOLUTE/PATH or kafka://"),
    ],
)
def test_a_bad_value_is_refused_with_its_name_itself_and_what_was_expected(name, value, expected):
    message = refused(**{name: value})
    assert message.startswith(f"{name}={value!r}: ")
    assert expected in message


def test_the_settings_cannot_be_changed():
    with pytest.raises(dataclasses.FrozenInstanceError):
        Settings().attempts = 1  # type: ignore[misc]


def test_the_database_is_the_file_that_the_broker_names():
    read = Settings.read({"PENSTOCK_BROKER": "sqlite:///var/lib/a%20tale.db"})
    assert read.database == pathlib.Path("/var/lib/a tale.db")


@pytest.mark.parametrize("folder", ["a b", "50%41", "#1", "what?", "one;two", "größe"])
def test_any_name_of_a_data_folder_is_the_folder_of_the_database(folder):
    read = Settings.read({"PENSTOCK_DATA": f"/var/{folder}"})
    assert read.database == pathlib.Path(f"/var/{folder}/penstock.db")
    assert read.embedded


def test_the_projects_folder_is_the_one_named_when_it_has_chains(tmp_path):
    (tmp_path / "topics").mkdir()
    assert Settings(project=tmp_path).root == tmp_path


def test_keys_are_read_under_the_names_that_their_own_tools_use():
    read = Settings.read({"OPENAI_API_KEY": "sk-open-sesame", "OLLAMA_HOST": "gpu:11434"})
    assert read.openai_api_key == "sk-open-sesame"
    assert read.ollama_host == "gpu:11434"
    assert read.mistral_api_key == ""
    read = Settings.read({"QDRANT_URL": "http://store:6333", "QDRANT_API_KEY": "open-sesame"})
    assert (read.qdrant_url, read.qdrant_api_key) == ("http://store:6333", "open-sesame")


def test_secrets_are_not_in_the_settings_text_and_are_taken_out_of_others():
    read = Settings.read(
        {
            "OPENAI_API_KEY": "sk-secret",
            "MISTRAL_API_KEY": "sk-secret-too",
            "PENSTOCK_BROKER": "kafka://me:hush-hush@one:9092;kafka://me:t%6Fp-hush@two:9092",
            "PENSTOCK_EMBEDDINGS": "http://me:vector-hush@gpu/v1#m",
            "QDRANT_URL": "http://me:point-hush@store:6333",
            "QDRANT_API_KEY": "sk-secret-three",
        }
    )
    assert "sk-secret" not in repr(read)
    text = read.redact(
        "with sk-secret, sk-secret-too, hush-hush, t%6Fp-hush, vector-hush, point-hush,"
        " sk-secret-three and top-hush"
    )
    assert re.split(r", | and ", text.removeprefix("with ")) == ["[secret]"] * 8


def test_a_key_too_short_to_be_one_does_not_eat_common_words():
    assert Settings.read({"OPENAI_API_KEY": "none"}).redact("none left") == "none left"


def test_every_setting_is_described():
    rows = settings.describe()
    assert ("PENSTOCK_ATTEMPTS", "5") in [(name, default) for name, default, _ in rows]
    assert all(about for _, _, about in rows)
    assert not any("API_KEY" in name for name, _, _ in rows)
