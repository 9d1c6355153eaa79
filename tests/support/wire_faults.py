"""What networks do to connections, on order: the filter of a proxy that cuts, holds, delays, delivers late and twice.

A fault is armed for a place: a byte of a direction, or a commit. A commit is recognised by what PostgreSQL's protocol
says: the store's batch is the one prepared statement that begins with its fence, and a Bind of that statement up to the
next Sync is one commit. Each fault strikes once, and is counted when it does.
"""

from __future__ import annotations

import asyncio
import threading
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Literal

from tests.support.proxy import Connection, Direction

Action = Literal["cut", "answer", "late", "duplicate", "delay", "hold"]
"""cut: what comes from that place on is lost, and the connection with it. answer: all of it arrives, and the
connection breaks before the other side hears what became of it. late: the sender's side breaks, and only `seconds`
later is it delivered. duplicate: it is delivered twice; in the case of a commit the connection breaks before the
answer. delay: it arrives `seconds` later, and what follows behind it. hold: a black hole for `seconds`."""

FENCE = b"WITH fence AS"
"""How the store's batch begins, and no other statement."""
_UNTYPED_CODES = (80877103, 80877104)
"""SSLRequest and GSSENCRequest: messages without a type that are followed by the startup message."""


@dataclass(frozen=True)
class AtByte:
    """The first connection on which so many bytes came in a direction since the fault was armed."""

    direction: Direction
    offset: int


@dataclass(frozen=True)
class AtCommit:
    """The nth commit since the fault was armed; of a cut: so much of it passes before, as a part of 1."""

    nth: int = 1
    part: float = 0.0


@dataclass(eq=False)
class Fault:
    """What is to happen, and where."""

    action: Action
    at: AtByte | AtCommit
    seconds: float = 0.0
    fired: threading.Event = field(default_factory=threading.Event)
    left: int = 0
    seen: dict[int, int] = field(default_factory=dict)
    """Number of a connection: the bytes that had come in when the fault was armed."""


class Messages:
    """A client's stream to PostgreSQL in pieces: single messages, and whole commits."""

    def __init__(self) -> None:
        self._rest = b""
        self._is_started = False
        self._batches: set[bytes] = set()
        self._commit = bytearray()

    def split(self, data: bytes) -> Iterator[tuple[bytes, bool]]:
        """The pieces that are complete by now; whether each is a commit."""
        self._rest += data
        while message := self._next():
            self._note(message)
            if self._commit or self._begins_commit(message):
                self._commit += message
                if message[:1] == b"S":
                    yield bytes(self._commit), True
                    self._commit.clear()
            else:
                yield message, False

    def _next(self) -> bytes:
        head = 1 if self._is_started else 0
        if len(self._rest) < head + 4:
            return b""
        length = head + int.from_bytes(self._rest[head : head + 4], "big")
        if len(self._rest) < length:
            return b""
        message, self._rest = self._rest[:length], self._rest[length:]
        if not self._is_started:
            self._is_started = int.from_bytes(message[4:8], "big") not in _UNTYPED_CODES
        return message

    def _note(self, message: bytes) -> None:
        if message[:1] == b"P":
            name, _, query = message[5:].partition(b"\0")
            if query.startswith(FENCE):
                self._batches.add(name)

    def _begins_commit(self, message: bytes) -> bool:
        return message[:1] == b"B" and message[5:].split(b"\0", 2)[1] in self._batches


