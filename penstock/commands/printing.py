"""Printing: lines on stdout, and what is said beside them on stderr.

Without Rich, which most commands can do without: what needs its trees and tables is in `screens`.
"""

import json
import sys
from typing import Any

from penstock.worker.console import printable


def put(text: str) -> None:
    """Print what was asked for."""
    # Flushed, so that a reader who has had enough is noticed here and not at Python's end.
    print(printable(text), flush=True)


def put_json(value: Any) -> None:
    """Print what was asked for, for programs: character by character what it is, so all that `put`
    would leave out is written as an escape."""
    put(json.dumps(value))


def say(text: str, style: str = "") -> None:
    """Print progress or a complaint, in `style` where somebody looks on."""
    if style and sys.stderr.isatty():
        from rich.text import Text

        from penstock.commands.screens import progress

        progress.print(Text(printable(text)), style=style)
    else:
        print(printable(text), file=sys.stderr, flush=True)


def complain(text: str) -> None:
    """Print an error."""
    say(f"Error: {text}", style="red")
