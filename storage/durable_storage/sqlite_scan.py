"""A tenant of a SQLite directory, for reading all of it. See `durable_storage.scan`.

In WAL mode a reader disturbs no writer, so the files may be those of a running server.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any, TypeVar

from durable_storage import sqlite_schema
from durable_storage.sqlite_errors import explained
from durable_storage.sqlite_file import ShardFile, connect
from durable_storage.sqlite_layout import Layout
from durable_storage.stored_state import PAGE_BYTES_MAX, StoredState
from durable_storage.worker import Worker

T = TypeVar("T")


class SqliteScan:
    """Implements `durable_storage.scan.Scan`."""

    def __init__(self, directory: Path) -> None:
        self.shards = 0
        self._root = directory
        self._files: dict[int, ShardFile] = {}
        self._worker = Worker("scan")

    @classmethod
    async def open(cls, directory: Path, prefix: str) -> SqliteScan:
        """Open the files of a tenant; one that was never written has none."""
        scan = cls(directory)
        try:
            await scan._run(scan._open, prefix)
        except BaseException:
            await scan.close()
            raise
        return scan

    async def _run(self, work: Callable[..., T], *args: Any) -> T:
        return await self._worker.run(explained, self._root, work, *args)

    def _open(self, prefix: str) -> None:
        layout = Layout(self._root)
        generation = layout.existing()
        self.shards = generation.shards
        for shard in range(self.shards):
            path = layout.file(generation, prefix, shard)
            if path.exists():
                with closing(connect(path, readonly=True)) as connection:
                    sqlite_schema.check(connection)
                self._files[shard] = ShardFile(path, readonly=True)

    async def classes(self) -> list[str]:
        """Stored names of the classes that have objects."""
        return await self._run(self._classes)

    def _classes(self) -> list[str]:
        found: set[str] = set()
        for file in self._files.values():
            name = ""
            while (following := file.next_class(name)) is not None:
                found.add(name := following)
        return sorted(found)

    async def count(self, object_type: str) -> int:
        """How many objects of a class are stored."""
        return await self._run(lambda: sum(file.count(object_type) for file in self._files.values()))

    async def page(self, object_type: str, shard: int, after: str, rows_max: int) -> list[StoredState]:
        """The next rows of a class in the file of a shard."""
        file = self._files.get(shard)
        if file is None:
            return []
        rows = await self._run(file.scan, object_type, after, rows_max, PAGE_BYTES_MAX)
        return [StoredState(*row) for row in rows]

    async def close(self) -> None:
        """Close all files."""
        for file in self._files.values():
            await self._worker.run(file.close)
        self._files.clear()
        await self._worker.close()
