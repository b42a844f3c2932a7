"""The token: a value in the file by which its worker finds that another file was copied over it.

Such a copy (`cp backup.db penstock.db`) keeps the inode, and SQLite does not notice it: what is in
its write-ahead log covers the new content, and would be copied into it. The token has a page of its
own and only the worker changes it, after each copy of the log into the database that had something
to copy. So the database itself, read without the log, holds the token that was copied last; a
backup, of this file too, holds an older one or none.
"""

import pathlib
import sqlite3
import time
import uuid

from penstock.broker.embedded.file import identity
from penstock.broker.embedded.writer import Writer

#: Seconds between two looks at a token that is not the expected one: a page can be read while it is
#: written.
AGAIN_S = 0.1
#: What SQLite says of a database that is still this one: a full disk can cut the copy of the log
#: into it, and what is there then cannot be read without the log.
UNKNOWN = (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_IOERR, sqlite3.SQLITE_FULL, sqlite3.SQLITE_BUSY)


class Token:
    """The token of one file. Used by one thread at a time."""

    def __init__(self, path: pathlib.Path, writer: Writer) -> None:
        self._path = path
        self._writer = writer
        self._file = identity(path)
        self._value = ""
        #: The tokens that the database may hold; none while that is not known.
        self._expected: set[str] = set()
        #: How many pages the log has, when nothing was written since the token.
        self._quiet: set[int] = set()

    def was_overwritten(self) -> bool:
        """Return whether the database holds another token than those that it may."""
        if not self._is_strange():
            return False
        time.sleep(AGAIN_S)
        return self._is_strange()

    def is_of_this_file(self) -> bool:
        """Return whether the path still is the file that the worker has open."""
        return identity(self._path) == self._file

    def _is_strange(self) -> bool:
        known = bool(self._expected) and self.is_of_this_file()
        return known and self._read() not in self._expected

    def _read(self) -> str | None:
        # 'immutable' is without the log. SQLite itself has to open the file: closing one that was
        # opened beside it would take away the locks of this process.
        uri = f"{self._path.absolute().as_uri()}?mode=ro&immutable=1"
        try:
            db = sqlite3.connect(uri, uri=True)
            try:
                return str(db.execute("select value from token").fetchone()[0])
            finally:
                db.close()
        except (sqlite3.Error, TypeError) as exc:
            return self._value if getattr(exc, "sqlite_errorcode", 0) & 0xFF in UNKNOWN else None

    def copied(self, pages: int, copied: int) -> None:
        """Note that `copied` pages of the log, of all its `pages`, are in the database, and renew
        the token if any of them is of something else."""
        if pages == copied and self._value:
            self._expected = {self._value}
        if pages in self._quiet:
            return
        value = uuid.uuid4().hex
        self._writer.run(lambda db: _write(db, value))
        self._value = value
        if self._expected:
            self._expected.add(value)
        # A log that was copied whole begins again with its first page.
        self._quiet = {pages + 1, 1}


def _write(db: sqlite3.Connection, value: str) -> None:
    db.execute("create table if not exists token (id integer primary key, value text not null)")
    db.execute("insert or replace into token values (1, ?)", (value,))
