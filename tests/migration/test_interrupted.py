"""Migrations that something ends half way: nothing is half done, and running them again completes them."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import closing
from pathlib import Path

import apsw
import pytest

from durable_storage import sqlite_schema
from durable_storage.errors import SchemaMismatch, StoreUnavailable
from durable_storage.migrate import down, status, up
from durable_storage.migrations import latest_version
from durable_storage.sqlite_layout import Layout
from durable_storage.store import Claim
from durable_storage.urls import directory_of, open_control, open_store
from tests.support.proxy import Connection, Direction, Proxy
from tests.support.server import ROOT
from tests.support.states import SHARDS, fill, rows

KILLED_AFTER_A_FILE = """
import asyncio, os, signal, sys
from durable_storage import migrate, sqlite_schema

work, done = sqlite_schema.migrate, 0

def migrated(*args, **options):
    global done
    steps = work(*args, **options)
    done += 1
    if done == 2:
        os.kill(os.getpid(), signal.SIGKILL)
    return steps

sqlite_schema.migrate = migrated
asyncio.run(getattr(migrate, sys.argv[2])(sys.argv[1], to=int(sys.argv[3])))
"""
KILLED_WITHIN_A_FILE = """
import asyncio, os, signal, sys
from durable_storage import migrate, sqlite_schema

work, files = sqlite_schema.step_script, 0

def script(step):
    global files
    if step.migration.version == int(sys.argv[4]):
        files += 1
        if files == 2:
            os.kill(os.getpid(), signal.SIGKILL)
    return work(step)

sqlite_schema.step_script = script
asyncio.run(getattr(migrate, sys.argv[2])(sys.argv[1], to=int(sys.argv[3])))
"""
LATEST = latest_version("sqlite")
STATES = {f"Counter/{n}": b'{"count":1}' for n in range(20)}


@pytest.fixture
def url(tmp_path: Path) -> str:
    """A SQLite store of three shards and two tenants: six files."""
    url = f"sqlite:///{tmp_path}/store"
    fill(url, STATES)
    fill(url, STATES, prefix="acme")
    assert len(versions(url)) == 2 * SHARDS
    return url


def files(url: str) -> list[Path]:
    """All files of the store in which objects rest."""
    layout = Layout(directory_of(url))
    return [path for _, path in layout.files(layout.existing())]


def versions(url: str) -> list[int]:
    """The schema version of each file."""
    found = []
    for path in files(url):
        with closing(apsw.Connection(str(path))) as connection:
            found.append(len(sqlite_schema.applied(connection)))
    return found


def killed(script: str, url: str, *arguments: str) -> None:
    """Run a migration in a process that ends by SIGKILL in its middle."""
    paths = os.pathsep.join(str(ROOT / part) for part in ("shards", "storage"))
    words = [sys.executable, "-c", script, url, *arguments]
    ended = subprocess.run(words, env={**os.environ, "PYTHONPATH": paths}, check=False)
    assert ended.returncode == -signal.SIGKILL


@pytest.mark.parametrize("script", [KILLED_AFTER_A_FILE, KILLED_WITHIN_A_FILE], ids=["between", "within"])
def test_files_that_an_upgrade_did_not_reach_are_upgraded_by_the_next(url: str, script: str) -> None:
    """kill -9 among several files: the status tells of the last, no shard starts on a mixture, `up` completes it."""
    asyncio.run(down(url, to=0))
    killed(script, url, "up", str(LATEST), str(LATEST))
    reached = versions(url)
    assert 0 < reached.count(LATEST) < len(reached)
    assert set(reached) == {0, LATEST}
    assert asyncio.run(status(url)).current == 0
    with pytest.raises(SchemaMismatch, match="is at schema version 0"):
        asyncio.run(open_store(url).open(Claim(f"shard-{SHARDS - 1}", "test", 1, "", SHARDS - 1, SHARDS)))
    assert {step.migration.version for step in asyncio.run(up(url))} == set(range(1, LATEST + 1))
    assert versions(url) == [LATEST] * 2 * SHARDS
    assert asyncio.run(up(url)) == []
    fill(url, STATES)
    assert set(rows(url)) == set(STATES)


@pytest.mark.parametrize("script", [KILLED_AFTER_A_FILE, KILLED_WITHIN_A_FILE], ids=["between", "within"])
@pytest.mark.parametrize("direction", ["down", "up"])
def test_a_downgrade_that_was_killed_is_completed_either_way(url: str, script: str, direction: str) -> None:
    """Down once more, or up again: files that kept their tables kept their rows."""
    killed(script, url, "down", "0", "1")
    reached = versions(url)
    assert 0 < reached.count(0) < len(reached)
    if direction == "down":
        asyncio.run(down(url, to=0))
        assert versions(url) == [0] * 2 * SHARDS
    else:
        asyncio.run(up(url))
        assert versions(url) == [LATEST] * 2 * SHARDS
        assert set(rows(url, "acme")) == set(STATES)


def test_a_supervisor_completes_what_was_killed(url: str) -> None:
    """SQLite stores are upgraded by whoever starts them, also the rest of one."""
    asyncio.run(down(url, to=0))
    killed(KILLED_AFTER_A_FILE, url, "up", str(LATEST))
    fill(url, STATES)
    assert versions(url) == [LATEST] * 2 * SHARDS


@pytest.mark.parametrize(
    ("statement", "message"),
    [
        (
            "INSERT INTO durable_migrations VALUES (99, 'later', 'x', 0)",
            "99, which a newer release of durable-engine made",
        ),
        (f"INSERT INTO durable_migrations VALUES ({LATEST + 1}, 'later', 'x', 0)", "install the release that migrated"),
        ("UPDATE durable_migrations SET version = 50 WHERE version = 1", "changed by hand"),
    ],
)
def test_an_odd_history_in_any_file_is_told_with_its_name(url: str, statement: str, message: str) -> None:
    """Also in the last file of a tenant; its rows are left alone."""
    last = files(url)[-1]
    with closing(apsw.Connection(str(last))) as connection:
        connection.execute(statement)

    async def prepare() -> None:
        await open_control(url).prepare(shards=SHARDS, migrate=None)

    for attempt in (lambda: up(url), lambda: status(url), prepare):
        with pytest.raises(SchemaMismatch, match=message) as caught:
            asyncio.run(attempt())
        assert str(last) in caught.value.message
    with closing(apsw.Connection(str(last))) as connection:
        assert connection.execute("SELECT count(*) > 0 FROM durable_objects").fetchall() == [(1,)]


# PostgreSQL: all steps are one transaction.


@pytest.fixture
async def proxy(postgres_empty_dsn: str) -> AsyncIterator[Proxy]:
    """A network before an empty database."""
    async with Proxy(postgres_empty_dsn) as proxy:
        yield proxy


def cut_at(proxy: Proxy, word: bytes, direction: Direction = "up") -> None:
    """Cut the connection once: when `word` passes to the server, or at the server's answer to it."""
    armed = False

    async def cut(connection: Connection, way: Direction, data: bytes) -> bytes:
        nonlocal armed
        armed = armed or (way == "up" and word in data)
        if armed and way == direction and not proxy.faults:
            proxy.faults += 1
            connection.cut()
            return b""
        return data

    proxy.filter = cut


