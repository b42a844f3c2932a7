"""The token: a copy over the worker's file is noticed, and nothing else is taken for one."""

import asyncio
import pathlib
import shutil
import sqlite3

from tests.unit.conftest import Opener
from tests.unit.stores import IDEA, append


def copied(store, file: pathlib.Path) -> None:
    """`file` is a backup of the store."""
    with sqlite3.connect(store.path) as db, sqlite3.connect(file) as target:
        db.backup(target)


def test_a_backup_that_is_copied_over_the_file_is_noticed_and_left_as_it_is(
    open_store: Opener, tmp_path: pathlib.Path
) -> None:
    async def main() -> None:
        store = open_store()
        store.create("idea", 1)
        store.start(asyncio.get_running_loop())
        append(store, IDEA, b"before")
        await store.flush()
        store.checkpoint()
        backup = tmp_path / "backup.db"
        copied(store, backup)
        append(store, IDEA, b"after")
        await store.flush()
        store.checkpoint()
        store.checkpoint()
        assert not store.look_for_another()
        shutil.copyfile(backup, store.path)
        store.checkpoint()
        assert store.overwritten
        late = append(store, IDEA, b"late")
        await asyncio.to_thread(store.close)
        assert late == []
        assert store.path.read_bytes() == backup.read_bytes()

    asyncio.run(main())


def test_what_the_worker_and_others_write_and_copy_is_no_other_file(open_store: Opener) -> None:
    async def main() -> None:
        store = open_store()
        store.create("idea", 1)
        store.start(asyncio.get_running_loop())
        for number in range(20):
            if number % 3:
                append(store, IDEA, b"x" * 10_000)
                await store.flush()
            with sqlite3.connect(store.path) as other:
                other.execute("create table if not exists other (n)")
                other.execute("insert into other values (1)")
            other.execute(f"pragma wal_checkpoint({'passive' if number % 2 else 'truncate'})")
            other.close()
            store.checkpoint()
            assert not store.look_for_another()

    asyncio.run(main())


def test_a_copy_of_the_log_that_a_full_disk_has_cut_is_no_other_file(open_store: Opener) -> None:
    """The database has no room for its last pages, which its first one counts."""

    async def main() -> None:
        store = open_store()
        store.create("idea", 1)
        store.start(asyncio.get_running_loop())
        append(store, IDEA, b"x" * 100_000)
        await store.flush()
        store.checkpoint()
        whole = store.path.read_bytes()
        for size in range(4096, len(whole), 4096):
            with store.path.open("rb+") as file:
                file.truncate(size)
            assert not store.look_for_another(), size
            with store.path.open("rb+") as file:
                file.write(whole)

    asyncio.run(main())


def test_a_file_that_is_there_no_longer_is_nobodys_copy(open_store: Opener) -> None:
    async def main() -> None:
        store = open_store()
        store.start(asyncio.get_running_loop())
        store.path.rename(store.path.with_name("moved.db"))
        assert not store.look_for_another()
        store.path.with_name("moved.db").rename(store.path)

    asyncio.run(main())
