"""Names of models: where each of them is asked, and what is said when it cannot be."""

import dataclasses
import importlib.util

import pytest

from penstock.errors import SettingsError
from penstock.models.names import FORMS, MISTRAL_URL, resolve
from penstock.settings import Settings

NOTHING = Settings()
KEYS = Settings(openai_api_key="sk-open-sesame", mistral_api_key="mi-open-sesame")


def where(text: str, settings: Settings = KEYS) -> tuple[str, str, str | None]:
    target = resolve(text, settings)
    return target.provider, target.name, target.base_url


def refused(text: str, settings: Settings = KEYS) -> str:
    with pytest.raises(SettingsError) as caught:
        resolve(text, settings)
    return caught.value.message


def test_with_nothing_configured_it_is_the_offline_model():
    assert where("", NOTHING) == ("offline", "storyteller", None)


def test_with_a_key_or_an_address_of_openais_it_is_openais_default_model():
    assert where("", Settings(openai_api_key="sk-open-sesame")) == ("openai", "", None)
    assert where("", Settings(openai_base_url="http://gpu/v1")) == ("openai", "", "http://gpu/v1")


def test_a_cards_model_goes_before_the_settings():
    settings = Settings(model="ollama/gemma3:1b")
    assert where("", settings)[:2] == ("ollama", "gemma3:1b")
    assert where("offline/storyteller", settings)[0] == "offline"


@pytest.mark.parametrize(
    ("text", "target"),
    [
        ("offline", ("offline", "storyteller", None)),
        ("offline/storyteller", ("offline", "storyteller", None)),
        ("openai/gpt-5", ("openai", "gpt-5", None)),
        ("openai", ("openai", "", None)),
        ("mistral/mistral-small", ("mistral", "mistral-small", MISTRAL_URL)),
        ("ollama/gemma3:1b", ("ollama", "gemma3:1b", "http://localhost:11434/v1")),
        ("ollama/hf.co/team/model", ("ollama", "hf.co/team/model", "http://localhost:11434/v1")),
        ("http://gpu:8000/v1#qwen", ("server", "qwen", "http://gpu:8000/v1")),
        ("https://gpu/v1", ("server", "default", "https://gpu/v1")),
    ],
)
def test_a_name_is_a_provider_and_its_model_or_an_address(text, target):
    assert where(text) == target


@pytest.mark.parametrize(
    ("host", "url"),
    [
        ("gpu:9999", "http://gpu:9999/v1"),
        ("gpu", "http://gpu:11434/v1"),
        ("0.0.0.0", "http://0.0.0.0:11434/v1"),
        ("[::1]", "http://[::1]:11434/v1"),
        (":9999", "http://localhost:9999/v1"),
        ("http://gpu", "http://gpu/v1"),
        ("https://gpu/ollama/", "https://gpu/ollama/v1"),
    ],
)
def test_ollamas_own_variable_says_where_it_is_as_ollama_reads_it(host, url):
    assert where("ollama/m", Settings(ollama_host=host)) == ("ollama", "m", url)


def test_keys_go_to_their_own_provider():
    assert resolve("openai/m", KEYS).api_key == "sk-open-sesame"
    assert resolve("mistral/m", KEYS).api_key == "mi-open-sesame"
    assert "sesame" not in resolve("ollama/m", KEYS).api_key
    assert "sesame" not in repr(resolve("openai/m", KEYS))


@pytest.mark.parametrize("url", ["http://gpu/v1", "https://gpu:8000/v1", "https://other/v1"])
def test_an_address_gets_the_key_only_on_the_server_that_the_settings_name(url):
    own = dataclasses.replace(KEYS, openai_base_url="https://gpu/v1")
    assert resolve("https://gpu/other#m", own).api_key == "sk-open-sesame"
    assert resolve(f"{url}#m", own).api_key == "none"
    assert resolve(f"{url}#m", KEYS).api_key == "none"


def test_the_label_names_provider_and_model():
    assert resolve("openai", KEYS).label == "openai/default"
    assert resolve("http://gpu/v1#qwen", KEYS).label == "server/qwen"


def test_an_unknown_provider_is_refused_with_the_one_that_was_probably_meant():
    message = refused("opnai/gpt-5")
    assert message == (
        f"model 'opnai/gpt-5': 'opnai' is not a provider. Did you mean 'openai'? Use {FORMS}."
    )
    assert "Did you mean" not in refused("gpt-5")


def test_a_missing_key_is_named_with_the_way_out():
    message = refused("openai/gpt-5", NOTHING)
    assert "OPENAI_API_KEY is not set" in message and FORMS in message
    message = refused("mistral/small", NOTHING)
    assert "MISTRAL_API_KEY is not set" in message and FORMS in message


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("ollama", "the name is missing: ollama/NAME"),
        ("mistral/", "the name is missing: mistral/NAME"),
        ("offline/gpt", "the offline model is 'offline/storyteller'"),
        ("http://", "there is no host in this address"),
        ("http://[::1/v1#m", "there is no host in this address"),
    ],
)
def test_a_name_that_leads_nowhere_is_refused(text, expected):
    message = refused(text)
    assert message.startswith(f"model {text!r}: ") and expected in message


@pytest.mark.parametrize("host", ["gpu:port", "[::1", "gpu:99999"])
def test_a_bad_ollama_host_is_named(host):
    message = refused("ollama/m", Settings(ollama_host=host))
    assert message.startswith(f"OLLAMA_HOST={host!r}: ") and "Expected HOST:PORT" in message


def test_a_local_model_is_a_file_in_the_project_or_anywhere(tmp_path, monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: name)
    (tmp_path / "topics").mkdir()
    file = tmp_path / "small.gguf"
    file.write_bytes(b"GGUF and more")
    settings = Settings(project=tmp_path)
    for text in ("local/small.gguf", f"local/{file}"):
        target = resolve(text, settings)
        assert (target.provider, target.label, target.file) == ("local", text, file)
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    assert refused("local/small.gguf", settings).endswith("pip install '.[local]'")


def test_weights_that_cannot_be_used_are_refused_with_what_there_is(tmp_path):
    (tmp_path / "topics").mkdir()
    (tmp_path / "small.gguf").write_bytes(b"GGUF")
    (tmp_path / "page.gguf").write_bytes(b"<html>")
    settings = Settings(project=tmp_path)
    message = refused("local/smal.gguf", settings)
    assert message == (
        f"model 'local/smal.gguf': there is no file {tmp_path}/smal.gguf."
        " Did you mean 'small.gguf'? GGUF files there: page.gguf, small.gguf"
    )
    assert "is a folder. Name a file in it. GGUF files there: page" in refused("local/.", settings)
    assert "begins with b'<htm' and not with b'GGUF'" in refused("local/page.gguf", settings)
    assert "cannot be read: Not a directory" in refused("local/page.gguf/x", settings)
    assert "the path is missing: local/PATH.gguf" in refused("local/", settings)
