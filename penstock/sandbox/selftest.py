"""Tries to get out. A sandbox that lets one of these through is not used."""

import contextlib
import json
import os
import pathlib
import socket
import tempfile
from collections.abc import Awaitable, Callable, Collection, Iterator

from penstock.errors import SandboxUnavailable
from penstock.sandbox.outcomes import Limits, Outcome

Run = Callable[[str, str, Limits], Awaitable[Outcome]]

#: The attempts, each by what is said when it succeeds. Those that need nothing of this machine's
#: own come last: a container may do them to itself.
ELSEWHERE = ("reads files", "writes files", "connects by TCP", "sends by UDP", "uses unix sockets")
ITSELF = ("starts processes", "signals the worker", "reads /proc")
_LIMITS = Limits(seconds=20.0)
_SHORT_PATH = 70

_SCRIPT = """\
import errno, json, os, socket, sys
place = json.loads(sys.stdin.read())
def reads_files():
    open(place["canary"]).read()
def writes_files():
    open(place["canary"] + ".new", "w").close()
def connects_by_tcp():
    socket.create_connection(("127.0.0.1", place["tcp"]), timeout=5).close()
def sends_by_udp():
    socket.socket(socket.AF_INET, socket.SOCK_DGRAM).sendto(b"x", ("127.0.0.1", place["udp"]))
def uses_unix_sockets():
    socket.socket(socket.AF_UNIX).connect(place["unix"])
def starts_processes():
    if os.fork() == 0:
        os._exit(0)
    os.wait()
def signals_the_worker():
    os.kill(place["worker"], 0)
def reads_proc():
    open("/proc/self/environ").read()
found = {}
for name in place["attempts"]:
    try:
        globals()[name.lower().replace(" ", "_").replace("/", "")]()
        found[name] = "done"
    except OSError as error:
        found[name] = errno.errorcode.get(error.errno, str(error))
    except AttributeError as error:  # an interpreter that has not even the call for it
        found[name] = str(error)
print(json.dumps(found))
"""


async def check(run: Run, attempts: Collection[str], *, denied: bool = True) -> None:
    """Each of `attempts` fails in a script that `run` runs, and as forbidden with `denied`.

    Without `denied` any error will do, as that there is no such file where the script runs.
    Raises `SandboxUnavailable` that names what did not fail.
    """
    with _stage() as site:
        given = json.dumps({**site, "attempts": list(attempts)})
        outcome = await run(_SCRIPT, given, _LIMITS)
        written = pathlib.Path(f"{site['canary']}.new").exists()
    if outcome.exit_code != 0 or outcome.limit:
        said = outcome.limit or outcome.stderr.strip()[-500:]
        raise SandboxUnavailable(f"The sandbox's self-test could not run: {said}")
    try:
        found = json.loads(outcome.stdout)
    except ValueError:
        found = {}
    refused = ("EPERM", "EACCES") if denied else ()
    through = [
        name
        for name in attempts
        if found.get(name, "done") == "done" or (refused and found[name] not in refused)
    ]
    if through or written:
        raise SandboxUnavailable(
            "This machine's sandbox does not hold, and nothing is run in it. A script in it "
            + ", ".join(through or ["writes files"])
        )


@contextlib.contextmanager
def _stage() -> Iterator[dict[str, object]]:
    """Something to reach, for each attempt: a canary file and three listeners of this process."""
    # The path of a unix socket has to be short.
    near = None if len(tempfile.gettempdir()) < _SHORT_PATH else "/tmp"
    with (
        tempfile.TemporaryDirectory(prefix="penstock-canary-", dir=near) as folder,
        socket.create_server(("127.0.0.1", 0)) as tcp,
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as udp,
        socket.socket(socket.AF_UNIX) as unix,
    ):
        canary, path = os.path.join(folder, "canary"), os.path.join(folder, "unix")
        pathlib.Path(canary).write_text("a canary")
        udp.bind(("127.0.0.1", 0))
        unix.bind(path)
        unix.listen()
        yield {
            "canary": canary,
            "tcp": tcp.getsockname()[1],
            "udp": udp.getsockname()[1],
            "unix": path,
            "worker": os.getpid(),
        }
