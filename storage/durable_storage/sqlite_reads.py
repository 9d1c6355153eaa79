"""A shard's files, as its reader thread sees them. Creates nothing: a tenant begins with its first write."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from durable_storage.address import Address
from durable_storage.sqlite_file import ShardFile
from durable_storage.sqlite_layout import Generation, Layout
from durable_storage.store import ListedAlarm, ResultRow, Served, Stored


class SqliteReads:
    """Everything of a store that blocks on reading. Used by one thread; creates nothing."""

    def __init__(self, layout: Layout, generation: Generation, shard: int) -> None:
        self._layout = layout
        self._generation = generation
        self._shard = shard
        self._files: dict[str, ShardFile] = {}

    def _file(self, prefix: str) -> ShardFile | None:
        file = self._files.get(prefix)
        if file is None:
            path = self._layout.file(self._generation, prefix, self._shard)
            if prefix and not path.exists():
                return None
            file = self._files[prefix] = ShardFile(path, readonly=True)
        return file

    def load(self, addresses: Sequence[Address]) -> list[Stored | None]:
        """The stored objects in the order asked."""
        found: list[Stored | None] = [None] * len(addresses)
        for prefix, indices in _by_prefix(address.prefix for address in addresses).items():
            file = self._file(prefix)
            if file is not None:
                loaded = file.load([addresses[index][1:] for index in indices])
                for index, stored in zip(indices, loaded, strict=True):
                    found[index] = stored
        return found

    def load_results(self, keys: Sequence[tuple[Address, str]], now: int) -> list[ResultRow | None]:
        """Unexpired results in the order asked."""
        found: list[ResultRow | None] = [None] * len(keys)
        for prefix, indices in _by_prefix(address.prefix for address, _ in keys).items():
            file = self._file(prefix)
            if file is not None:
                loaded = file.load_results([(*keys[index][0][1:], keys[index][1]) for index in indices], now)
                for index, row in zip(indices, loaded, strict=True):
                    found[index] = row
        return found

    def list_ids(self, prefix: str, object_type: str, after: str, limit: int) -> list[str]:
        """A page of ids in byte order."""
        file = self._file(prefix)
        return file.list_ids(object_type, after, limit) if file else []

    def list_alarms(self, prefix: str, served: Served, after: tuple[str, str, str], limit: int) -> list[ListedAlarm]:
        """A page of the alarms of a tenant that are parked or not served."""
        file = self._file(prefix)
        return file.list_alarms(prefix, served, after, limit) if file else []

    def close(self) -> None:
        """Close all files."""
        for file in self._files.values():
            file.close()
        self._files.clear()


def _by_prefix(prefixes: Iterable[str]) -> dict[str, list[int]]:
    indices: dict[str, list[int]] = {}
    for index, prefix in enumerate(prefixes):
        indices.setdefault(prefix, []).append(index)
    return indices
