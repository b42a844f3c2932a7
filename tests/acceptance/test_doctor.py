"""`penstock doctor`: everything that is there, and what to do about what is not."""

import pathlib
import sqlite3

from tests.acceptance.homes import Home, copy_project
from tests.servers import ScriptedServer


def findings(home: Home, code: int = 0, **settings: str) -> dict[str, str]:
    """What is wrong, or right when nothing is, by what was checked."""
    lines = home.run("doctor", "--json", code=code, **settings).json_lines()
    wrong = {line["check"]: line["detail"] for line in lines if not line["ok"]}
    return wrong or {line["check"]: line["detail"] for line in lines}


def test_a_machine_in_order_is_said_to_be(home: Home) -> None:
    found = findings(home)

    assert set(found) == {"project", "data", "logs", "broker", "model", "sandbox", "memory"}
    assert "native: holds" in found["sandbox"] and "memory/qdrant" in found["memory"]
    assert "offline/storyteller made sample text" in found["model"]
    assert "no worker is running" in found["broker"]


def test_a_model_is_really_asked(home: Home, scripted: ScriptedServer) -> None:
    model = f"{scripted.base_url}#the-model"
    refused = [{"fault": "status", "status": 401, "body": "Incorrect API key"}]
    assert "server/the-model answered in" in findings(home, PENSTOCK_MODEL=model)["model"]
    assert len(scripted.calls()) == 1

    scripted.script(refused)
    found = findings(home, code=1, PENSTOCK_MODEL=model)
    assert list(found) == ["model"]
    assert "given to the server of OPENAI_BASE_URL only" in found["model"]

    scripted.script(refused)
    home.env |= {"OPENAI_BASE_URL": scripted.base_url, "OPENAI_API_KEY": "sk-wrong"}
    assert "Check the key" in findings(home, code=1, PENSTOCK_MODEL="openai/x")["model"]


def test_a_model_that_cannot_be_reached_is_named(home: Home) -> None:
    found = findings(home, code=1, PENSTOCK_MODEL="http://127.0.0.1:9/v1#m")
    assert list(found) == ["model"]
    assert "server/m cannot be reached" in found["model"] and "plotter" in found["model"]


def test_a_missing_key_is_named(home: Home) -> None:
    found = findings(home, code=1, PENSTOCK_MODEL="openai/gpt-4.1-mini")
    assert "OPENAI_API_KEY is not set" in found["model"]


def test_all_mistakes_of_a_project_are_reported(home: Home, tmp_path: pathlib.Path) -> None:
    project = copy_project(tmp_path / "project")
    (project / "agents" / "critic.md").unlink()
    (project / "agents" / "plotter.md").write_text("---\ntemprature: 1\n---\nPlot.\n")
    found = findings(home, code=1, PENSTOCK_PROJECT=str(project))
    assert "plotter.md:2: unknown key 'temprature'" in found["project"]


def test_folders_that_cannot_be_written_are_named(home: Home, tmp_path: pathlib.Path) -> None:
    # A file where the folders should be: root may write anywhere else.
    (tmp_path / "taken").write_text("")
    folders = {f"PENSTOCK_{w}": str(tmp_path / "taken" / w.lower()) for w in ("DATA", "LOGS")}
    found = findings(home, code=1, **folders)
    for setting, folder in folders.items():
        said = found[setting.removeprefix("PENSTOCK_").lower()]
        assert setting in said and folder in said


def test_a_damaged_database_is_found(home: Home) -> None:
    home.submit("--premise", "A hedgehog")
    with sqlite3.connect(home.database) as db:
        db.execute("pragma wal_checkpoint(truncate)")
    db.close()
    raw = bytearray(home.database.read_bytes())
    raw[4096 : 4096 * 3] = b"\xff" * 8192
    home.database.write_bytes(raw)
    found = findings(home, code=1)
    assert "damaged" in found["broker"] and ".recover" in found["broker"]


def test_a_kafka_that_cannot_be_reached_is_named_once(home: Home) -> None:
    found = findings(home, code=1, PENSTOCK_BROKER="kafka://127.0.0.1:9")
    assert list(found) == ["broker"]
    assert "127.0.0.1:9" in found["broker"] and "PENSTOCK_BROKER" in found["broker"]
