"""The shard's part of a call, taken apart.

The shard is the engine's own, with its server and a store that takes every commit at once; a wire without sockets
hands it messages of calls. One clock, that of the thread's processor time, is read where the call passes from one
part to the next, so that the parts of this module add up to the whole of it by themselves.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from time import thread_time_ns
from typing import Any, Final

from durable_bench.experiments.bench_network import SHARD_URL, Wireless
from durable_bench.objects import Counter
from durable_shards import wire
from durable_shards.activation import Activation
from durable_shards.registry import Registry
from durable_shards.server import ShardServer
from durable_shards.shard import Shard
from durable_shards.shard_settings import ShardSettings
from durable_shards.spec import spec_of
from durable_shards.wire import Call, Peer
from durable_storage.memory import MemoryStore, MemoryWorld
from durable_storage.store import Change, Claim

TIMEOUT_MS: Final = 60_000
_NAME: Final = spec_of(Counter).name


@dataclass(frozen=True, slots=True)
class ShardParts:
    """Nanoseconds of processor time for each call."""

    unpack: float
    """Frames to calls."""
    dispatch: float
    """A call finds its object."""
    turn: float
    """Arguments, handler, comparison with the committed state; without the codec."""
    encode_state: float
    encode_reply: float
    gate: float
    """From the end of the turn until replies are in a message: writer, commit's callbacks, output gate, flush."""


class Instant(MemoryStore):
    """Takes every commit at once and keeps the last one's changes."""

    def __init__(self) -> None:
        super().__init__(MemoryWorld())
        self.changes: Sequence[Change] = ()

    async def commit(self, changes: Sequence[Change]) -> dict[int, Exception]:
        """Nothing is refused."""
        self.seq += 1
        self.changes = changes
        return {}


class Watched(Shard):
    """A shard that notes how long it takes calls in, and can be told to stop where a turn would begin."""

    receiving_ns = 0
    stops = False

    def receive(self, peer: Peer, calls: Iterable[Call]) -> None:
        """The clock runs inside."""
        begun = thread_time_ns()
        super().receive(peer, calls)
        self.receiving_ns += thread_time_ns() - begun

    def run(self, act: Activation, call: Call) -> None:
        """Where dispatch ends."""
        if not self.stops:
            super().run(act, call)


class Rig:
    """The shard and its server, and the other end of the wire."""

    def __init__(self, ids: list[str], per_message: int) -> None:
        self._ids = ids
        self._per_message = per_message
        self._number = 0
        self.network = Wireless(self._on_sent)
        self.shard = Watched(Registry.load([Counter]), Instant(), ShardSettings())
        self.server = ShardServer(self.shard, SHARD_URL, asyncio.get_running_loop(), network=self.network)
        self._unanswered = 0
        self._answered = asyncio.Event()
        self._aside_ns = 0

    async def start(self) -> None:
        """With every object live."""
        await self.shard.start(Claim("shard-0", "bench", os.getpid(), "", 0, 1))
        for _ in range(-(-len(self._ids) // self._per_message)):
            await self.round(self.message())

    async def close(self) -> None:
        self.server.close()
        await self.shard.close()

    def message(self) -> bytes:
        """The next one: calls of the next objects."""
        encoded = []
        for _ in range(self._per_message):
            self._number += 1
            object_id = self._ids[self._number % len(self._ids)]
            encoded.append(wire.encode_value((self._number, _NAME, object_id, "increment", [], TIMEOUT_MS)))
        return wire.pack_calls(encoded)

    async def round(self, message: bytes) -> int:
        """Let the shard answer a message; nanoseconds of processor time of this thread."""
        self._unanswered, self._aside_ns = self._per_message, 0
        self._answered.clear()
        begun = thread_time_ns()
        self.network.deliver(message)
        await self._answered.wait()
        return thread_time_ns() - begun - self._aside_ns

    def _on_sent(self, message: bytes) -> None:
        begun = thread_time_ns()
        self._unanswered -= len(wire.unpack(message).replies)
        if self._unanswered <= 0:
            self._answered.set()
        self._aside_ns += thread_time_ns() - begun


async def shard_parts(ids: list[str], per_message: int, messages: int) -> tuple[ShardParts, Sequence[Change]]:
    """Each part's share of a call, and the changes of one commit, as the store gets them."""
    rig = Rig(ids, per_message)
    await rig.start()
    try:
        shard = rig.shard
        prepared = [rig.message() for _ in range(messages)]
        calls = messages * per_message
        shard.receiving_ns = 0
        whole = 0
        for message in prepared:
            whole += await rig.round(message)
        receiving = shard.receiving_ns / calls
        unpack = _timed(lambda: [wire.unpack_calls(message) for message in prepared]) / calls
        dispatch = _dispatch_ns(shard, prepared) / calls
        state, reply = _codec_ns(shard, calls)
    finally:
        await rig.close()
    parts = ShardParts(
        unpack=unpack,
        dispatch=dispatch,
        turn=receiving - dispatch - state - reply,
        encode_state=state,
        encode_reply=reply,
        gate=whole / calls - receiving - unpack,
    )
    return parts, shard.store.changes  # type: ignore[attr-defined]


def _dispatch_ns(shard: Watched, messages: list[bytes]) -> int:
    taken = [wire.unpack_calls(message)[0] for message in messages]
    peer = _Nobody()
    shard.stops, shard.receiving_ns = True, 0
    for calls in taken:
        shard.receive(peer, calls)
    shard.stops = False
    return shard.receiving_ns


def _codec_ns(shard: Shard, calls: int) -> tuple[float, float]:
    """Of the state and of the reply, for each call."""
    spec = spec_of(Counter)
    live = [act.instance for act in shard.directory.live()]
    rounds = range(max(1, calls // len(live)))
    state = _timed(lambda: [spec.codec.encode(instance) for _ in rounds for instance in live])
    reply = _timed(lambda: [wire.encode_value((number, wire.OK, 7, 7)) for number in range(calls)])
    return state / (len(rounds) * len(live)), reply / calls


def _timed(work: Any) -> int:
    begun = thread_time_ns()
    work()
    return thread_time_ns() - begun


class _Nobody(Peer):
    def encode(self, call: Call, version: int, result: Any) -> Any:
        return result

    def put(self, call: Call, encoded: Any) -> None:
        """Nobody listens."""

    def fail(self, call: Call, error: Exception) -> None:
        raise error