@pytest.mark.parametrize(
    ("word", "direction"),
    [
        (b"pg_advisory_xact_lock", "up"),
        (b"CREATE TABLE durable_objects", "up"),
        (b"CREATE TABLE durable_objects", "down"),
        (b"COMMIT", "up"),
        (b"COMMIT", "down"),
    ],
)
@pytest.mark.parametrize("prefix", ["", "acme"])
async def test_a_connection_cut_in_a_migration_leaves_all_of_it_or_nothing(
    proxy: Proxy, postgres_empty_dsn: str, word: bytes, direction: Direction, prefix: str
) -> None:
    """Before the first step, in one, at its answer, in the commit: a second run completes it."""
    if prefix:
        await up(postgres_empty_dsn)
    cut_at(proxy, word, direction)
    with pytest.raises(StoreUnavailable):
        await up(proxy.url, prefix=prefix)
    assert proxy.faults == 1
    latest = latest_version("postgres")
    assert (await status(postgres_empty_dsn, prefix=prefix)).current in ({0, latest} if word == b"COMMIT" else {0})
    await up(proxy.url, prefix=prefix)
    assert (await status(postgres_empty_dsn, prefix=prefix)).pending == ()
    assert await up(postgres_empty_dsn, prefix=prefix) == []


async def test_a_server_that_is_killed_in_a_downgrade_keeps_the_tables(proxy: Proxy, postgres_empty_dsn: str) -> None:
    """Nothing is removed unless all of it is."""
    await up(postgres_empty_dsn)
    cut_at(proxy, b"DROP TABLE", "up")
    with pytest.raises(StoreUnavailable):
        await down(proxy.url, to=0)
    assert proxy.faults == 1
    assert (await status(postgres_empty_dsn)).pending == ()
    assert await down(proxy.url, to=0)
    assert (await status(postgres_empty_dsn)).current == 0
