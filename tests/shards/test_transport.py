"""Plain sockets on an event loop: nothing is lost at the edges, nobody can fill or break them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import pytest
import uvloop
import zmq

from durable_shards.transport import DealerTransport, PeerGone, RouterTransport
from durable_shards.watched_socket import TRANSPORT_BYTES_MAX

WAIT_SECONDS = 20.0

LOOPS: dict[str, Callable[[], asyncio.AbstractEventLoop]] = {
    "uvloop": uvloop.new_event_loop,
    "asyncio": asyncio.new_event_loop,
}


def on_loop(name: str, work: Coroutine[Any, Any, None]) -> None:
    """Run a test on a loop of this kind."""
    with asyncio.Runner(loop_factory=LOOPS[name]) as runner:
        runner.run(asyncio.wait_for(work, WAIT_SECONDS))


class Pair:
    """A router and a dealer that keep what they receive."""

    def __init__(self, endpoint: str) -> None:
        loop = asyncio.get_running_loop()
        self.context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        self.at_router: list[tuple[bytes, bytes]] = []
        self.at_dealer: list[bytes] = []
        self.events: list[str] = []
        self.stirred = asyncio.Event()
        self.router = RouterTransport(endpoint, self._at_router, loop, context=self.context)
        self.dealer = DealerTransport(
            self.router.endpoint,
            self._at_dealer,
            loop,
            context=self.context,
            on_connected=lambda: self._event("connected"),
            on_disconnected=lambda: self._event("disconnected"),
            on_writable=lambda: self._event("writable"),
        )

    def _at_router(self, identity: bytes, payload: bytes) -> None:
        self.at_router.append((identity, payload))
        self.stirred.set()

    def _at_dealer(self, payload: bytes) -> None:
        self.at_dealer.append(payload)
        self.stirred.set()

    def _event(self, name: str) -> None:
        self.events.append(name)
        self.stirred.set()

    async def until(self, predicate: Callable[[], bool]) -> None:
        while not predicate():
            self.stirred.clear()
            await self.stirred.wait()

    async def connected(self) -> bytes:
        """The dealer's identity at the router."""
        await self.until(lambda: "connected" in self.events)
        assert self.dealer.send(b"hello")
        await self.until(lambda: bool(self.at_router))
        return self.at_router.pop()[0]

    def close(self) -> None:
        self.dealer.close()
        self.router.close()
        self.context.term()


@pytest.mark.parametrize("loop", LOOPS)
@pytest.mark.parametrize("endpoint", ["ipc", "tcp"])
def test_messages_arrive_whole_and_in_order_both_ways(tmp_path: Path, loop: str, endpoint: str) -> None:
    """However they are sent: in bursts, from callbacks, from a task."""

    async def work() -> None:
        pair = Pair(f"ipc://{tmp_path}/s" if endpoint == "ipc" else "tcp://127.0.0.1:*")
        identity = await pair.connected()
        for burst in (1, 2, 50, 1, 30):
            sent = [f"{burst}-{n}".encode() for n in range(burst)]
            assert all(pair.dealer.send(message) for message in sent)
            await pair.until(lambda burst=burst: len(pair.at_router) == burst)
            assert sent == [payload for _, payload in pair.at_router]
            assert all(pair.router.send(identity, message) for message in sent)
            await pair.until(lambda burst=burst: len(pair.at_dealer) == burst)
            assert sent == pair.at_dealer
            pair.at_router.clear()
            pair.at_dealer.clear()
        pair.close()

    on_loop(loop, work())


@pytest.mark.parametrize("loop", LOOPS)
def test_no_message_is_left_lying_when_both_sides_talk_at_once(tmp_path: Path, loop: str) -> None:
    """The edge-triggered descriptor: sending swallows the signal of what arrives meanwhile."""

    async def work() -> None:
        pair = Pair(f"ipc://{tmp_path}/s")
        identity = await pair.connected()
        for n in range(2000):
            assert pair.dealer.send(b"ping %d" % n)
            assert pair.router.send(identity, b"pong %d" % n)
            await pair.until(lambda n=n: len(pair.at_router) == len(pair.at_dealer) == n + 1)
        pair.close()

    on_loop(loop, work())


@pytest.mark.parametrize("loop", LOOPS)
def test_a_flood_does_not_starve_timers(tmp_path: Path, loop: str) -> None:
    """Reading is cut into slices, between which timers run."""

    async def work() -> None:
        pair = Pair(f"ipc://{tmp_path}/s")
        await pair.connected()
        running = asyncio.get_running_loop()
        ticks_between: list[int] = []
        waiting = [b"x"] * 20_000

        def tick() -> None:
            ticks_between.append(len(pair.at_router))
            running.call_later(0.001, tick)

        def feed() -> None:
            while waiting and pair.dealer.send(waiting[-1]):
                waiting.pop()
            if waiting:
                running.call_soon(feed)

        tick()
        feed()
        await pair.until(lambda: len(pair.at_router) == 20_000)
        assert len(ticks_between) > 2
        pair.close()

    on_loop(loop, work())


async def test_a_dealer_sends_only_over_a_connection(tmp_path: Path) -> None:
    """What it refused was not handed over, and it says when it is worth trying again."""
    context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
    loop = asyncio.get_running_loop()
    writable, received = asyncio.Event(), asyncio.Event()
    dealer = DealerTransport(
        f"ipc://{tmp_path}/late",
        lambda _: None,
        loop,
        context=context,
        on_connected=writable.set,
        on_disconnected=lambda: None,
        on_writable=lambda: None,
    )
    assert not dealer.send(b"too early")
    router = RouterTransport(f"ipc://{tmp_path}/late", lambda *_: received.set(), loop, context=context)
    await asyncio.wait_for(writable.wait(), WAIT_SECONDS)
    assert dealer.send(b"now")
    await asyncio.wait_for(received.wait(), WAIT_SECONDS)
    assert router.statistics().messages_received == 1
    assert dealer.statistics().refused_unconnected == 1
    dealer.close()
    router.close()
    context.term()


