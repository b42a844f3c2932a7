"""The embedded file: what it must be, what is said when it is not, and who may work on it."""

import fcntl
import pathlib
import re
import sqlite3
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from penstock.broker.embedded.file import APPLICATION_ID, VERSION, WorkerLock, connect
from penstock.broker.embedded.store import Store
from penstock.commands.command import exits_cleanly
from penstock.errors import BrokerUnavailable, DatabaseUnusable, WorkerRunning

ROOT = pathlib.Path(__file__).parents[2]


@pytest.fixture
def path(tmp_path: pathlib.Path) -> pathlib.Path:
    return tmp_path / "data" / "penstock.db"


def test_a_new_file_is_made_with_its_folder_and_is_durable(path):
    db = connect(path)
    assert db.execute("pragma application_id").fetchone() == (APPLICATION_ID,)
    assert db.execute("pragma user_version").fetchone() == (VERSION,)
    assert db.execute("pragma journal_mode").fetchone() == ("wal",)
    assert db.execute("pragma synchronous").fetchone() == (2,), "2 is FULL"
    db.close()


def test_a_file_is_opened_again_with_what_it_holds(path):
    db = connect(path)
    db.execute("insert into topic values ('idea', 4)")
    db.close()
    again = connect(path)
    assert again.execute("select * from topic").fetchall() == [("idea", 4)]
    again.close()


def test_many_may_open_a_new_file_at_the_same_time(path):
    barrier = threading.Barrier(8)

    def open_() -> int:
        barrier.wait()
        db = connect(path)
        (count,) = db.execute("select count(*) from topic").fetchone()
        db.close()
        return int(count)

    with ThreadPoolExecutor(8) as pool:
        opened = [pool.submit(open_) for _ in range(8)]
        assert [future.result() for future in opened] == [0] * 8


def test_a_file_that_somebody_is_making_is_waited_for(path):
    path.parent.mkdir()
    other = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
    other.execute("begin immediate")
    timer = threading.Timer(0.03, other.execute, ["commit"])
    timer.start()
    connect(path).close()
    timer.join()
    other.close()


def test_a_damaged_file_is_refused_untouched_with_the_way_to_save_it(path):
    path.parent.mkdir()
    path.write_bytes(b"SQLite format 3\0" + b"rubbish " * 1000)
    before = path.read_bytes()
    with pytest.raises(DatabaseUnusable) as caught:
        connect(path)
    message = caught.value.message
    assert message.startswith(f"{path}: the database is damaged (file is not a database)")
    assert "Nothing was changed" in message and ".recover" in message
    assert path.read_bytes() == before
    assert list(path.parent.iterdir()) == [path]


def test_a_file_of_another_program_is_refused_untouched(path):
    path.parent.mkdir()
    with sqlite3.connect(path) as other:
        other.execute("create table bookmark (url text)")
    other.close()
    before = path.read_bytes()
    with pytest.raises(DatabaseUnusable) as caught:
        connect(path)
    assert f"{path}: this is a database of another program" in caught.value.message
    assert "PENSTOCK_BROKER" in caught.value.message
    assert path.read_bytes() == before


def test_a_file_of_a_newer_penstock_is_refused_untouched(path):
    db = connect(path)
    db.execute(f"pragma user_version = {VERSION + 1}")
    db.execute("pragma journal_mode = delete")
    db.close()
    before = path.read_bytes()
    with pytest.raises(DatabaseUnusable) as caught:
        connect(path)
    message = caught.value.message
    assert f"newer Penstock (format {VERSION + 1}, this one knows {VERSION})" in message
    assert "Upgrade" in message
    assert path.read_bytes() == before


@pytest.mark.parametrize("where", ["file/penstock.db", "folder", "/proc/penstock.db"])
def test_a_path_that_cannot_be_written_is_named_with_the_way_out(tmp_path, where):
    (tmp_path / "file").touch()
    (tmp_path / "folder").mkdir()
    with pytest.raises(BrokerUnavailable) as caught:
        connect(tmp_path / where)
    message = caught.value.message
    assert message.startswith(f"{tmp_path / where}: cannot be opened: ")
    assert "PENSTOCK_DATA" in message and "PENSTOCK_BROKER" in message


def test_damage_that_shows_only_when_reading_ends_a_command_with_the_way_out(path, capsys):
    store = Store(path)
    store.create("idea", 1)
    store.close()
    size = path.stat().st_size
    with path.open("r+b") as file:
        file.seek(4096)
        file.write(b"\xaa" * (size - 4096))
    store = Store(path)
    with pytest.raises(SystemExit) as caught, exits_cleanly(path):
        store.partitions("idea")
    store.close()
    assert caught.value.code == 1
    said = capsys.readouterr().err
    assert f"{path}: the database is damaged (database disk image is malformed)" in said
    assert "restore a backup" in said


def test_a_second_worker_is_refused_and_referred_to_kafka(path):
    first, second = WorkerLock(path), WorkerLock(path)
    first.take()
    first.take()  # whoever holds it may ask for it again
    with pytest.raises(WorkerRunning) as caught:
        second.take()
    assert f"{path}.lock: a worker is already running (process " in caught.value.message
    assert "use Kafka for many: PENSTOCK_BROKER=kafka://" in caught.value.message
    first.release()
    second.take()
    second.release()


def test_the_lock_is_seen_by_those_who_only_look(path):
    lock, other = WorkerLock(path), WorkerLock(path)
    assert not other.is_held(), "nobody has ever been here"
    lock.take()
    assert other.is_held() and lock.is_held()
    lock.release()
    assert not other.is_held() and not lock.is_held()


def test_who_only_looks_does_not_keep_a_worker_from_starting(path):
    lock = WorkerLock(path)
    lock.glance_s = 10  # this test may be slow, whoever looks is not
    path.parent.mkdir()
    with lock.path.open("w") as looking:
        fcntl.flock(looking, fcntl.LOCK_SH)
        timer = threading.Timer(0.01, fcntl.flock, [looking, fcntl.LOCK_UN])
        timer.start()
        lock.take()
        timer.join()
    lock.release()


def test_the_lock_of_a_worker_that_was_killed_is_free(path):
    program = (
        "import sys, pathlib\nfrom penstock.broker.embedded.file import WorkerLock\n"
        "lock = WorkerLock(pathlib.Path(sys.argv[1]))\nlock.take()\n"
        "print('held', flush=True)\nsys.stdin.read()\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", program, str(path)],
        cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
    ) as holder:  # fmt: skip
        assert holder.stdout is not None and holder.stdout.readline() == b"held\n"
        lock = WorkerLock(path)
        assert lock.is_held()
        with pytest.raises(WorkerRunning) as caught:
            lock.take()
        assert re.search(rf"\(process {holder.pid}\)", caught.value.message)
        holder.kill()
        holder.wait()
        lock.take()
        lock.release()
