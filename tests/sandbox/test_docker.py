"""The tier `docker`: its command line, what it says where Docker is missing, how it talks.

Docker itself is a program on the PATH here that runs what it is given on this machine, isolated by
nothing; what a container keeps in is Docker's to show, and the self-test's.
"""

import asyncio
import os
import pathlib
import shlex
import sys

import pytest

from penstock.errors import SandboxUnavailable
from penstock.sandbox import Limits, docker, run_code, self_test, verdict

_DOCKER = """\
#!{python}
import os, sys
arguments = sys.argv[1:]
with open({log!r}, "a") as log:
    print(*arguments[:2], arguments[-1] if arguments[0] == "rm" else "", file=log)
if arguments[0] in {broken!r}:
    print("docker: it is broken", file=sys.stderr)
    sys.exit(125)
if arguments[0] == "run":
    given = arguments[arguments.index({image!r}) + 1 :]
    os.execv(sys.executable, [sys.executable, *given[1:]])
print("27.0")
"""


@pytest.fixture
def fake(tmp_path, monkeypatch):
    """Puts a Docker on the PATH in which some commands are broken; gives the list of its calls."""

    def make(*broken: str) -> pathlib.Path:
        folder: pathlib.Path = tmp_path / "bin"
        log: pathlib.Path = tmp_path / "log"
        folder.mkdir()
        text = _DOCKER.format(
            python=sys.executable, log=str(log), broken=broken, image=docker.IMAGE
        )
        (folder / "docker").write_text(text)
        (folder / "docker").chmod(0o755)
        monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")
        return log

    return make


def run(code, stdin="", **limits):
    return asyncio.run(docker.run(code, stdin, Limits(**{"seconds": 30.0, **limits})))


def test_the_command_line_is_the_documented_one():
    given = docker.command("NAME", Limits(), "IMAGE")
    line = shlex.join(given[: given.index("IMAGE")])
    page = (pathlib.Path(__file__).parents[2] / "docs" / "sandbox.md").read_text()
    documented = " ".join(page.replace("\\\n", " ").split())
    assert f"{line} IMAGE python -I -S -B -X utf8 -c BOOTSTRAP" in documented
    assert given[given.index("IMAGE") :][:-1] == "IMAGE python -I -S -B -X utf8 -c".split()


def test_limits_are_in_the_command_line():
    line = " ".join(docker.command("N", Limits(seconds=2.5, memory_mb=100, disk_mb=3))[:-1])
    for part in ("--memory 100m --memory-swap 100m", "size=3m", "cpu=4"):
        assert part in line


def test_without_docker_it_refuses_and_says_what_to_do(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(SandboxUnavailable, match="Install Docker"):
        asyncio.run(run_code("print('hello')", tier="docker"))


def test_without_its_daemon_it_refuses_and_says_what_to_do(fake):
    log = fake("version")
    with pytest.raises(SandboxUnavailable, match=r"does not answer: docker: it is broken\. Start"):
        asyncio.run(run_code("print('hello')", tier="docker"))
    assert "run" not in log.read_text()


def test_without_the_image_it_refuses_and_says_how_to_bring_it(fake):
    log = fake("image")
    with pytest.raises(SandboxUnavailable, match=f"docker pull {docker.IMAGE}"):
        asyncio.run(run_code("print('hello')", tier="docker"))
    assert "run" not in log.read_text()


def test_a_container_that_isolates_nothing_is_refused(fake):
    fake()
    with pytest.raises(SandboxUnavailable, match="reads files"):
        asyncio.run(self_test("docker"))


def test_a_container_that_does_not_start_is_not_the_scripts_failure(fake):
    fake("run")
    with pytest.raises(SandboxUnavailable, match="it is broken"):
        run("print('hello')")


def test_a_script_gets_its_input_and_gives_its_outputs(fake):
    fake()
    outcome = run("import sys\nprint(input())\nprint('e', file=sys.stderr)", "ü\n")
    assert (outcome.exit_code, outcome.stdout, outcome.stderr) == (0, "ü\n", "e\n")
    assert verdict(outcome, None).result == "PASS"


@pytest.mark.parametrize(
    ("code", "exit_code", "finished"),
    [
        ("import os; os._exit(0)", 0, False),
        ("import sys; print('end', file=sys.stderr); sys.exit(4)", 4, True),
        ("1 / 0", 1, False),
        ("import os; os._exit(125)", 125, False),
    ],
)
def test_its_kinds_of_end_are_distinguished(code, exit_code, finished, fake):
    fake()
    outcome = run(code)
    assert (outcome.exit_code, outcome.finished) == (exit_code, finished)


def test_a_container_that_was_killed_has_taken_too_much_memory(fake):
    fake()
    assert run("import os; os._exit(137)").limit == "memory"


def test_a_container_is_removed_at_a_limit_and_when_cancelled(fake):
    log = fake()
    assert run("while True: pass", seconds=0.5).limit == "timeout"
    assert run("while True: print('x' * 100)", output_bytes=1000).limit == "output"

    async def cancel() -> None:
        task = asyncio.create_task(docker.run("input()\nwhile True: pass", "", Limits()))
        while log.read_text().count("run --rm") < 3:
            await asyncio.sleep(0.01)
        task.cancel()
        await asyncio.wait([task])

    asyncio.run(cancel())
    removed = [line.split()[-1] for line in log.read_text().splitlines() if line.startswith("rm ")]
    assert len(removed) == len(set(removed)) == 3
    assert all(name.startswith("penstock-sandbox-") for name in removed)
