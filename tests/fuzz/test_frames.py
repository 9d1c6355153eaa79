"""Whatever frames arrive: nobody crashes, grows or forgets its work; what is wrong is typed, told and counted."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import zmq
import zmq.asyncio
from hypothesis import HealthCheck, given, settings

from durable_engine.reception import Reception
from durable_shards import wire
from durable_shards.server import ShardServer
from durable_shards.wire import RoutingTable
from tests.fuzz import frames
from tests.fuzz.budget import budget, measured, watched
from tests.shards.harness import Harness
from tests.shards.objects import Counter
from tests.support.scripted import Rig

WAIT_SECONDS = 60.0
LOGGERS = ("durable_shards", "durable_engine")
PING = wire.Request(2**62, "ping", {})
GROWTH_BYTES_MAX = 200_000
"""Of a second and third helping of the same frames; the first fills what is bounded."""


class Fuzzed:
    """Somebody to send frames to, in a loop of its own that lives for a whole run of examples."""

    def __init__(self, folder: Path) -> None:
        self.loop = asyncio.new_event_loop()
        self.context: Any = zmq.asyncio.Context()
        self.url = f"ipc://{folder}/fuzzed"
        self.heard_errors = 0

    def __enter__(self) -> Self:
        self.run(self.open())
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.run(self.close())
        self.context.destroy(linger=0)
        self.loop.run_until_complete(asyncio.sleep(0))
        self.loop.close()

    def run(self, work: Coroutine[Any, Any, Any]) -> Any:
        """Up to its end, or to the deadline."""
        return self.loop.run_until_complete(asyncio.wait_for(work, WAIT_SECONDS))

    async def open(self) -> None:
        raise NotImplementedError

    async def close(self) -> None:
        raise NotImplementedError

    def client(self) -> Any:
        """A socket that says what a test likes."""
        socket = self.context.socket(zmq.DEALER)
        socket.connect(self.url)
        return socket

    async def attack(self, messages: list[list[bytes]]) -> None:
        """Send them. They are taken in their order, so the answer to the last one tells that all were."""
        stranger = self.client()
        for parts in messages:
            await stranger.send_multipart(parts)
        await stranger.send(wire.pack(wire.REQUEST, PING))
        while True:
            answer = wire.unpack(await stranger.recv())
            self.heard_errors += type(answer) is str
            if type(answer) is wire.Response and answer.id == PING.id:
                break
        stranger.close(linger=0)


class FuzzedShard(Fuzzed):
    """A whole shard over a store in memory, and an honest client that counts with it."""

    async def open(self) -> None:
        self.harness = Harness([Counter])
        await self.harness.__aenter__()
        self.server = ShardServer(self.harness.shard, self.url, self.loop)
        self.server.set_routes(RoutingTable("s", 1, 1024, []))
        self.honest = self.client()
        self.counted = 0

    async def close(self) -> None:
        self.server.close()
        await self.harness.__aexit__()

    async def count(self) -> None:
        """The honest client's own object has seen exactly what it did."""
        self.counted += 1
        call = wire.encode_value([self.counted, "Counter", "the honest one's", "increment", []])
        await self.honest.send(wire.pack_calls([call]))
        (reply,) = wire.unpack(await self.honest.recv()).replies
        assert (reply.id, reply.status, reply.value) == (self.counted, wire.OK, self.counted)

    @property
    def complaints(self) -> int:
        statistics = self.server.statistics()
        return statistics.malformed_messages + statistics.malformed_calls


def test_a_shard_takes_any_frames(tmp_path: Path) -> None:
    """fault E3: of every kind, damaged in every way; errors are typed and counted, and others are served as ever."""
    with FuzzedShard(tmp_path) as shard, watched(*LOGGERS) as errors:

        @budget(150)
        @given(frames.attacks)
        def fuzz(messages: list[list[bytes]]) -> None:
            shard.run(shard.attack(messages))
            shard.run(shard.count())
            assert (errors, shard.harness.stops) == ([], [])
            assert shard.server.statistics().transport.faults == 0

        fuzz()
        assert 0 < shard.heard_errors <= shard.complaints


class FuzzedDoor(Fuzzed):
    """The door of a supervisor."""

    async def open(self) -> None:
        self.claims = 0
        self.reception = Reception(
            self.loop,
            table=lambda: RoutingTable("s", 1, 1024, []),
            operations={"ping": self._ping},
            on_acknowledged=self._on_acknowledged,
        )
        self.reception.open(self.url)

    async def close(self) -> None:
        self.reception.close()

    async def _ping(self, _: dict[str, Any]) -> str:
        return "pong"

    def _on_acknowledged(self, claims: dict[int, tuple[int, int]]) -> None:
        self.claims += 1
        assert all(0 <= number <= wire.SEQ_MAX for claim in claims.values() for number in claim)


def test_the_door_takes_any_frames(tmp_path: Path) -> None:
    """fault E3: it answers the next question as if nothing had been."""
    with FuzzedDoor(tmp_path) as door, watched(*LOGGERS) as errors:

        @budget(150)
        @given(frames.attacks)
        def fuzz(messages: list[list[bytes]]) -> None:
            door.run(door.attack(messages))
            assert errors == []

        fuzz()
        assert 0 < door.heard_errors <= door.reception.malformed


def test_the_same_frames_again_take_no_more_memory(tmp_path: Path) -> None:
    """fault E3: whatever was kept of the first round, nothing is added by the next ones."""
    corpus: list[list[list[bytes]]] = []

    @settings(max_examples=60, database=None, deadline=None, suppress_health_check=list(HealthCheck))
    @given(frames.attacks)
    def collect(messages: list[list[bytes]]) -> None:
        corpus.append(messages)

    collect()
    with FuzzedShard(tmp_path) as shard, measured() as held:
        sizes = []
        for _ in range(4):
            for messages in corpus:
                shard.run(shard.attack(messages))
            sizes.append(held())
        assert sizes[-1] - sizes[1] < GROWTH_BYTES_MAX, sizes
        assert shard.complaints > len(corpus)


def test_a_client_takes_any_frames(tmp_path: Path) -> None:
    """fault E3: from its server and from a shard; afterwards it follows the next table that makes sense."""
    with watched(*LOGGERS) as errors:
        loop = asyncio.new_event_loop()
        rig = Rig(tmp_path)
        loop.run_until_complete(rig.__aenter__())
        incarnations = iter(range(10**9))

        async def attack(messages: list[list[bytes]]) -> None:
            pending = rig.call("hold", 1)
            for parts in messages:
                for part in parts:
                    rig.frontend._on_control(part)
                    for link in list(rig.frontend._links.values()):
                        link._on_message(part)
            pending.cancel()
            rig.server.name = f"sane {next(incarnations)}"
            rig.frontend._on_control(wire.pack(wire.WELCOME, rig.server.table()))
            rig.server.shards[0].held.clear()
            assert await rig.call("echo", rig.server.name) == rig.server.name

        @budget(80)
        @given(frames.attacks)
        def fuzz(messages: list[list[bytes]]) -> None:
            loop.run_until_complete(asyncio.wait_for(attack(messages), WAIT_SECONDS))
            assert errors == []

        fuzz()
        assert rig.frontend.counts.malformed > 0
        loop.run_until_complete(rig.__aexit__(None, None, None))
        loop.run_until_complete(asyncio.sleep(0))
        loop.close()
