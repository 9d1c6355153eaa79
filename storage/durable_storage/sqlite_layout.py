"""Where the files of a SQLite store lie, and how their number changes.

    CURRENT                                     names the generation in force and its number of shards
    control.sqlite3                             who rules the store
    g000001/shard-000.sqlite3                   one file per shard, for objects without a prefix
    g000001/tenants/<prefix>/shard-000.sqlite3  and one per tenant, made by its first write

Another number of shards is another generation: its files are built beside the old ones, then CURRENT is replaced by an
atomic rename, the way LevelDB switches manifests. A crash before the rename leaves the old generation in force and a
half-built directory, which the next `prepare` removes; a crash after it leaves the old directory to be removed.
"""

from __future__ import annotations

import json
import os
import re
import shutil
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any, Final, NamedTuple
from urllib.parse import unquote
from uuid import uuid4

import apsw

from durable_storage import sqlite_schema
from durable_storage.address import partition_of, partitions_of_shard
from durable_storage.errors import DataLossDetected, SchemaMismatch
from durable_storage.migrations import Applied, Step, current_version
from durable_storage.sqlite_file import SQL, HostRow, ShardFile, connect

_NAME_BYTES_MAX: Final = 255
_PLAIN: Final = frozenset(b"abcdefghijklmnopqrstuvwxyz0123456789-_~")
"""What stands for itself in the name of a tenant's folder; all else is percent-encoded."""
_GENERATION: Final = re.compile(r"g(\d{6})")
_SHARD: Final = re.compile(r"shard-\d{3,}\.sqlite3")


class Generation(NamedTuple):
    """What CURRENT says."""

    number: int
    shards: int

    @property
    def name(self) -> str:
        """Of its directory."""
        return f"g{self.number:06}"


