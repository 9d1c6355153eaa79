"""What a directory must survive: notes and files that are gone, files that are not ours, two who take it at once."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import apsw
import pytest

from durable_storage.errors import DataLossDetected, Fenced
from durable_storage.lease import Holder
from durable_storage.migrate import up
from durable_storage.sqlite_file import ShardFile
from durable_storage.sqlite_layout import Layout
from durable_storage.sqlite_shard import SqliteShard
from durable_storage.store import Claim, Stored
from tests.contract.rigs import NOW, SqliteRig, address, alarm, change, result

CLAIM = Claim("shard-0", "test", 1, "ipc:///nowhere", 0, 1)


@pytest.fixture
async def filled(sqlite_rig: SqliteRig) -> SqliteRig:
    """A store with an object, and one of a tenant; nobody has it open."""
    store = await sqlite_rig.open()
    await store.commit([change("a", b"1")])
    await store.commit([change(address("a", prefix="acme"), b"2")])
    await store.commit([change("b", b"3")])
    await store.close()
    return sqlite_rig


async def test_a_lost_note_of_the_layout_does_not_bury_the_store(filled: SqliteRig) -> None:
    """An empty store must not take the place of a full one; with the note back all is there."""
    note = filled.directory / "CURRENT"
    content = note.read_text()
    note.unlink()
    with pytest.raises(DataLossDetected, match="CURRENT is gone") as raised:
        await filled.control()
    with pytest.raises(DataLossDetected, match="CURRENT is gone"):
        await up(f"sqlite:///{filled.directory}")
    assert content.strip() in str(raised.value)
    note.write_text(content)
    assert await (await filled.open(acknowledged_seq=3)).load([address("a")]) == [Stored(b"1", 1, ())]


async def test_an_interrupted_creation_is_no_lost_store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Files without a note, but nobody ever owned them."""
    rig = SqliteRig(tmp_path / "store")

    def crash(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Layout, "_switch", crash)
        with pytest.raises(KeyboardInterrupt):
            Layout(rig.directory).create(2)
    await rig.control()
    await (await rig.open()).close()


@pytest.mark.parametrize("gone", ["shard-000.sqlite3", "tenants/acme/shard-000.sqlite3"])
async def test_a_store_that_lacks_a_file_is_not_split_anew(filled: SqliteRig, gone: str) -> None:
    """The new files would look complete, and the loss would never be noticed."""
    file = filled.directory / "g000001" / gone
    kept = file.read_bytes()
    file.unlink()
    with pytest.raises(DataLossDetected, match="is gone or old"):
        await filled.control(shards=2)
    file.write_bytes(kept)
    await filled.control(shards=2)


async def test_foreign_files_are_left_alone(filled: SqliteRig) -> None:
    """A copy that somebody made, and what a file manager leaves, are neither shards nor tenants."""
    directory = filled.directory / "g000001"
    shutil.copy(directory / "shard-000.sqlite3", directory / "shard-000.backup.sqlite3")
    (directory / "tenants" / ".DS_Store").write_text("x")
    (directory / "tenants" / "New folder").mkdir()
    (filled.directory / "notes.txt").write_text("mine")
    await filled.control(shards=2)
    assert [path.name for path in (filled.directory / "g000002" / "tenants").iterdir()] == ["acme"]
    assert (filled.directory / "notes.txt").read_text() == "mine"


async def test_all_rows_follow_a_store_that_grows_and_shrinks(sqlite_rig: SqliteRig) -> None:
    """Objects, alarms and results, of tenants too."""
    places = [address(str(number), prefix=prefix) for prefix in ("", "acme", "a.b/c") for number in range(20)]
    store = await sqlite_rig.open()
    armed = alarm("x", recurrence="{}", tick=NOW, problem="no", is_parked=True)
    await store.commit([change(at, b"1", alarms_set=[armed], results=[result("key")]) for at in places])
    await store.close()
    for shards in (3, 1, 5, 2):
        await sqlite_rig.control(shards=shards)
        found = 0
        for shard in range(shards):
            store = await sqlite_rig.open(shard)
            found += sum(each == Stored(b"1", 1, (armed,)) for each in await store.load(places))
            found += sum(each is not None for each in await store.load_results([(at, "key") for at in places]))
            await store.close()
        assert found == 2 * len(places)


def overtaken(filled: SqliteRig, monkeypatch: pytest.MonkeyPatch, method: str, overtake: Callable[[], None]) -> None:
    """Before a shard's first call of its `method`, `overtake` happens."""
    original = getattr(SqliteShard, method)

    def paused(shard: SqliteShard) -> None:
        monkeypatch.setattr(SqliteShard, method, original)
        overtake()
        original(shard)

    monkeypatch.setattr(SqliteShard, method, paused)


async def test_an_owner_replaced_while_it_opens_takes_no_tenant(
    filled: SqliteRig, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It was stopped between two files; the heir confirms by the first, so the second must not go."""
    layout = Layout(filled.directory)
    heir = SqliteShard(layout, CLAIM, filled.now)
    overtaken(filled, monkeypatch, "_take_tenants", lambda: heir.open() and None)
    with pytest.raises(Fenced):
        SqliteShard(layout, CLAIM, filled.now).open()
    heir.confirm()
    heir.apply([change(address("a", prefix="acme"), b"4", 2)])
    heir.close()


async def test_no_term_ends_while_a_shard_becomes_owner_in_it(
    filled: SqliteRig, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else a shard of the old term would take the files from one of the new."""
    term = await (await filled.control()).acquire(Holder.of_this_process(), takeover=True)
    shard = SqliteShard(Layout(filled.directory), CLAIM, filled.now)
    original = shard._open_files
    seen = []

    def tried() -> object:
        connection = apsw.Connection(str(filled.directory / "control.sqlite3"))
        try:
            connection.execute("BEGIN IMMEDIATE")
        except apsw.BusyError:
            seen.append("locked")
        connection.close()
        shard._open_files = original
        return original()

    monkeypatch.setattr(shard, "_open_files", tried)
    monkeypatch.setattr(shard, "_claim", filled.claim(term=term))
    shard.open()
    shard.close()
    assert seen == ["locked"]


async def test_an_outcome_is_found_again_when_resolving_it_fails(
    filled: SqliteRig, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The commit took place; an error in the middle of finding out must not turn that into a second commit."""
    shard = SqliteShard(Layout(filled.directory), CLAIM, filled.now)
    shard.open()
    before = shard.owned
    shard.apply([change("a", b"9", 2)])
    shard.owned = before  # The error that came instead of an answer.

    def failing(*_: object, **__: object) -> None:
        raise apsw.IOError("no")

    with monkeypatch.context() as patch:
        patch.setattr(ShardFile, "claim", failing)
        with pytest.raises(Exception, match="cannot be used"):
            shard.resolve("")
    assert shard.resolve("")
    assert shard.owned.seq == before.seq + 1
    shard.close()


async def test_resolving_never_takes_a_file_back(filled: SqliteRig, monkeypatch: pytest.MonkeyPatch) -> None:
    """Replaced between two steps of finding out."""
    layout = Layout(filled.directory)
    zombie, heir = (SqliteShard(layout, CLAIM, filled.now) for _ in range(2))
    zombie.open()

    def checkpoint(_: ShardFile) -> None:
        heir.open()

    monkeypatch.setattr(ShardFile, "checkpoint", checkpoint)
    with pytest.raises(Fenced):
        zombie.resolve("")
    heir.confirm()
    heir.close()
    zombie.close()