class WireFaults:
    """The filter; used from the proxy's loop only, `Fault.fired` from anywhere."""

    def __init__(self, *, postgres: bool = True) -> None:
        self.struck: Counter[str] = Counter()
        """How often each action did harm, and how long-lasting states touched a connection."""
        self.commits = 0
        """That passed by."""
        self.delay_seconds: dict[Direction, float] = {"up": 0.0, "down": 0.0}
        self._postgres = postgres
        self._armed: list[Fault] = []
        self._open: dict[Direction, asyncio.Event] = {"up": asyncio.Event(), "down": asyncio.Event()}
        self._messages: dict[int, Messages] = {}
        self._doomed: set[int] = set()
        """Connections that break at the next byte of an answer."""
        self.release()

    def arm(self, fault: Fault, connections: list[Connection]) -> None:
        """Have it strike; `connections` are those that stand."""
        if isinstance(fault.at, AtCommit):
            fault.left = fault.at.nth
        else:
            fault.seen = {each.number: each.seen[fault.at.direction] for each in connections}
        self._armed.append(fault)

    def disarm(self, fault: Fault) -> bool:
        """Take it back; False: it struck already."""
        if fault not in self._armed:
            return False
        self._armed.remove(fault)
        return True

    def hold(self, *directions: Direction) -> None:
        """A black hole: nothing passes until `release`."""
        for direction in directions:
            self._open[direction].clear()

    def release(self) -> None:
        """Let everything pass, what waited first."""
        for gate in self._open.values():
            gate.set()

    async def __call__(self, connection: Connection, direction: Direction, data: bytes) -> bytes:
        """The proxy's filter."""
        if not self._open[direction].is_set():
            self.struck["held"] += 1
            await self._open[direction].wait()
        if self.delay_seconds[direction]:
            self.struck["slow"] += 1
            await asyncio.sleep(self.delay_seconds[direction])
        if direction == "down" and connection.number in self._doomed:
            self._doomed.discard(connection.number)
            connection.cut()
            return b""
        fault = self._at_byte(connection, direction, data)
        if fault is not None:
            return await self._strike_bytes(fault, connection, direction, data)
        if direction == "up" and self._postgres:
            return await self._pass_messages(connection, data)
        return data

    def _at_byte(self, connection: Connection, direction: Direction, data: bytes) -> Fault | None:
        arrived = connection.seen[direction] + len(data)
        waiting = [each for each in self._armed if isinstance(each.at, AtByte) and each.at.direction == direction]
        return next((each for each in waiting if arrived > self._place(each, connection)), None)

    def _place(self, fault: Fault, connection: Connection) -> int:
        assert isinstance(fault.at, AtByte)
        return fault.seen.get(connection.number, 0) + fault.at.offset

    async def _strike_bytes(self, fault: Fault, connection: Connection, direction: Direction, data: bytes) -> bytes:
        before = max(0, self._place(fault, connection) - connection.seen[direction])
        sink = connection.server if direction == "up" else connection.client
        source = connection.client if direction == "up" else connection.server
        self._fire(fault)
        sink.write(data[:before])
        rest = data[before:]
        match fault.action:
            case "cut":
                await sink.drain()
                connection.cut()
                return b""
            case "answer":
                self._doomed.add(connection.number)
            case "late":
                source.transport.abort()
                await asyncio.sleep(fault.seconds)
            case "duplicate":
                return rest + rest
            case "delay" | "hold":
                await asyncio.sleep(fault.seconds)
        return rest

    async def _pass_messages(self, connection: Connection, data: bytes) -> bytes:
        passing = bytearray()
        for piece, is_commit in self._messages.setdefault(connection.number, Messages()).split(data):
            fault = self._at_commit() if is_commit else None
            if fault is None:
                passing += piece
                continue
            connection.server.write(bytes(passing))
            passing.clear()
            if not await self._strike_commit(fault, connection, piece):
                return b""
        return bytes(passing)

    def _at_commit(self) -> Fault | None:
        self.commits += 1
        for fault in self._armed:
            if isinstance(fault.at, AtCommit):
                fault.left -= 1
                if fault.left <= 0:
                    return fault
        return None

    async def _strike_commit(self, fault: Fault, connection: Connection, commit: bytes) -> bool:
        """Whether the connection goes on."""
        assert isinstance(fault.at, AtCommit)
        self._fire(fault)
        match fault.action:
            case "cut":
                connection.server.write(commit[: int(len(commit) * fault.at.part)])
                await connection.server.drain()
                connection.cut()
                return False
            case "answer":
                self._doomed.add(connection.number)
            case "late":
                connection.client.transport.abort()
                await asyncio.sleep(fault.seconds)
            case "duplicate":
                self._doomed.add(connection.number)
                connection.server.write(commit)
            case "delay" | "hold":
                await asyncio.sleep(fault.seconds)
        connection.server.write(commit)
        return True

    def _fire(self, fault: Fault) -> None:
        self._armed.remove(fault)
        self.struck[f"{fault.action} in commit" if isinstance(fault.at, AtCommit) else fault.action] += 1
        fault.fired.set()
