"""The tier `docker`: a new container for each run, for machines without Landlock."""

import asyncio
import contextlib
import dataclasses
import functools
import math
import os
import pathlib
import secrets
import subprocess
import sys

from penstock.errors import SandboxUnavailable
from penstock.sandbox import scratch
from penstock.sandbox.outcomes import Limits, Outcome
from penstock.sandbox.processes import run_process, to_the_end

IMAGE = f"python:{sys.version_info[0]}.{sys.version_info[1]}-slim"
#: Seconds until Docker's daemon counts as not answering, or a container as not removed.
_DAEMON_S = 20.0
#: Of a container that was killed for its memory.
_KILLED = 137
_MAX_PROCESSES, _MAX_FILES = 64, 64

# The key, the script and its input come by stdin, which is the script's afterwards. No other pipe
# leads out of a container, so the reports are lines of stderr, which the key tells from the rest.
_BEGIN = """
import os
def _take():
    size = b""
    while not size.endswith(b"\\n"):
        size += os.read(0, 1) or sys.exit(1)
    taken = b""
    while len(taken) < int(size):
        taken += os.read(0, int(size) - len(taken)) or sys.exit(1)
    return taken
def _run(source, path, raises):
    word = run_script(source, path, os.path.dirname(path), raises)
    sys.stderr.flush()
    return word
def _main():
    path, raises = os.getcwd() + "/script.py", []
    given = [_take(), _take()]
    source = given.pop()
    with open(path, "wb") as file:
        file.write(source)
    os.write(2, b"ready " + given[0] + b"\\n")
    os.write(2, b"%(word)b %(key)b\\n" % {
        b"key": given.pop(), b"word": _run(source, path, raises)
    })
    for error in raises:
        raise error
_main()
"""


def command(name: str, limits: Limits, image: str = IMAGE) -> list[str]:
    """The whole command line of a run. docs/sandbox.md has it in words."""
    memory = f"{limits.memory_mb}m"
    return [
        *("docker", "run", "--rm", "-i", "--init", "--name", name, "--pull", "never"),
        *("--network", "none", "--ipc", "none", "--log-driver", "none"),
        *("--read-only", "--tmpfs", f"/scratch:rw,nosuid,nodev,mode=1777,size={limits.disk_mb}m"),
        *("--workdir", "/scratch", "--env", "HOME=/scratch", "--env", "TMPDIR=/scratch"),
        *("--memory", memory, "--memory-swap", memory, "--cpus", "1"),
        *("--pids-limit", str(_MAX_PROCESSES), "--ulimit", f"nofile={_MAX_FILES}:{_MAX_FILES}"),
        *("--ulimit", "core=0:0", "--ulimit", f"cpu={math.ceil(limits.seconds) + 1}"),
        *("--user", "65534:65534", "--cap-drop", "ALL"),
        *("--security-opt", "no-new-privileges"),
        *(image, "python", "-I", "-S", "-B", "-X", "utf8", "-c", _inside() + _BEGIN),
    ]


@functools.cache
def _inside() -> str:
    return pathlib.Path(__file__).with_name("inside.py").read_text(encoding="utf-8")


async def run(code: str, stdin: str, limits: Limits) -> Outcome:
    """As `penstock.sandbox.run_code`. When it is over, by whatever, the container is gone."""
    name, key = f"{scratch.PREFIX}{secrets.token_hex(8)}", secrets.token_hex(16).encode()
    source, rest = (text.encode("utf-8", "surrogatepass") for text in (code, stdin))
    given = b"".join(b"%d\n%s" % (len(part), part) for part in (key, source)) + rest
    folder = scratch.new_folder()
    try:
        await to_the_end(asyncio.to_thread(scratch.make, folder))
        outcome = await run_process(
            command(name, limits),
            environment=os.environ,
            folder=folder,
            stdin=given,
            limits=limits,
            kill=functools.partial(_remove, name),
        )
    finally:
        await to_the_end(asyncio.to_thread(scratch.remove, folder))
    return _read(outcome, key.decode())


def _read(outcome: Outcome, key: str) -> Outcome:
    """`outcome` without the reports in it, and with what they say."""
    stderr, words = outcome.stderr, []
    for word in ("ready", "end", "left", "raised", "memory"):
        before, found, after = stderr.partition(f"{word} {key}\n")
        if found:
            words.append(word)
            stderr = before + after
    if "ready" not in words and outcome.limit is None:
        said = stderr.strip()[-500:] or f"it ended with {outcome.exit_code}"
        raise SandboxUnavailable(f'The sandbox "docker" could not start its container: {said}')
    limit = outcome.limit
    if limit is None and ("memory" in words or outcome.exit_code == _KILLED):
        limit = "memory"
    return dataclasses.replace(
        outcome,
        stderr=stderr,
        limit=limit,
        exit_code=None if limit else outcome.exit_code,
        finished=not limit and "end" in words,
    )


async def prepared() -> None:
    """Docker, its daemon and the image are there. Raises `SandboxUnavailable` otherwise."""
    code, said = await _docker("version", "--format", "{{.Server.Version}}")
    if code:
        raise SandboxUnavailable(
            f'The sandbox "docker" needs Docker\'s daemon, and it does not answer: {said}. Start '
            'it (on Linux: systemctl start docker), or choose the tier "native".'
        )
    code, said = await _docker("image", "inspect", "--format", "{{.Id}}", IMAGE)
    if code:
        raise SandboxUnavailable(
            f'The sandbox "docker" needs the image {IMAGE}. Bring it with: docker pull {IMAGE}'
        )


async def _remove(name: str) -> None:
    """The container is gone, also when Docker was only about to make it."""
    for _ in range(2):
        with contextlib.suppress(SandboxUnavailable):
            code, _said = await _docker("rm", "--force", name)
            if code == 0:
                return
        await asyncio.sleep(0.5)


async def _docker(*arguments: str) -> tuple[int, str]:
    """The exit code and the last line of what it said."""
    try:
        process = await asyncio.create_subprocess_exec(
            "docker",
            *arguments,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )
    except OSError as exc:
        raise SandboxUnavailable(
            'The sandbox "docker" needs the program docker on the PATH. Install Docker '
            '(https://docs.docker.com/engine/install), or choose the tier "native" on Linux.'
        ) from exc
    try:
        said, _ = await asyncio.wait_for(process.communicate(), _DAEMON_S)
    except TimeoutError:
        return 1, f"nothing within {_DAEMON_S:g} s"
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    return process.returncode or 0, said.decode("utf-8", "replace").strip().rpartition("\n")[2]
