"""Runs a script as `python script.py` would. It is read as text and runs in the sandbox, so it
imports nothing but what every interpreter has at its start.

Each launcher ends with one expression: the function that reports, where to, and the key of the
report are taken before the script runs and wait on the interpreter's stack, in no variable and no
module that the script could read or replace.
"""

import builtins
import os
import sys

if False:  # for type checkers: an import costs time in every run
    from typing import Any


def run_script(source: bytes, path: str, folder: str, raises: "list[BaseException]") -> bytes:
    """What to report of the script; what its end raises is in `raises`.

    "end": the last statement was reached. An exit counts when it was the last statement's own, as
    of `sys.exit(main())`, or the standard library's, as of `unittest.main()`; not one that was
    raised in a function of the script, since a test further down may have called that.
    """
    # A module of its own: what a script defines is in __main__, where pickle and unittest look.
    main = type(sys)("__main__")
    main.__dict__.update(__file__=path, __builtins__=builtins, __annotations__={})
    sys.modules["__main__"] = main
    sys.argv[:] = [path]
    sys.path.insert(0, folder)
    _add_quitters()
    last = range(0)
    try:
        tree: Any = compile(source, path, "exec", 0x400, dont_inherit=True)  # ast.PyCF_ONLY_AST
        if tree.body:
            last = range(tree.body[-1].lineno, (tree.body[-1].end_lineno or 0) + 1)
        exec(compile(tree, path, "exec", dont_inherit=True), main.__dict__)
    except SystemExit as stop:
        # The first frame is this one, the second the script's.
        frame = stop.__traceback__ and stop.__traceback__.tb_next
        ended = frame is not None and frame.tb_lineno in last
        while ended and frame is not None and frame.tb_next:
            frame = frame.tb_next
            file = frame.tb_frame.f_code.co_filename
            ended = file.startswith((_STANDARD_LIBRARY, "<frozen "))
        raises.append(stop)
        return b"end" if ended else b"left"
    except BaseException as error:
        trace = error.__traceback__
        trace = trace and trace.tb_next  # without this function
        sys.excepthook(type(error), error.with_traceback(trace), trace)
        raises.append(SystemExit(1))
        return b"memory" if isinstance(error, MemoryError) else b"raised"
    return b"end"


_STANDARD_LIBRARY = os.__file__.rpartition("/")[0] + "/"


def _add_quitters() -> None:
    """`exit()` and `quit()`, which `site` adds and -S leaves out."""
    import _sitebuiltins

    for name in ("exit", "quit"):
        setattr(builtins, name, _sitebuiltins.Quitter(name, "Ctrl-D (i.e. EOF)"))
