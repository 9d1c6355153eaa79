"""What clients saw: one record for each operation, kept in compact files and read back object by object.

Each client process appends to a file of its own, one JSON array a line, in blocks. Reading keeps the lines as they are
and decodes those of one object at a time, so that a history of millions of operations needs little more memory than
its files have bytes.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, Literal, Protocol

import msgspec

Outcome = Literal["ok", "not_applied", "applied", "unknown"]

BLOCK_BYTES = 64 * 1024
SUFFIX = ".ops"


class Op(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """One operation of one client, from its first attempt to its last word."""

    client: int
    object: str
    """The text of its address, such as "Log/a-17"."""
    kind: str
    """"append", "read", "relay", "send", "transfer", "audit", "arm", "cancel", "look", "probe"."""
    token: int
    """What names its effect, if it has one; no two operations share it."""
    keyed: bool
    """Carried a key of the client's own, and was repeated under it until its outcome was known."""
    invoked: float
    """CLOCK_MONOTONIC, of the first attempt."""
    answered: float | None
    """Of the reply that settled it; None: nothing ever did, and its outcome is "unknown"."""
    outcome: Outcome
    value: Any = None
    """[last token, chain] and what the kind adds; after a rejection [its name, last token, chain]."""
    epoch: int = 0
    """Which incarnation of a shard answered: grows with each; 0: none did."""
    version: int = -1
    """Length of the object's journal that the answer shows, its own entry included; an error that shows none: -1."""
    asked: Any = None
    """The arguments that the checker needs."""


class History(Protocol):
    """Operations by object."""

    def __iter__(self) -> Iterator[tuple[str, list[Op]]]:
        """Each object once, with all its operations."""


class InMemory:
    """A short history, for instance one that a test wrote by hand."""

    def __init__(self, ops: Iterable[Op]) -> None:
        self._ops: dict[str, list[Op]] = {}
        for op in ops:
            self._ops.setdefault(op.object, []).append(op)

    def __iter__(self) -> Iterator[tuple[str, list[Op]]]:
        return iter(self._ops.items())


class Recorder:
    """Appends operations to the file of one client process."""

    def __init__(self, folder: Path, client: int) -> None:
        self.path = folder / f"{client}{SUFFIX}"
        self.count = 0
        self._buffer = bytearray()
        self._encode = msgspec.json.Encoder().encode
        self._file = os.open(self.path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)

    def __call__(self, op: Op) -> None:
        """Keep one; it is in the file when its block is full, or after `flush`."""
        self.count += 1
        self._buffer += self._encode(op)
        self._buffer += b"\n"
        if len(self._buffer) >= BLOCK_BYTES:
            self.flush()

    def flush(self) -> None:
        """Write what there is."""
        data = memoryview(bytes(self._buffer))
        self._buffer.clear()
        while data:
            data = data[os.write(self._file, data) :]

    def close(self) -> None:
        """Write the rest."""
        self.flush()
        os.close(self._file)


class Recorded:
    """The history in the files of a folder, as it is when this is made."""

    def __init__(self, folder: Path) -> None:
        self.count = 0
        self._lines: dict[bytes, list[bytes]] = {}
        for path in sorted(folder.glob(f"*{SUFFIX}")):
            self._read(path)
        self._decode = msgspec.json.Decoder(list[Op]).decode

    def _read(self, path: Path) -> None:
        """The lines of each object are kept joined, so that they cost their bytes and no more."""
        lines = self._lines
        with path.open("rb") as file:
            while block := file.readlines(16 * BLOCK_BYTES):
                here: dict[bytes, list[bytes]] = {}
                for line in block:
                    here.setdefault(line.split(b'"', 2)[1], []).append(line[:-1])
                for name, found in here.items():
                    lines.setdefault(name, []).append(b",".join(found))
                self.count += len(block)

    def __iter__(self) -> Iterator[tuple[str, list[Op]]]:
        for name, pieces in self._lines.items():
            yield name.decode(), self._decode(b"[" + b",".join(pieces) + b"]")

    def ops(self) -> Iterator[Op]:
        """All of them, object by object."""
        for _, ops in self:
            yield from ops
