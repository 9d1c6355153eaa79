"""Clients that lie, flood, hang or speak of gigabytes: each harms itself at most."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
import zmq

from durable_shards import peers, wire
from durable_shards.peers import ReplyHub, ZmqPeer
from durable_shards.transport import PeerGone
from durable_shards.wire import SEQ_MAX, Call
from durable_storage.limits import ARGUMENTS_BYTES_MAX, MESSAGE_BYTES_MAX, REQUEST_BYTES_MAX
from tests.support.scripted import until
from tests.support.served import WAIT_SECONDS, Served, calls

GREETING = b"\xff" + bytes(8) + b"\x7f\x03\x00" + b"NULL".ljust(20, b"\0") + bytes(32)
READY = b"\x04\x1c\x05READY\x0bSocket-Type\x00\x00\x00\x06DEALER"
"""How a ZeroMQ connection begins (ZMTP 3.0), for those who want to go on in their own way."""


@asynccontextmanager
async def raw_connection(endpoint: str) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    """A DEALER made of a plain TCP connection, its handshake done."""
    host, _, port = endpoint.removeprefix("tcp://").rpartition(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    try:
        writer.write(GREETING + READY)
        async with asyncio.timeout(WAIT_SECONDS):
            await reader.readexactly(len(GREETING))
            await read_frame(reader)
        yield reader, writer
    finally:
        writer.close()
        with suppress(ConnectionError):
            await writer.wait_closed()


async def read_frame(reader: asyncio.StreamReader) -> bytes:
    """The body of a short frame."""
    _, size = await asyncio.wait_for(reader.readexactly(2), WAIT_SECONDS)
    return await asyncio.wait_for(reader.readexactly(size), WAIT_SECONDS)


async def test_a_handshake_by_hand_is_a_client_like_any_other() -> None:
    """What the next tests do is done to a connection that works."""
    async with (
        Served(Path(), "tcp://127.0.0.1:0") as served,
        raw_connection(served.endpoint) as (reader, writer),
    ):
        message = calls([1, "C", "a", "echo", [5]])
        writer.write(bytes((0, len(message))) + message)
        assert wire.unpack(await read_frame(reader)).replies[0].value == 5


@pytest.mark.parametrize("size", [1 << 30, (1 << 63) - 1], ids=["a gigabyte", "as much as can be said"])
async def test_whoever_announces_a_huge_message_is_cut_off(size: int) -> None:
    """fault E4: before any memory is taken for it; the connections of others live on."""
    async with (
        Served(Path(), "tcp://127.0.0.1:0") as served,
        raw_connection(served.endpoint) as (reader, writer),
    ):
        writer.write(b"\x02" + size.to_bytes(8, "big") + b"x" * 1000)
        with suppress(ConnectionError):
            assert await asyncio.wait_for(reader.read(1), WAIT_SECONDS) == b""
        assert (await served.ask(calls([1, "C", "a", "echo", ["others"]])))[1][2][0][3] == "others"
        assert served.shard.handlers == ["others"]


async def test_messages_of_just_the_size_that_is_allowed_are_taken(tmp_path: Path) -> None:
    """fault E4: to the byte: arguments, a request, a message; one byte more is refused, and the connection lives."""
    async with Served(tmp_path) as served:
        room = ARGUMENTS_BYTES_MAX - len(wire.encode_value(([b"x" * 70_000], None))) + 70_000
        for more, status in ((-1, wire.OK), (0, wire.OK), (1, wire.FAILED)):
            _, (_, _, [reply]) = await served.ask(calls([1, "C", "a", "echo", [b"x" * (room + more)]]))
            assert reply[1] == status
        frame = wire.pack(wire.REQUEST, wire.Request(1, "op", {"text": "x" * 70_000}))
        room = REQUEST_BYTES_MAX - len(frame) + 70_000
        for more, kind in ((-1, wire.RESPONSE), (0, wire.RESPONSE), (1, wire.ERROR)):
            text = "x" * (room + more)
            assert (await served.ask(wire.pack(wire.REQUEST, wire.Request(1, "op", {"text": text}))))[0] == kind
        for more, is_too_large in ((0, False), (1, True)):
            _, problem = await served.ask(b"\x01\x03" + bytes(MESSAGE_BYTES_MAX - 2 + more))
            assert ("over the limit" in problem) is is_too_large


async def test_a_number_of_commits_that_cannot_be_is_no_claim(tmp_path: Path) -> None:
    """fault E13: once accepted as lost it would leave the store nothing to count on with."""
    async with Served(tmp_path) as served:
        for number in (-1, SEQ_MAX + 1, 1 << 63, (1 << 64) - 1):
            for claim in ((number, 1), (1, number)):
                kind, body = await served.ask(wire.pack(wire.HELLO, {"acknowledged": {0: claim}}))
                assert (kind, "acknowledged" in body) == (wire.ERROR, True)
        assert served.server.statistics().malformed_messages == 8


async def test_two_clients_of_one_identity_harm_nobody_else(tmp_path: Path) -> None:
    """fault E13: the first keeps its answers, the second gets none, and those that leave it to us are served."""
    async with Served(tmp_path) as served:
        first, second = (served.context.socket(zmq.DEALER) for _ in range(2))
        for one in (first, second):
            one.setsockopt(zmq.ROUTING_ID, b"same")
        first.connect(served.endpoint)
        await first.send(calls([1, "C", "a", "hold", ["for the first"]]))
        await served.shard.until(1)
        second.connect(served.endpoint)
        await second.send(calls([1, "C", "a", "echo", ["by the second"]]))
        assert (await served.ask(calls([1, "C", "a", "echo", ["ours"]])))[1][2][0][3] == "ours"
        served.shard.release()
        answer = wire.unpack(await asyncio.wait_for(first.recv(), WAIT_SECONDS))
        assert [reply.value for reply in answer.replies] == ["for the first"]
        assert not await second.poll(0)


async def test_whoever_takes_the_identity_of_another_hears_nothing(tmp_path: Path) -> None:
    """fault E13: also one that the server made, if somebody should guess it; its owner goes on."""
    async with Served(tmp_path) as served:
        await served.ask(calls([1, "C", "a", "echo", [1]]))
        (made,) = served.server._hub._peers
        await served.raw.send(calls([2, "C", "a", "hold", ["for its owner"]]))
        await served.shard.until(2)
        liar = served.context.socket(zmq.DEALER)
        liar.setsockopt(zmq.ROUTING_ID, made)
        liar.connect(served.endpoint)
        await liar.send(calls([3, "C", "a", "echo", ["by the liar"]]))
        other = served.client()
        await other.send(calls([4, "C", "a", "echo", ["other"]]))
        assert wire.unpack(await asyncio.wait_for(other.recv(), WAIT_SECONDS)).replies[0].value == "other"
        served.shard.release()
        assert (await served.answer())[1][2][0][3] == "for its owner"
        assert not await liar.poll(0)


async def test_a_flood_of_clients_is_forgotten_as_it_came(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """fault E13: only so many are remembered, and all are answered, those as well that were forgotten meanwhile."""
    monkeypatch.setattr(peers, "PEERS_MAX", 8)
    async with Served(tmp_path) as served:
        crowd = [served.client() for _ in range(60)]
        for number, one in enumerate(crowd):
            await one.send(calls([1, "C", "a", "hold", [number]], [2, "C", "a", "echo", [number]]))
        await served.shard.until(120)
        assert served.server.statistics().clients == 8
        served.shard.release()
        for number, one in enumerate(crowd):
            heard: list[Any] = []
            while len(heard) < 2:
                heard += wire.unpack(await asyncio.wait_for(one.recv(), WAIT_SECONDS)).replies
            assert sorted((reply.id, reply.value) for reply in heard) == [(1, number), (2, number)]


class Deaf:
    """A transport whose peers take nothing until they are to, and nothing once they are gone."""

    def __init__(self) -> None:
        self.hears = self.gone = False
        self.heard: list[bytes] = []

    def send(self, identity: bytes, payload: bytes) -> bool:
        if self.gone:
            raise PeerGone
        if self.hears:
            self.heard.append(payload)
        return self.hears

    @property
    def replies(self) -> list[int]:
        """Ids of the replies that were heard."""
        packed = [wire.unpack(payload) for payload in self.heard if payload[0] == wire.VERSION]
        return [reply.id for message in packed for reply in message.replies]


def put(peer: ZmqPeer, number: int, size: int = 1) -> None:
    """A reply of so many bytes."""
    call = Call(number, "C", "a", "get")
    peer.put(call, peer.encode(call, 1, b"x" * size))


async def test_slow_clients_are_bounded_all_together(monkeypatch: pytest.MonkeyPatch) -> None:
    """fault E7: beyond the bound the largest outboxes are emptied and counted; the small ones stay."""
    monkeypatch.setattr(peers, "OUTBOXES_BYTES_MAX", 1_000_000)
    hub = ReplyHub(Deaf(), asyncio.get_running_loop())  # type: ignore[arg-type]
    crowd = [hub.peer_for(bytes((number,))) for number in range(20)]
    for round_ in range(30):
        for number, peer in enumerate(crowd):
            put(peer, 1, 100 if number < 10 else 50_000)
        hub.flush(1, round_)
        hub._offer_again()
        assert sum(peer.weight for peer in crowd if peer.waiting) <= 1_000_000
        assert len(hub._waiting) == len({id(peer) for peer in hub._waiting})
    assert [len(peer.outbox) for peer in crowd[:10]] == [30] * 10
    assert hub.replies_dropped > 10 * 30 - 20
    hub.close()


async def test_answers_wait_for_a_slow_client_in_their_order_and_before_its_replies() -> None:
    """fault E7: what the transport refuses is offered again by the timer; afterwards all is as before."""
    wire_ = Deaf()
    hub = ReplyHub(wire_, asyncio.get_running_loop())  # type: ignore[arg-type]
    peer = hub.peer_for(b"x")
    put(peer, 1)
    hub.send(b"x", b"first")
    put(peer, 2)
    hub.send(b"x", b"second")
    hub.flush(1, 1)
    hub.send(b"x", b"third")
    put(peer, 3)
    assert wire_.heard == []
    wire_.hears = True
    hub.send(b"x", b"fourth")
    hub.flush(1, 2)
    await until(lambda: not peer.waiting)
    assert wire_.heard[:4] == [b"first", b"second", b"third", b"fourth"]
    assert (wire_.replies, hub.replies_sent) == ([1, 2, 3], 3)
    hub.send(b"x", b"fifth")
    put(peer, 4)
    hub.flush(1, 3)
    assert (wire_.heard[5], wire_.replies) == (b"fifth", [1, 2, 3, 4])
    assert (hub.answers_dropped, hub.replies_dropped) == (0, 0)


async def test_what_waits_for_a_client_that_leaves_is_dropped_and_counted() -> None:
    """fault E6: its answers and its replies; and so is an answer that finds it gone."""
    wire_ = Deaf()
    hub = ReplyHub(wire_, asyncio.get_running_loop())  # type: ignore[arg-type]
    peer = hub.peer_for(b"x")
    put(peer, 1)
    assert all([hub.send(b"x", b"first"), hub.send(b"x", b"second")])
    wire_.gone = True
    await until(lambda: not peer.waiting)
    assert (hub.answers_dropped, hub.replies_dropped, len(hub)) == (2, 1, 0)
    assert not hub.send(b"x", b"third")
    assert (hub.answers_dropped, wire_.heard) == (3, [])


async def test_answers_count_towards_the_bound_of_a_client() -> None:
    """fault E7: together with its replies; what comes after the drop is kept again."""
    wire_ = Deaf()
    hub = ReplyHub(wire_, asyncio.get_running_loop())  # type: ignore[arg-type]
    peer = hub.peer_for(b"x")
    hub.send(b"x", b"a" * (peers.OUTBOX_BYTES_MAX // 2))
    put(peer, 1, peers.OUTBOX_BYTES_MAX // 2 - 1_000)
    hub._offer_again()
    assert hub.answers_dropped == 0
    hub.send(b"x", b"b" * 1_000)  # at once, and not when the timer comes: much may be answered until then
    assert (hub.answers_dropped, hub.replies_dropped) == (2, 1)
    hub._offer_again()
    hub.send(b"x", b"later")
    wire_.hears = True
    await until(lambda: not peer.waiting)
    assert wire_.heard == [b"later"]
