"""The three stores behind one face, with what a test needs around them."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from typing import Any

from durable_storage.address import Address, partition_of
from durable_storage.lease import Control
from durable_storage.memory import MemoryStore, MemoryWorld
from durable_storage.memory_control import MemoryControl
from durable_storage.migrate import up
from durable_storage.postgres import PostgresStore
from durable_storage.postgres_control import PostgresControl
from durable_storage.sqlite import SqliteStore
from durable_storage.sqlite_control import SqliteControl
from durable_storage.store import AlarmRow, Change, Claim, ResultRow, Store

NOW = datetime(2026, 1, 2, 3, 4, 5, 678901, tzinfo=UTC)
TIMES = [
    datetime(1, 1, 1, tzinfo=UTC),
    datetime(1969, 12, 31, 23, 59, 59, 999999, tzinfo=UTC),
    datetime(2026, 3, 29, 2, 30, tzinfo=timezone(timedelta(hours=2))),
    datetime(9999, 12, 31, 23, 59, 59, 999999, tzinfo=UTC),
]
"""What an alarm may be armed for, and must come back as it was."""


def address(object_id: str = "a", object_type: str = "Counter", prefix: str = "") -> Address:
    """An address, with defaults."""
    return Address(prefix, object_type, object_id)


def change(where: str | Address = "a", state: bytes | None = None, version: int = 1, **more: Any) -> Change:
    """A change, with its partition worked out."""
    at = address(where) if isinstance(where, str) else where
    return Change(at, partition_of(*at), state=state, version=version, **more)


def alarm(name: str, minutes: float = 0, payload: bytes | None = None, attempts: int = 0, **more: Any) -> AlarmRow:
    """An alarm some minutes from NOW."""
    return AlarmRow(name, NOW + timedelta(minutes=minutes), payload, attempts, **more)


def result(key: str, value: bytes = b"\x01", minutes: float = 60, fingerprint: int = 7) -> ResultRow:
    """A result that expires some minutes from NOW."""
    return ResultRow(key, fingerprint, value, NOW + timedelta(minutes=minutes))


class Rig:
    """One place to store in, opened by any number of stores."""

    poison = b'"\xff"'
    """A state that this kind of store refuses."""

    def __init__(self) -> None:
        self.time = NOW
        self.shards = 1
        self._opened: list[Store | Control] = []

    def now(self) -> datetime:
        """The stores' clock, moved by hand."""
        return self.time

    def new_store(self) -> Store:
        """A store that is not opened yet."""
        raise NotImplementedError

    def new_control(self) -> Control:
        """A seat of the ruler; its leases are waited out in no time."""
        raise NotImplementedError

    async def add_tenant(self, prefix: str) -> None:
        """Do what has to be done before a tenant can be used."""

    def claim(self, shard: int = 0, **more: Any) -> Claim:
        """The claim of a shard process."""
        return Claim(f"shard-{shard}", "test", 1, "ipc:///nowhere", shard, self.shards, **more)

    async def open(self, shard: int = 0, **more: Any) -> Any:
        """A new owner of a shard."""
        store = self.new_store()
        self._opened.append(store)
        await store.open(self.claim(shard, **more))
        return store

    async def control(self, shards: int | None = None) -> Control:
        """A seat of the ruler, with the store prepared for `shards`."""
        if shards is not None:
            self.shards = shards
        control = self.new_control()
        self._opened.append(control)
        await control.prepare(shards=self.shards, migrate=None)
        return control

    async def close(self) -> None:
        """Close all that was opened."""
        for thing in reversed(self._opened):
            await thing.close()


class MemoryRig(Rig):
    """A world of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.world = MemoryWorld(now=self.now)
        self.world.refuse(lambda change: change.state == self.poison)

    def new_store(self) -> Store:
        """Of this world."""
        return MemoryStore(self.world)

    def new_control(self) -> Control:
        """Of this world."""
        return MemoryControl(self.world, lease_seconds=0)


class SqliteRig(Rig):
    """A directory of its own."""

    def __init__(self, directory: Path) -> None:
        super().__init__()
        self.directory = directory

    def new_store(self) -> Store:
        """In this directory."""
        return SqliteStore(self.directory, now=self.now)

    def new_control(self) -> Control:
        """Of this directory."""
        return SqliteControl(self.directory, lease_seconds=0)


class PostgresRig(Rig):
    """A database of its own."""

    poison = b'"\x00"'

    def __init__(self, url: str) -> None:
        super().__init__()
        self.url = url

    def new_store(self) -> Store:
        """In this database."""
        return PostgresStore(self.url, now=self.now)

    def new_control(self) -> Control:
        """Of this database."""
        return PostgresControl(self.url, lease_seconds=0)

    async def add_tenant(self, prefix: str) -> None:
        """Tenants are migrated one by one."""
        await up(self.url, prefix=prefix)
