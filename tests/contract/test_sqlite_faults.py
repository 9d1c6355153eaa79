"""What happens to files: torn, flipped, deleted, locked, full, read-only, half re-split."""

from __future__ import annotations

import asyncio
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import apsw
import pytest

from durable_storage import sqlite_file
from durable_storage.errors import DataLossDetected, PersistenceFailed, SchemaMismatch, StoreUnavailable
from durable_storage.lease import Holder
from durable_storage.sqlite import SqliteStore
from durable_storage.sqlite_control import SqliteControl
from durable_storage.sqlite_layout import Layout
from durable_storage.store import Claim, Stored
from tests.contract.rigs import SqliteRig, address, alarm, change, result
from tests.support.watching import watch_for

COMMITS = 50


def shard_file(directory: Path, prefix: str = "") -> Path:
    """The file of the only shard."""
    layout = Layout(directory)
    generation = layout.current()
    assert generation is not None
    return layout.file(generation, prefix, 0)


def log_of(file: Path) -> Path:
    """Its write-ahead log."""
    return file.with_name(file.name + "-wal")


@pytest.fixture
async def crashed(sqlite_rig: SqliteRig, tmp_path: Path) -> SqliteRig:
    """A store as the crash of its machine leaves it: copied while its owner lives, log and all."""
    store = await sqlite_rig.open()
    for number in range(1, COMMITS + 1):
        await store.commit([change("a", b"%d" % number, number)])
    shutil.copytree(sqlite_rig.directory, tmp_path / "crashed")
    assert log_of(shard_file(tmp_path / "crashed")).stat().st_size > 0
    return SqliteRig(tmp_path / "crashed")


async def version_of(rig: SqliteRig, **more: object) -> int:
    """The version of object "a", as a new owner finds it."""
    store = await rig.open(**more)
    (stored,) = await store.load([address("a")])
    await rig.close()
    return stored.version if stored else 0


async def test_a_crash_loses_nothing(crashed: SqliteRig) -> None:
    """fault B13: with the log, and without the index of it."""
    shm = shard_file(crashed.directory).with_name("shard-000.sqlite3-shm")
    shm.unlink(missing_ok=True)
    assert await version_of(crashed, acknowledged_seq=COMMITS) == COMMITS


async def test_a_torn_end_of_the_log_is_an_unfinished_commit(crashed: SqliteRig) -> None:
    """fault B13: nobody heard of it; if somebody did, the disk lied, and that is told."""
    log = log_of(shard_file(crashed.directory))
    os.truncate(log, log.stat().st_size - 100)
    with pytest.raises(DataLossDetected):
        await crashed.open(acknowledged_seq=COMMITS)
    assert await version_of(crashed, acknowledged_seq=COMMITS - 1) == COMMITS - 1