class Layout:
    """The directory of a store."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.control = root / "control.sqlite3"
        self._current = root / "CURRENT"

    def current(self) -> Generation | None:
        """The generation in force, None where no store was prepared yet."""
        try:
            text = self._current.read_text(errors="replace")
        except FileNotFoundError:
            return None
        try:
            content = json.loads(text)
            return Generation(int(content["generation"]), int(content["shards"]))
        except (ValueError, KeyError, TypeError):
            raise SchemaMismatch(f"{self._current} is damaged: it reads {text[:80]!r}") from None

    def existing(self) -> Generation:
        """The generation in force. Raises SchemaMismatch where there is none."""
        generation = self.current()
        if generation is None:
            raise SchemaMismatch(
                f"there is no store in {self.root}: say where it is (--store sqlite:///DIRECTORY), or make one there: "
                f"`durable-engine migrate up --store sqlite:///{self.root}`"
            )
        return generation

    def file(self, generation: Generation, prefix: str, shard: int) -> Path:
        """A shard's file for a tenant."""
        return self._tenant_directory(generation, prefix) / f"shard-{shard:03}.sqlite3"

    def _tenant_directory(self, generation: Generation, prefix: str) -> Path:
        directory = self.root / generation.name
        return directory / "tenants" / _directory_name(prefix) if prefix else directory

    def tenants(self, generation: Generation) -> list[str]:
        """Prefixes that have files, the empty one first."""
        directory = self.root / generation.name / "tenants"
        if not directory.is_dir():
            return [""]
        # What a file manager or a backup put there is no tenant.
        names = (path.name for path in directory.iterdir() if path.is_dir())
        return ["", *sorted(unquote(name) for name in names if name == _encoded(unquote(name)))]

    def files(self, generation: Generation) -> Iterator[tuple[str, Path]]:
        """(prefix, file) of all that exist.

        Tenants are looked for when all files without a prefix were worked on: whoever fenced those off meets every
        tenant there is, because an owner begins one only while it owns the file without a prefix.
        """
        for path in self._files_of(generation, ""):
            yield "", path
        for prefix in self.tenants(generation)[1:]:
            for path in self._files_of(generation, prefix):
                yield prefix, path

    def _files_of(self, generation: Generation, prefix: str) -> list[Path]:
        directory = self._tenant_directory(generation, prefix)
        return sorted(path for path in directory.glob("shard-*.sqlite3") if _SHARD.fullmatch(path.name))

    def create_file(self, generation: Generation, prefix: str, shard: int) -> Path:
        """Make an empty file with the current schema, complete when it appears under its name."""
        path = self.file(generation, prefix, shard)
        path.parent.mkdir(parents=True, exist_ok=True)
        building = path.with_suffix(".building")
        building.unlink(missing_ok=True)
        with closing(apsw.Connection(str(building))) as connection:
            sqlite_schema.migrate(connection)
        _sync(building)
        building.rename(path)
        for directory in (path.parent, path.parent.parent, path.parent.parent.parent):
            _sync(directory)
        return path

    def migrate(self, generation: Generation, to: int | None = None, direction: str | None = None) -> list[Step]:
        """Migrate every file; the steps that any of them took."""
        taken: list[Step] = []
        for _, path in self.files(generation):
            with closing(connect(path)) as connection:
                steps = sqlite_schema.migrate(connection, to=to, direction=direction)
            taken += [step for step in steps if step not in taken]
        return taken

    def applied(self, generation: Generation) -> list[Applied]:
        """The history of the file that is furthest behind. Raises SchemaMismatch for a file with an odd one."""
        histories = []
        for _, path in self.files(generation):
            with closing(connect(path, readonly=True)) as connection:
                history = sqlite_schema.applied(connection)
            current_version("sqlite", history, str(path))
            histories.append(history)
        return min(histories, key=len, default=[])

    def create(self, shards: int) -> Generation:
        """A new store."""
        self.root.mkdir(parents=True, exist_ok=True)
        self._refuse_to_bury()
        return self._build(Generation(1, shards), None)

    def _refuse_to_bury(self) -> None:
        # Without CURRENT only what an interrupted `create` left may be removed, and that never had an owner.
        for directory in sorted(path for path in self.root.iterdir() if _GENERATION.fullmatch(path.name)):
            found = Generation(int(directory.name[1:]), len(self._files_of(Generation(int(directory.name[1:]), 0), "")))
            if any(_host(path) for _, path in self.files(found)):
                raise DataLossDetected(
                    f"{self._current} is gone, but {directory} holds a store: nothing is created in its place. "
                    f"Restore the file from a backup; for that directory it reads {_content(found)}"
                )

    def resplit(self, old: Generation, shards: int) -> Generation:
        """The same rows in another number of files. The owners of the old files are fenced first."""
        self.migrate(old)
        for _, path in self.files(old):
            with closing(ShardFile(path)) as file:
                file.fence_off()
        for shard in range(old.shards):
            self._check_whole(old, shard)
        return self._build(Generation(old.number + 1, shards), old)

    def _check_whole(self, generation: Generation, shard: int) -> None:
        # The new files begin with no knowledge of each other: what is missing now would never be noticed again.
        reached: dict[str, int] = {}
        known = {"": 0}
        for prefix in self.tenants(generation):
            path = self.file(generation, prefix, shard)
            if path.exists():
                with closing(ShardFile(path)) as file:
                    host = file.host()
                    reached[prefix] = host.seq if host else 0
                    for sibling, seq in file.siblings().items():
                        known[sibling] = max(seq, known.get(sibling, 0))
        for prefix, seq in known.items():
            if reached.get(prefix, -1) < seq:
                raise DataLossDetected(
                    f"{self.file(generation, prefix, shard)} is gone or old (another file knows of commit {seq}): the "
                    f"store stays as it is. Restore the file from a backup, or start with {generation.shards} shards "
                    "and --accept-data-loss"
                )

    def _build(self, new: Generation, old: Generation | None) -> Generation:
        directory = self.root / new.name
        shutil.rmtree(directory, ignore_errors=True)
        host = self._furthest_host(old) if old else None
        for prefix in self.tenants(old) if old else [""]:
            for shard in range(new.shards):
                path = self.create_file(new, prefix, shard)
                if old and host:
                    self._fill(path, old, prefix, shard, new.shards, host)
        self._switch(new)
        self.sweep(new)
        return new

    def _furthest_host(self, generation: Generation) -> HostRow:
        # Clients remember (epoch, seq) by shard number, so both may only grow, whoever inherits the number.
        epoch = seq = 0
        for _, path in self.files(generation):
            row = _host(path)
            if row is not None:
                epoch, seq = max(epoch, row.epoch), max(seq, row.seq)
        return HostRow("", "", 0, uuid4().bytes, epoch, seq)

    def _fill(self, path: Path, old: Generation, prefix: str, shard: int, shards: int, host: HostRow) -> None:
        ours = partitions_of_shard(shard, shards)

        def partition(*key: Any) -> int:
            return partition_of(prefix, *key)

        with closing(apsw.Connection(str(path))) as connection:
            connection.create_scalar_function("durable_partition", partition, 2, deterministic=True)
            for source in self._files_of(old, prefix):
                connection.execute("ATTACH ? AS source", (str(source),))
                with connection:
                    for statement in ("copy_objects", "copy_alarms", "copy_results"):
                        connection.execute(SQL[statement], (ours.start, ours.stop))
                connection.execute("DETACH source")
            row = (f"shard-{shard}", host.node, host.pid, "", host.incarnation, host.epoch, host.seq, 0)
            connection.execute(SQL["claim_host"], row)
        _sync(path)

    def _switch(self, generation: Generation) -> None:
        replacement = self._current.with_suffix(".new")
        replacement.write_text(_content(generation) + "\n")
        _sync(replacement)
        replacement.replace(self._current)
        _sync(self.root)

    def sweep(self, current: Generation) -> None:
        """Remove what an earlier or interrupted generation left."""
        for path in self.root.iterdir():
            if _GENERATION.fullmatch(path.name) and path.name != current.name:
                shutil.rmtree(path)


def _content(generation: Generation) -> str:
    return json.dumps({"generation": generation.number, "shards": generation.shards})


def _host(path: Path) -> HostRow | None:
    with closing(ShardFile(path)) as file:
        return file.host()


def _encoded(prefix: str) -> str:
    # Neither dots, since a tenant called ".." must not leave the store, nor capitals: where a file system does not tell
    # "Red" from "red", two tenants would share a folder.
    return "".join(chr(byte) if byte in _PLAIN else f"%{byte:02X}" for byte in prefix.encode())


def _directory_name(prefix: str) -> str:
    name = _encoded(prefix)
    if len(name) > _NAME_BYTES_MAX:
        raise SchemaMismatch(
            f"prefix {prefix!r} makes a directory name of {len(name)} bytes, percent-encoded: "
            f"a file system allows {_NAME_BYTES_MAX}"
        )
    return name


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
