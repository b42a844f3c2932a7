"""The first thing in the sandbox's process: gives up everything, then runs the script.

Run as `python -I -S -B launcher.py ORDERS REPORT`, two file descriptors. Nothing of Penstock can be
imported here. Whatever fails before the script runs is reported and ends the process: there is no
way on with less.
"""

import ctypes
import marshal
import os
import resource
import sys

_PR_SET_PDEATHSIG, _PR_SET_DUMPABLE, _PR_SET_SECCOMP, _PR_SET_NO_NEW_PRIVS = 1, 4, 22, 38
_SIGKILL, _SECCOMP_MODE_FILTER = 9, 2
_CREATE_RULESET, _ADD_RULE, _RESTRICT_SELF = 444, 445, 446
_RULE_PATH_BENEATH = 1
_RTLD_LAZY = 1
_CAPABILITY_VERSION = 0x20080522

_libc = ctypes.CDLL(None, use_errno=True)


def _must(result: int, what: str) -> int:
    if result < 0:
        raise OSError(ctypes.get_errno(), f"{what}: {os.strerror(ctypes.get_errno())}")
    return result


def _prctl(option: int, value: int, pointer: object = None) -> None:
    zero = ctypes.c_ulong(0)
    second = zero if pointer is None else pointer
    _must(_libc.prctl(option, ctypes.c_ulong(value), second, zero, zero), f"prctl {option}")


def _give_up_privileges(worker: int) -> None:
    _prctl(_PR_SET_NO_NEW_PRIVS, 1)
    # Even as root: nothing is left that root may do and others may not.
    header = (ctypes.c_uint32 * 2)(_CAPABILITY_VERSION, 0)
    _must(_libc.capset(header, (ctypes.c_uint32 * 6)()), "capset")
    # No core for a collector that runs as root, and no tracer.
    _prctl(_PR_SET_DUMPABLE, 0)
    # Last of these, because a change of credentials takes it back.
    _prctl(_PR_SET_PDEATHSIG, _SIGKILL)
    if os.getppid() != worker:
        raise OSError("the worker has gone")


def _load(modules: "tuple[str, ...]") -> None:
    """What Python has as machine code is in memory: no file can be mapped any more, for a file that
    is mapped keeps its room on the disk without a name, and nothing counts how many there are."""
    for path in modules:
        # Bound when they are used, as most are not. One that is not there says so when imported.
        _libc.dlopen(path.encode(), _RTLD_LAZY)


def _enter_landlock(ruleset: bytes, rules: "list[tuple[str, int]]") -> None:
    size = ctypes.c_size_t(len(ruleset))
    zero = ctypes.c_uint32(0)
    number = _must(_libc.syscall(_CREATE_RULESET, ruleset, size, zero), "landlock_create_ruleset")
    for path, access in rules:
        folder = os.open(path, os.O_PATH | os.O_CLOEXEC)
        # struct landlock_path_beneath_attr, which is packed
        beneath = access.to_bytes(8, "little") + folder.to_bytes(4, "little")
        added = _libc.syscall(_ADD_RULE, number, _RULE_PATH_BENEATH, beneath, zero)
        _must(added, f"landlock_add_rule {path}")
        os.close(folder)
    _must(_libc.syscall(_RESTRICT_SELF, number, zero), "landlock_restrict_self")
    os.close(number)


class _Program(ctypes.Structure):
    """struct sock_fprog"""

    _fields_ = [("length", ctypes.c_ushort), ("filter", ctypes.c_char_p)]


def _enter_seccomp(program: bytes, own_pid: int) -> None:
    program = program.replace(own_pid.to_bytes(4, "little"), os.getpid().to_bytes(4, "little"))
    filter_ = _Program(len(program) // 8, program)
    _prctl(_PR_SET_SECCOMP, _SECCOMP_MODE_FILTER, ctypes.byref(filter_))


def _main() -> None:
    report = int(sys.argv[2])
    try:
        with open(int(sys.argv[1]), "rb") as file:
            orders = marshal.load(file)
        inside: dict[str, object] = {"__name__": "inside"}
        exec(orders["inside"], inside)
        run_script = inside["run_script"]
        path = orders["script"]
        with open(path, "rb") as file:
            source = file.read()
        _load(orders["modules"])
        for limit, value in orders["rlimits"]:
            resource.setrlimit(limit, (value, value))
        _give_up_privileges(orders["worker"])
        _enter_landlock(orders["ruleset"], orders["rules"])
        _enter_seccomp(orders["program"], orders["own_pid"])
        os.write(report, b"ready\n")
    except BaseException as error:
        os.write(report, f"refused {type(error).__name__}: {error}\n".encode())
        raise SystemExit(1) from None
    folder, raises = os.path.dirname(path), []  # type: ignore[var-annotated]
    # What reports is taken before the script runs, and is on the stack alone: see inside.py.
    try:  # noqa: SIM105 - contextlib is not here, and would be the script's to replace
        os.write(
            report,
            b"%(word)b %(key)b\n"
            % {
                b"key": orders.pop("key"),
                b"word": run_script(source, path, folder, raises),  # type: ignore[operator]
            },
        )
    except OSError:
        pass  # the script closed it: it has not come to its end
    for raised in raises:
        raise raised


if __name__ == "__main__":
    _main()
