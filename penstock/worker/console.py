"""The console: text of a model's for people on a terminal.

Model text is untrusted: it is shown without control characters, which could move the cursor,
retitle the window or fake a prompt.
"""

import logging
import sys
import unicodedata
from collections.abc import Callable

#: Unicode categories that are not text: controls, and what reverses or hides text. (Cf also holds
#: the joiners of some scripts and of emoji; losing those costs less than a faked line.)
HIDDEN = ("Cc", "Cf", "Cs", "Co", "Cn")


def printable(text: str) -> str:
    """`text` without control characters, save line breaks and tabs."""
    return "".join(c for c in text if c in "\n\t" or unicodedata.category(c) not in HIDDEN)


def on_one_line(record: logging.LogRecord, redact: Callable[[str], str] = str) -> bool:
    """What providers, models and records say in a line of the log is text, holds no secret, and
    begins no other line. For `logging.Handler.addFilter`."""
    try:
        text = record.getMessage()
    except (TypeError, ValueError):
        return True  # the handler says what is wrong with its arguments
    record.msg, record.args = printable(redact(text)).replace("\n", "\\n"), ()
    if record.exc_info and not record.exc_text:
        said = logging.Formatter().formatException(record.exc_info)
        record.exc_text = printable(redact(said))
    return True


def show(text: str) -> None:
    """Print `text`, past the redirection of print() into the log."""
    if sys.__stdout__ is not None:
        print(printable(text), file=sys.__stdout__, flush=True)
