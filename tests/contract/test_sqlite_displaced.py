"""Files of a store that somebody deletes or replaces while their owner has them open."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from durable_storage.errors import DataLossDetected, Fenced
from durable_storage.lease import Holder
from durable_storage.sqlite_control import SqliteControl
from durable_storage.store import Stored
from tests.contract.rigs import SqliteRig, address, change
from tests.contract.test_sqlite_faults import log_of, shard_file


@pytest.mark.parametrize("suffix", ["-wal", "-shm"])
@pytest.mark.parametrize("prefix", ["", "acme"])
async def test_a_log_that_is_deleted_under_its_owner_is_noticed_in_time(
    sqlite_rig: SqliteRig, suffix: str, prefix: str
) -> None:
    """fault B13: the owner stops before it loses more, and writes down what it has on its way out."""
    store = await sqlite_rig.open()
    for version in range(1, 6):
        await store.commit([change("a", b"1", version), change(address("a", prefix="acme"), b"1", version)])
        if not prefix:
            await store.commit([change("a", b"1", version)])
        await store.confirm()
    file = shard_file(sqlite_rig.directory, prefix)
    file.with_name(file.name + suffix).unlink()
    with pytest.raises(Fenced, match="was deleted or replaced while it was in use"):
        await store.confirm()
    await store.close()
    heir = await sqlite_rig.open(acknowledged_seq=store.seq)
    assert await heir.load([address("a", prefix=prefix)]) == [Stored(b"1", 5, ())]
    await heir.confirm()


@pytest.mark.parametrize("how", ["deleted", "replaced"])
async def test_an_old_copy_in_the_place_of_a_store_in_use_is_noticed(
    sqlite_rig: SqliteRig, tmp_path: Path, how: str
) -> None:
    """fault B9, B13: what is written goes nowhere any more, so the owner stops; its heir counts what is missing."""
    store = await sqlite_rig.open()
    for version in range(1, 4):
        await store.commit([change("a", b"%d" % version, version)])
    shutil.copytree(sqlite_rig.directory, tmp_path / "backup")
    for version in range(4, 10):
        await store.commit([change("a", b"%d" % version, version)])
    await store.confirm()
    file = shard_file(sqlite_rig.directory)
    for path in (file, log_of(file)):
        path.unlink()
        if how == "replaced":
            shutil.copy(tmp_path / "backup" / path.relative_to(sqlite_rig.directory), path)
    with pytest.raises(Fenced, match="was deleted or replaced while it was in use"):
        await store.confirm()
    await store.close()
    with pytest.raises(DataLossDetected, match="6 commits are missing" if how == "replaced" else "is gone"):
        await sqlite_rig.open(acknowledged_seq=store.seq)
    if how == "replaced":
        heir = await sqlite_rig.open(acknowledged_seq=store.seq, accept_data_loss=True)
        assert await heir.load([address("a")]) == [Stored(b"3", 3, ())]


async def test_a_ruler_knows_a_directory_that_was_turned_back(sqlite_rig: SqliteRig, tmp_path: Path) -> None:
    """fault B9: an earlier term is not another supervisor's; the next one is later than all that ever were."""
    control = SqliteControl(sqlite_rig.directory, lease_seconds=0)
    me = Holder.of_this_process()
    await control.acquire(me, takeover=True)
    shutil.copytree(sqlite_rig.directory, tmp_path / "backup")
    for _ in range(2):
        term = await control.acquire(me, takeover=True)
    shutil.rmtree(sqlite_rig.directory)
    shutil.copytree(tmp_path / "backup", sqlite_rig.directory)
    with pytest.raises(DataLossDetected, match="shows term 1, and this is term 3"):
        await control.renew(term)
    assert await control.acquire(me, takeover=True, after=term) == 4
    await control.renew(4)
