"""Looking through everything that is stored of a class, page by page, without owning any of it.

    scan = await open_scan("sqlite:///data")
    async for rows in pages(scan, "Cart", shard=0, rows_max=1000):
        ...

It only reads, so it works beside a server. A page is of one moment; from page to page a server may change what
was not read yet, and what was. In memory there is one page at a time, of `PAGE_BYTES_MAX` and one state at most.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Protocol

from durable_storage.stored_state import StoredState
from durable_storage.urls import StoreUrlError, directory_of, kind_of


class Scan(Protocol):
    """One tenant of a store, for reading. Methods raise SchemaMismatch and StoreUnavailable."""

    shards: int
    """Parts that the rows are in, each owned by one shard; where shards share the rows, one."""

    async def classes(self) -> list[str]:
        """Stored names of the classes that have objects, sorted."""

    async def count(self, object_type: str) -> int:
        """How many objects of a class are stored."""

    async def page(self, object_type: str, shard: int, after: str, rows_max: int) -> list[StoredState]:
        """The next rows of a part, by id, greater than `after`; none at the end."""

    async def close(self) -> None:
        """Release connections and files."""


async def open_scan(url: str, prefix: str = "") -> Scan:
    """A scan of a tenant. Creates and changes nothing.

    Raises SchemaMismatch for a store of another version, or none at all, StoreUnavailable, StoreUrlError.
    """
    if kind_of(url) == "sqlite":
        from durable_storage.sqlite_scan import SqliteScan  # noqa: PLC0415

        return await SqliteScan.open(directory_of(url), prefix)
    _check_stored(url)
    from durable_storage.postgres_scan import PostgresScan  # noqa: PLC0415

    return await PostgresScan.open(url, prefix)


def shards_of(url: str) -> int:
    """How many shards the store has to be opened for, so that it stays laid out as it is. Raises as `open_scan`."""
    if kind_of(url) == "sqlite":
        from durable_storage.sqlite_layout import Layout  # noqa: PLC0415

        return Layout(directory_of(url)).existing().shards
    _check_stored(url)
    return 1


def _check_stored(url: str) -> None:
    if kind_of(url) == "memory":
        raise StoreUrlError("memory:// keeps nothing that could be looked at: name a sqlite:/// or postgresql:// store")


async def pages(scan: Scan, object_type: str, *, shard: int, rows_max: int) -> AsyncIterator[list[StoredState]]:
    """All rows of a class in one part of the store."""
    after = ""
    while rows := await scan.page(object_type, shard, after, rows_max):
        yield rows
        after = rows[-1].object_id