async def test_a_flipped_bit_in_the_log_is_noticed(crashed: SqliteRig) -> None:
    """fault B13: SQLite drops everything behind it in silence, and finds the file in order."""
    log = log_of(shard_file(crashed.directory))
    content = bytearray(log.read_bytes())
    content[len(content) // 2] ^= 1
    log.write_bytes(content)
    with pytest.raises(DataLossDetected, match=f"but commit {COMMITS} was acknowledged"):
        await crashed.open(acknowledged_seq=COMMITS)
    left = await version_of(crashed, acknowledged_seq=COMMITS, accept_data_loss=True)
    assert 0 < left < COMMITS


async def test_a_deleted_log_is_noticed(crashed: SqliteRig) -> None:
    """fault B13: somebody tidied up."""
    log_of(shard_file(crashed.directory)).unlink()
    with pytest.raises(DataLossDetected):
        await crashed.open(acknowledged_seq=COMMITS)


async def test_a_loss_in_a_tenants_file_shows_in_another_file(sqlite_rig: SqliteRig, tmp_path: Path) -> None:
    """fault B13: the last commit of all was to another file, so that its number alone would tell nothing."""
    store = await sqlite_rig.open()
    await store.commit([change(address("a", prefix="acme"), b"1")])
    await store.commit([change(address("a", prefix="acme"), b"2", 2)])
    await store.commit([change("a", b"3")])
    whole, damaged = SqliteRig(tmp_path / "whole"), SqliteRig(tmp_path / "damaged")
    for copy in (whole, damaged):
        shutil.copytree(sqlite_rig.directory, copy.directory)
    assert await version_of(whole, acknowledged_seq=3) == 1
    log_of(shard_file(damaged.directory, "acme")).unlink()
    with pytest.raises(DataLossDetected, match="but commit 2 was acknowledged"):
        await damaged.open(acknowledged_seq=3)
    shutil.rmtree(shard_file(damaged.directory, "acme").parent)
    with pytest.raises(DataLossDetected, match="tenant 'acme' of shard-0 is gone"):
        await damaged.open()
    assert await version_of(damaged, accept_data_loss=True) == 1
    assert await version_of(damaged) == 1


WRITER = """
import asyncio, sys
from pathlib import Path
from durable_storage.sqlite import SqliteStore
from durable_storage.store import Claim
from tests.contract.rigs import change

async def main():
    store = SqliteStore(Path(sys.argv[1]))
    await store.open(Claim("shard-0", "test", 1, "", 0, 1))
    version = 0
    while True:
        version += 1
        await store.commit([change(each, b"%d" % version, version) for each in "abc"])
        print(store.seq, flush=True)

asyncio.run(main())
"""


async def test_a_killed_writer_loses_nothing_that_it_told(sqlite_rig: SqliteRig) -> None:
    """fault B13: kill -9 in the middle of writing, three times over."""
    root = Path(__file__).parents[2]
    environment = {**os.environ, "PYTHONPATH": f"{root}/storage:{root}"}
    for _ in range(3):
        writer = subprocess.Popen(  # noqa: ASYNC220 - it writes while we read
            [sys.executable, "-c", WRITER, sqlite_rig.directory], stdout=subprocess.PIPE, text=True, env=environment
        )
        with writer:
            assert writer.stdout is not None
            for _ in range(30):
                told = int(writer.stdout.readline())
            writer.kill()
        store = await sqlite_rig.open(acknowledged_seq=told)
        loaded = await store.load([address(each) for each in "abc"])
        assert len(set(loaded)) == 1
        assert loaded[0].version >= 30
        await sqlite_rig.close()


async def test_a_locked_file_is_a_clear_refusal(sqlite_rig: SqliteRig, monkeypatch: pytest.MonkeyPatch) -> None:
    """fault B13: at the start; a commit waits for the lock instead."""
    monkeypatch.setattr(sqlite_file, "BUSY_SECONDS", 0.01)
    with closing(apsw.Connection(str(shard_file(sqlite_rig.directory)))) as other:
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(StoreUnavailable, match="locked by another process") as caught:
            await sqlite_rig.open()
        assert caught.value.retryable
        other.execute("COMMIT")
        store = await sqlite_rig.open()
        other.execute("BEGIN IMMEDIATE")
        commit = asyncio.create_task(store.commit([change("a", b"1")]))
        await watch_for(lambda: store.unavailable_since is not None)
        assert await store.load([address("a")]) == [None]
        other.execute("COMMIT")
        assert await commit == {}
        assert store.unavailable_since is None


async def test_a_full_disk_is_a_clean_error(sqlite_rig: SqliteRig) -> None:
    """fault B13: nothing of the batch is stored, and everything works again with space."""
    store = await sqlite_rig.open()
    await store.commit([change("a", b"1")])
    connection = store._shard._files[""]._connection
    pages = connection.pragma("page_count")
    connection.pragma("max_page_count", pages + 2)
    batch = [change(str(i), b"1" * 3000, alarms_set=[alarm("x")]) for i in range(100)]
    refused = await store.commit(batch)
    assert set(refused) == set(range(100))
    for error in refused.values():
        assert isinstance(error, PersistenceFailed)
        assert (error.retryable, error.outcome) == (True, "not_applied")
        assert "no space is left" in error.message
    assert await store.list_ids("", "Counter", None, 200) == ["a"]
    connection.pragma("max_page_count", 1_000_000)
    assert await store.commit(batch) == {}
    assert store.seq == 2


class FailingVfs(apsw.VFS):
    """The file system, but that fsync of a log fails when told to."""

    def __init__(self) -> None:
        self.failures = 0
        self.failed = 0
        super().__init__("failing", "unix", makedefault=True)

    def xOpen(self, name: str | apsw.URIFilename | None, flags: list[int]) -> apsw.VFSFile:
        return FailingFile(self, name, flags)


class FailingFile(apsw.VFSFile):
    """One of its files."""

    def __init__(self, vfs: FailingVfs, name: str | apsw.URIFilename | None, flags: list[int]) -> None:
        self._vfs = vfs
        self._is_log = bool(flags[0] & apsw.SQLITE_OPEN_WAL)
        super().__init__("unix", name, flags)

    def xSync(self, flags: int) -> None:
        if self._is_log and self._vfs.failures:
            self._vfs.failures -= 1
            self._vfs.failed += 1
            raise apsw.IOError("fsync failed on order")
        super().xSync(flags)


@pytest.fixture
def failing_vfs() -> Iterator[FailingVfs]:
    """Installed as the default."""
    vfs = FailingVfs()
    yield vfs
    vfs.unregister()
    apsw.set_default_vfs("unix")


async def test_a_failed_fsync_is_resolved(failing_vfs: FailingVfs, sqlite_rig: SqliteRig) -> None:
    """fault B13: whether the commit took place is looked up; what is told is on the disk."""
    store = await sqlite_rig.open()
    await store.commit([change("a", b"0", 1)])
    for version in range(2, 6):
        failing_vfs.failures = version % 2 + 1
        batch = [change("a", b"1", version), change(address("a", prefix="acme"), b"1", version)]
        assert await store.commit(batch) == {}
        assert await store.load([address("a")]) == [Stored(b"1", version, ())]
    assert failing_vfs.failed == 6
    assert store.epoch > 1
    heir = await sqlite_rig.open(acknowledged_seq=store.seq)
    assert (heir.seq, heir.epoch > store.epoch) == (9, True)


@pytest.mark.parametrize("is_executed", [True, False])
@pytest.mark.parametrize("way", ["apply", "apply_packed"])
async def test_a_commit_with_an_unknown_outcome_is_applied_once(
    sqlite_rig: SqliteRig, monkeypatch: pytest.MonkeyPatch, way: str, is_executed: bool
) -> None:
    """Whether the error came before or after it took place, and whichever way the rows went."""
    more: dict[str, Any] = {"alarms_set": [alarm("ring")]} if way == "apply" else {}
    store = await sqlite_rig.open()
    await store.commit([change("a", b"0", 1, results=[result("one")], **more)])
    genuine, faults = getattr(sqlite_file.ShardFile, way), []

    def failing(self: sqlite_file.ShardFile, *arguments: Any) -> None:
        if is_executed or faults:
            genuine(self, *arguments)
        if not faults:
            faults.append(self)
            raise apsw.IOError("on order")

    monkeypatch.setattr(sqlite_file.ShardFile, way, failing)
    assert await store.commit([change("a", b"1", 2, results=[result("two")], **more)]) == {}
    assert await store.commit([change("a", b"2", 3, results=[result("three")], **more)]) == {}
    assert len(faults) == 1
    assert (store.epoch, store.seq) == (2, 3)
    (stored,) = await store.load([address("a")])
    assert stored is not None
    assert (stored.state, stored.version) == (b"2", 3)


async def test_a_directory_without_rights_is_a_clear_refusal(sqlite_rig: SqliteRig, tmp_path: Path) -> None:
    """fault B13: read-only, or not readable at all."""
    for path in (sqlite_rig.directory, *sqlite_rig.directory.rglob("*")):
        path.chmod(0o555 if path.is_dir() else 0o444)
    is_root = os.geteuid() == 0
    for path in (tmp_path, *tmp_path.parents[:2]):
        path.chmod(0o755)
    if is_root:
        os.seteuid(65534)
    try:
        store = SqliteStore(sqlite_rig.directory)
        with pytest.raises(StoreUnavailable, match="cannot be opened for writing by this user") as caught:
            await store.open(Claim("shard-0", "test", 1, "", 0, 1))
        assert not caught.value.retryable
        with pytest.raises(StoreUnavailable):
            await SqliteControl(sqlite_rig.directory).prepare(shards=1, migrate=None)
        with pytest.raises(StoreUnavailable):
            await SqliteControl(sqlite_rig.directory / "new").prepare(shards=1, migrate=None)
    finally:
        if is_root:
            os.seteuid(0)


async def test_what_is_no_store_is_told(tmp_path: Path) -> None:
    """Nothing there, no database, a damaged note."""
    rig = SqliteRig(tmp_path / "store")
    with pytest.raises(SchemaMismatch, match="there is no store in"):
        await rig.open()
    assert not rig.directory.exists()
    await rig.control()
    file = shard_file(rig.directory)
    file.write_bytes(b"This is a letter to my grandmother, not a database. " * 100)
    with pytest.raises(SchemaMismatch, match="no SQLite database"):
        await rig.open()
    file.unlink()
    with pytest.raises(DataLossDetected, match="is gone"):
        await rig.open()
    (rig.directory / "CURRENT").write_text("g00")
    with pytest.raises(SchemaMismatch, match="damaged"):
        await rig.open()


@pytest.mark.parametrize("when", ["before the switch", "after the switch"])
async def test_an_interrupted_resplit_is_completed_by_the_next(
    sqlite_rig: SqliteRig, monkeypatch: pytest.MonkeyPatch, when: str
) -> None:
    """Whatever it left."""
    ids = [str(i) for i in range(30)]
    store = await sqlite_rig.open()
    await store.commit([change(each, each.encode()) for each in ids])
    await store.close()

    def crash(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Layout, "_switch" if when == "before the switch" else "sweep", crash)
        with pytest.raises(KeyboardInterrupt):
            SqliteControl(sqlite_rig.directory)._layout.resplit(Layout(sqlite_rig.directory).current(), 3)
    assert len(list(sqlite_rig.directory.glob("g*"))) == 2
    await sqlite_rig.control(shards=3)
    assert len(list(sqlite_rig.directory.glob("g*"))) == 1
    lists = [await (await sqlite_rig.open(shard)).list_ids("", "Counter", None, 100) for shard in range(3)]
    assert sorted(each for page in lists for each in page) == sorted(ids)


async def test_a_replaced_owner_cannot_write_to_the_files_from_before_a_resplit(sqlite_rig: SqliteRig) -> None:
    """It has them open, though they are gone."""
    zombie = await sqlite_rig.open()
    await zombie.commit([change("a", b"1")])
    control = await sqlite_rig.control(shards=2)
    await control.acquire(Holder.of_this_process(), takeover=True)
    for batch in ([change("a", b"2", 2)], [change(address("a", prefix="new"), b"2")]):
        with pytest.raises(Exception, match="taken over"):
            await zombie.commit(batch)


@pytest.mark.parametrize("prefix", ["..", ".", "a/../../b", "%2e%2e", "-", "ünï", " "])
async def test_a_tenants_folder_stays_in_the_store(sqlite_rig: SqliteRig, prefix: str) -> None:
    """Whatever the tenant is called."""
    store = await sqlite_rig.open()
    before = set(sqlite_rig.directory.parent.iterdir())
    await store.commit([change(address("a", prefix=prefix), b"1")])
    assert set(sqlite_rig.directory.parent.iterdir()) == before
    heir = await sqlite_rig.open()
    assert await heir.load([address("a", prefix=prefix), address("a")]) == [Stored(b"1", 1, ()), None]


async def test_a_tenants_name_that_no_folder_can_have_is_refused(sqlite_rig: SqliteRig) -> None:
    """Alone; the rest of the batch commits."""
    store = await sqlite_rig.open()
    refused = await store.commit([change(address("a", prefix="é" * 100), b"1"), change("b", b"1")])
    assert set(refused) == {0}
    assert await store.list_ids("", "Counter", None, 10) == ["b"]
