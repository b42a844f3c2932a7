"""The mesh over a real engine with random weights: whatever it says, the run ends in a row."""

import pathlib

import pytest

from tests.mesh import ECHO, Mesh
from tests.servers.llama import LlamaServer

pytestmark = pytest.mark.usefixtures("qdrant_client")


@pytest.mark.timeout(300)
def test_a_run_of_the_mesh_over_a_real_engine_ends_in_a_row(
    tmp_path: pathlib.Path, llama: LlamaServer
) -> None:
    mesh = Mesh(
        tmp_path,
        PENSTOCK_MODEL="openai/" + llama.model,
        OPENAI_BASE_URL=llama.base_url,
        OPENAI_API_KEY="not-a-real-key",
    )
    with mesh.worker() as worker:
        (trace,) = mesh.begin(ECHO)
        (run,) = mesh.wait_for(trace, limit_s=240)
        assert worker.stop() == 0
    row = mesh.rows()[trace]
    # Words are no program but by chance; four were written, if none was.
    written = [entry.event for entry in run.entries if entry.topic == "ai_solutions"]
    assert (row["verdict"], len(written)) == ("FAIL", 4) or row["verdict"] == "PASS"
    assert row["model"] == f"openai/{llama.model}" and 1 <= int(row["score"]) <= 10
    assert row["code"] and row["critique"]
    assert all(event.usage and event.usage.output_tokens > 0 for event in written)