async def test_what_was_answered_before_a_disconnect_is_heard_before_it(tmp_path: Path) -> None:
    """A server's last words arrive before the news of its end."""
    pair = Pair(f"ipc://{tmp_path}/s")
    identity = await pair.connected()
    for n in range(50):
        assert pair.router.send(identity, b"%d" % n)
    pair.router.close(linger_seconds=5)
    await pair.until(lambda: "disconnected" in pair.events)
    assert len(pair.at_dealer) == 50
    pair.close()


async def test_a_peer_that_is_gone_is_told_apart_from_a_slow_one(tmp_path: Path) -> None:
    """PeerGone for the one, False for the other; nothing is dropped in silence."""
    pair = Pair(f"ipc://{tmp_path}/s")
    identity = await pair.connected()
    loop = asyncio.get_running_loop()
    loop.remove_reader(pair.dealer._descriptor)  # it reads no more
    sent = 0
    while pair.router.send(identity, b"x" * 100_000):
        sent += 1
        assert sent < 10_000, "the queue towards a slow reader must be bounded"
    assert pair.router.statistics().refused_full == 1
    with pytest.raises(PeerGone):
        pair.router.send(b"nobody", b"x")
    assert pair.router.statistics().refused_unreachable == 1
    pair.close()


async def test_a_dealer_hears_when_a_slow_server_reads_again(tmp_path: Path) -> None:
    """Refused while the queue is full, called back when there is room, and nothing is lost or disordered."""
    pair = Pair(f"ipc://{tmp_path}/s")
    await pair.connected()
    loop = asyncio.get_running_loop()
    loop.remove_reader(pair.router._descriptor)
    sent = 0
    while pair.dealer.send(b"%d " % sent + b"x" * 100_000):
        sent += 1
        assert sent < 10_000, "the queue towards a slow server must be bounded"
    pair.router._watch()
    await pair.until(lambda: "writable" in pair.events)
    assert pair.dealer.send(b"%d " % sent)
    await pair.until(lambda: len(pair.at_router) == sent + 1)
    assert list(range(sent + 1)) == [int(payload.split()[0]) for _, payload in pair.at_router]
    pair.close()


async def test_a_message_of_many_parts_is_counted_and_handed_over_as_empty(tmp_path: Path) -> None:
    """The receiver tells its sender; the socket goes on."""
    pair = Pair(f"ipc://{tmp_path}/s")
    await pair.connected()
    pair.dealer._socket.send_multipart([b"a", b"b", b"c"])
    pair.dealer.send(b"good")
    await pair.until(lambda: len(pair.at_router) == 2)
    assert [payload for _, payload in pair.at_router] == [b"", b"good"]
    assert pair.router.statistics().malformed == 1
    pair.close()


async def test_a_message_over_the_transport_limit_costs_its_sender_the_connection(tmp_path: Path) -> None:
    """ZeroMQ cuts it; the dealer hears of it and connects again."""
    pair = Pair(f"ipc://{tmp_path}/s")
    await pair.connected()
    pair.dealer.send(b"x" * (TRANSPORT_BYTES_MAX + 1))
    await pair.until(lambda: "disconnected" in pair.events)
    pair.events.clear()
    await pair.connected()
    pair.close()


async def test_a_failing_callback_does_not_stop_the_socket(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """It is logged and counted, and the next message is read."""
    pair = Pair(f"ipc://{tmp_path}/s")
    await pair.connected()
    good = pair._at_router

    def picky(identity: bytes, payload: bytes) -> None:
        if payload == b"bad":
            raise RuntimeError("a bug")
        good(identity, payload)

    monkeypatch.setattr(pair.router, "_on_message", picky)
    pair.dealer.send(b"bad")
    pair.dealer.send(b"good")
    await pair.until(lambda: bool(pair.at_router))
    assert pair.router.statistics().faults == 1
    assert "a bug" in caplog.text
    pair.close()


async def test_silent_peers_are_the_kernel_s_business(tmp_path: Path) -> None:
    """ZeroMQ's own heartbeats abort the process on a broken connection with unread input (libzmq 4.3.5, #4841)."""
    pair = Pair(f"ipc://{tmp_path}/socket")
    for end in (pair.router, pair.dealer):
        options = [end._socket.get(option) for option in (zmq.HEARTBEAT_IVL, zmq.TCP_KEEPALIVE, zmq.TCP_MAXRT)]
        assert options == [0, 1, 10_000]
    pair.close()


async def test_an_address_in_use_says_what_to_do(tmp_path: Path) -> None:
    """OSError with the address and the way out."""
    loop = asyncio.get_running_loop()
    first = RouterTransport("tcp://127.0.0.1:*", lambda *_: None, loop)
    with pytest.raises(OSError, match="another process listens there"):
        RouterTransport(first.endpoint, lambda *_: None, loop)
    with pytest.raises(OSError, match="tcp://HOST:PORT"):
        RouterTransport("nonsense", lambda *_: None, loop)
    with pytest.raises(OSError, match="cannot listen"):
        RouterTransport(f"ipc://{tmp_path}/no/such/folder/s", lambda *_: None, loop)
    first.close()
