"""The page of memory that a shard shares with its supervisor.

A shard process writes; the supervisor reads, also after the shard has died. That is the point: a process
that was killed, or whose event loop is stuck, can no longer send a message, but what it last wrote in shared
memory stays. Three things stand there: a heartbeat, written *by the event loop* (so a stuck loop is seen);
the `(epoch, seq)` of the last commit that somebody may have been told about (so a store that later shows
less is refused); and the label of the object whose turn is running (so a handler that kills or blocks its
shard is known by name).

Layout, native byte order: heartbeat_ms u64 | epoch u64 | seq u64 | ... | at 64: label length u16, label
text. Each number is aligned and written by one store; nothing is locked. A label caught half-written names
an object that does not exist, which costs nothing.
"""

from __future__ import annotations

import mmap
import os
import struct
import time
from collections.abc import Callable
from typing import Final, NamedTuple, Protocol

from durable_storage.address import Address
from durable_storage.limits import ID_BYTES_MAX, NAME_BYTES_MAX

PAGE_BYTES: Final = 4096
PAGES_PER_SHARD: Final = 2
_HEARTBEAT: Final = struct.Struct("@Q")
_ACKNOWLEDGED: Final = struct.Struct("@QQ")
_ACKNOWLEDGED_AT: Final = 8
_LABEL_AT: Final = 64
_TEXT_AT: Final = _LABEL_AT + 2
_NOBODY: Final = b"\0\0"

assert _TEXT_AT + 2 * NAME_BYTES_MAX + ID_BYTES_MAX + 2 <= PAGE_BYTES


def label_of(address: Address) -> bytes:
    """What `Board.enter` takes for an object; made once per activation."""
    return label(str(address).encode())


def label(text: bytes) -> bytes:
    """The same of an address as text."""
    return len(text).to_bytes(2, "little") + text


def monotonic_ms() -> int:
    """The clock of the heartbeats: one for all processes of a machine, running while one is stopped."""
    return time.monotonic_ns() // 1_000_000


class Board(Protocol):
    """What a shard tells whoever watches over it."""

    enter: Callable[[bytes], None]
    """User code of the object with this label (see `label_of`) begins to run; replaces the label before."""
    leave: Callable[[], None]
    """No user code runs."""

    def beat(self, now_ms: int) -> None:
        """The event loop is alive."""

    def acknowledged(self, epoch: int, seq: int) -> None:
        """Commit `seq` is durable; called before anybody is told."""


class NullBoard:
    """Nobody watches: the embedded engine."""

    def __init__(self) -> None:
        self.enter: Callable[[bytes], None] = _ignore
        self.leave: Callable[[], None] = _ignore

    def beat(self, now_ms: int) -> None:
        """See Board."""

    def acknowledged(self, epoch: int, seq: int) -> None:
        """See Board."""


def _ignore(_: bytes = b"") -> None:
    pass


class ShardBoard:
    """The shard's side of its page. `enter` and `leave` run in every turn: one slice assignment each."""

    __slots__ = ("_page", "enter", "leave")

    def __init__(self, page: memoryview) -> None:
        assert len(page) == PAGE_BYTES
        self._page = page

        def enter(label: bytes) -> None:
            page[_LABEL_AT : _LABEL_AT + len(label)] = label

        def leave() -> None:
            page[_LABEL_AT:_TEXT_AT] = _NOBODY

        self.enter: Callable[[bytes], None] = enter
        self.leave: Callable[[], None] = leave

    def beat(self, now_ms: int) -> None:
        """The event loop is alive."""
        _HEARTBEAT.pack_into(self._page, 0, now_ms)

    def acknowledged(self, epoch: int, seq: int) -> None:
        """Commit `seq` is durable; called before anybody is told."""
        _ACKNOWLEDGED.pack_into(self._page, _ACKNOWLEDGED_AT, epoch, seq)


class Reading(NamedTuple):
    """What a page says at the moment."""

    heartbeat_ms: int
    """On the clock of `monotonic_ms`; 0 before the first."""
    epoch: int
    seq: int
    """Of the last acknowledged commit; 0 when there was none."""
    running: str | None
    """Address of the object whose turn is (or was, when the process died) running."""


class BoardReader:
    """The supervisor's side of a page."""

    def __init__(self, page: memoryview) -> None:
        assert len(page) == PAGE_BYTES
        self._page = page

    def read(self) -> Reading:
        """What the page says at the moment."""
        (heartbeat_ms,) = _HEARTBEAT.unpack_from(self._page, 0)
        epoch, seq = _ACKNOWLEDGED.unpack_from(self._page, _ACKNOWLEDGED_AT)
        return Reading(heartbeat_ms, epoch, seq, self._running())

    def heartbeat_ms(self) -> int:
        """Only the heartbeat: what the watchdog looks at ten times a second."""
        heartbeat_ms: int = _HEARTBEAT.unpack_from(self._page, 0)[0]
        return heartbeat_ms

    def renew(self, now_ms: int) -> None:
        """Prepare the page for another process: a fresh heartbeat, no commit and no running turn.

        Whoever reads the page has to remember what the process before had acknowledged.
        """
        _HEARTBEAT.pack_into(self._page, 0, now_ms)
        _ACKNOWLEDGED.pack_into(self._page, _ACKNOWLEDGED_AT, 0, 0)
        self._page[_LABEL_AT:_TEXT_AT] = _NOBODY

    def _running(self) -> str | None:
        length = int.from_bytes(self._page[_LABEL_AT:_TEXT_AT], "little")
        if not 0 < length <= PAGE_BYTES - _TEXT_AT:
            return None
        return bytes(self._page[_TEXT_AT : _TEXT_AT + length]).decode(errors="replace")


class Boards:
    """The pages of all shards in one anonymous file, which children inherit by descriptor.

    Each shard has `PAGES_PER_SHARD` of them: while one process hands over to another, both write.
    """

    def __init__(self, count: int, descriptor: int | None = None) -> None:
        if descriptor is None:
            descriptor = os.memfd_create("durable-boards")
            os.ftruncate(descriptor, count * PAGE_BYTES)
        self.count: int = count
        self.descriptor: int = descriptor
        self._memory = memoryview(mmap.mmap(descriptor, count * PAGE_BYTES))

    @classmethod
    def of_shards(cls, shards: int) -> Boards:
        """Pages for so many shards."""
        return cls(shards * PAGES_PER_SHARD)

    def numbers(self, shard: int) -> range:
        """The numbers of a shard's pages."""
        return range(shard * PAGES_PER_SHARD, (shard + 1) * PAGES_PER_SHARD)

    def page(self, number: int) -> memoryview:
        """One page."""
        return self._memory[number * PAGE_BYTES : (number + 1) * PAGE_BYTES]
