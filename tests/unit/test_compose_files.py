"""What every compose file keeps to. Whether Docker Compose can read them: `make compose-check`."""

import pathlib
from typing import Any

import pytest
import yaml

from penstock.settings import PREFIX, Settings

ROOT = pathlib.Path(__file__).parents[2]
FILES = [ROOT / "redpanda-compose.yml", ROOT / "examples" / "mesh-compose.yml"]


def services(file: pathlib.Path) -> dict[str, dict[str, Any]]:
    """The services of `file`, each with what it extends."""
    read = yaml.safe_load(file.read_text())["services"]
    for name, service in read.items():
        source = service.pop("extends", None)
        if source is not None:
            other = services((file.parent / source["file"]).resolve())[source["service"]]
            read[name] = other | service
    found: dict[str, dict[str, Any]] = read
    return found


def test_no_compose_file_is_left_out_here() -> None:
    there = {
        file for pattern in ("*compose*.yml", "*/*compose*.yml") for file in ROOT.glob(pattern)
    }
    assert there == set(FILES)


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.name)
def test_ports_are_on_loopback_and_images_are_pinned(file: pathlib.Path) -> None:
    for name, service in services(file).items():
        assert all(port.startswith("127.0.0.1:") for port in service.get("ports", ())), name
        _, _, tag = service["image"].partition(":")
        assert tag not in ("", "latest"), name


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.name)
def test_a_worker_is_given_settings_that_there_are(file: pathlib.Path) -> None:
    given = services(file)["worker"]["environment"]
    ours = {name: text for name, text in given.items() if name.startswith(PREFIX)}
    settings = Settings.read({name: "" if "${" in text else text for name, text in ours.items()})
    assert not settings.embedded
    assert not settings.worker_id  # replicas cannot share one


def test_the_workers_of_the_mesh_share_a_folder_and_a_memory_and_each_begins_its_runs() -> None:
    found = services(ROOT / "examples" / "mesh-compose.yml")
    worker = found["worker"]
    settings = Settings.read({k: v for k, v in worker["environment"].items() if "${" not in v})
    assert settings.start == ("mesh",)
    assert f"data:{settings.data}" in worker["volumes"]
    assert settings.qdrant_url == "http://qdrant:6333" and "qdrant" in found
    assert "[memory]" in worker["command"][-1]
    # Read-only, so that a container run by root leaves nothing in the checkout.
    assert "..:/work:ro" in worker["volumes"]
