"""The socket of a shard: frames come in, turns run, replies leave packed.

A message that is not one of this protocol is counted and answered where the sender can be told; it never
reaches the shard and never ends the process.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final, Protocol

from durable_shards import wire
from durable_shards.backlog import PORTION, Backlog
from durable_shards.errors import Overloaded, ProtocolProblem, error_to_wire
from durable_shards.network import Network, ZmqNetwork
from durable_shards.peers import ReplyHub, ZmqPeer
from durable_shards.watched_socket import TransportStatistics
from durable_shards.wire import BrokenCall, Call, Peer, Request, RoutingTable
from durable_storage.errors import DurableError, TooLarge
from durable_storage.limits import ARGUMENTS_BYTES_MAX

REQUESTS_MAX: Final = 1_000
"""Requests under way in one process; beyond it they are refused."""

_logger = logging.getLogger(__name__)


class ServedShard(Protocol):
    """What the socket asks of a shard."""

    on_release: Callable[[], None] | None
    """Called after replies were put into their peers' outboxes outside of `receive`."""
    on_portion: Callable[[], None] | None
    """Called while many of them are put there, to send those that are."""

    @property
    def epoch(self) -> int: ...

    @property
    def seq(self) -> int: ...

    def receive(self, peer: Peer, calls: list[Call]) -> None:
        """Take calls in; may run turns and release replies at once."""

    async def request(self, op: str, arguments: dict[str, Any]) -> Any:
        """Answer a question asked of the process. Raises DurableError."""


@dataclass(frozen=True, slots=True)
class ServerStatistics:
    """What a serving socket has seen since it was opened."""

    transport: TransportStatistics
    clients: int
    replies_sent: int
    replies_dropped: int
    answers_dropped: int
    malformed_messages: int
    malformed_calls: int
    requests: int


class ShardServer:
    """Binds a ROUTER socket to a shard. Raises OSError when the endpoint cannot be bound."""

    def __init__(
        self,
        shard: ServedShard,
        endpoint: str,
        loop: asyncio.AbstractEventLoop,
        *,
        network: Network | None = None,
    ) -> None:
        self._shard = shard
        self._loop = loop
        network = network or ZmqNetwork()
        self._transport = network.listen(endpoint, self._on_message, loop, on_drained=self.flush)
        self._hub = ReplyHub(self._transport, loop)
        self._backlog = Backlog(loop, self._work_on_portion, hold=self._transport.hold, go_on=self._transport.go_on)
        self._routes: RoutingTable | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._flush_scheduled = False
        self._unflushed = 0
        """Calls taken in since the last flush."""
        self._malformed_messages = 0
        self._malformed_calls = 0
        self._requests = 0
        shard.on_release = self.flush_soon
        shard.on_portion = self.flush

    @property
    def endpoint(self) -> str:
        """Where clients connect, with the real port."""
        return self._transport.endpoint

    def replace(self, shard: ServedShard) -> None:
        """Another answers at this socket from now on."""
        self.flush()
        self._shard = shard
        shard.on_release, shard.on_portion = self.flush_soon, self.flush

    @property
    def messages_received(self) -> int:
        """Since it was opened."""
        return self._transport.messages_received

    def set_routes(self, table: RoutingTable) -> None:
        """What a HELLO is answered with."""
        self._routes = table

    def flush(self) -> None:
        """Send the replies that were released."""
        self._unflushed = 0
        self._hub.flush(self._shard.epoch, self._shard.seq)

    def flush_soon(self) -> None:
        """Send them at the end of this loop tick, together with what is released until then."""
        if not self._flush_scheduled:
            self._flush_scheduled = True
            self._loop.call_soon(self._flush_scheduled_now)

    def _flush_scheduled_now(self) -> None:
        self._flush_scheduled = False
        self.flush()

    def _on_message(self, identity: bytes, message: bytes) -> None:
        try:
            kind = wire.kind_for_server(message)
            if kind == wire.CALLS:
                self._on_calls(self._hub.peer_for(identity), message)
            elif kind == wire.REQUEST:
                self._on_request(identity, wire.unpack(message))
            elif kind == wire.HELLO:
                self._on_hello(identity, wire.unpack(message))
            else:
                raise wire.ProtocolError(f"a server takes HELLO, CALLS and REQUEST, not kind {kind}")
        except wire.ProtocolError as error:
            self._malformed_messages += 1
            self._hub.send(identity, wire.pack(wire.ERROR, str(error)))

    def _on_calls(self, peer: ZmqPeer, message: bytes) -> None:
        calls, broken = wire.unpack_calls(message)
        if broken:
            self._malformed_calls += len(broken)
            self._answer_broken(peer, broken)
        if len(message) > ARGUMENTS_BYTES_MAX:
            calls = [call for call in calls if self._fits(peer, call)]
        if len(calls) > PORTION or peer in self._backlog:
            self._backlog.add(peer, calls, len(message))
        elif calls:
            self._work_on(peer, calls)

    def _work_on_portion(self, peer: ZmqPeer, calls: list[Call]) -> None:
        """Of the backlog."""
        self._work_on(peer, calls)
        self.flush()

    def _work_on(self, peer: ZmqPeer, calls: list[Call]) -> None:
        self._shard.receive(peer, calls)
        self._unflushed += len(calls)
        if self._unflushed >= PORTION:  # many small messages may be read in one go
            self.flush()

    def _answer_broken(self, peer: ZmqPeer, broken: list[BrokenCall]) -> None:
        for call in broken:
            if call.id is not None and 0 <= call.id < 1 << 63:
                peer.fail(
                    Call(call.id, "", "", ""), ProtocolProblem(f"this is no call: {call.problem}; nothing was run")
                )
            else:
                self._hub.send(peer.identity, wire.pack(wire.ERROR, f"an element of CALLS is no call: {call.problem}"))

    def _fits(self, peer: ZmqPeer, call: Call) -> bool:
        """Only asked of calls in a message so large that one of them might be over the limit."""
        size = len(wire.encode_value((call.args, call.kwargs)))
        if size <= ARGUMENTS_BYTES_MAX:
            return True
        peer.fail(
            call, TooLarge(f"arguments of {size} bytes are over the limit of {ARGUMENTS_BYTES_MAX}; nothing was run")
        )
        return False

    def _on_hello(self, identity: bytes, _: wire.Hello) -> None:
        if self._routes is None:
            raise wire.ProtocolError("this process has no routing table yet: ask the supervisor")
        self._hub.send(identity, wire.pack(wire.WELCOME, self._routes))

    def _on_request(self, identity: bytes, request: Request) -> None:
        self._requests += 1
        if len(self._tasks) >= REQUESTS_MAX:
            problem = Overloaded(f"{REQUESTS_MAX} requests are under way in this process; nothing was done")
            refusal = wire.Response(request.id, wire.FAILED, error_to_wire(problem))
            self._hub.send(identity, wire.pack(wire.RESPONSE, refusal))
            return
        task = self._loop.create_task(self._answer(identity, request))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _answer(self, identity: bytes, request: Request) -> None:
        try:
            value = await self._shard.request(request.op, request.arguments)
            response = wire.pack(wire.RESPONSE, wire.Response(request.id, wire.OK, value))
        except DurableError as error:
            response = wire.pack(wire.RESPONSE, wire.Response(request.id, wire.FAILED, error_to_wire(error)))
        except Exception as error:
            _logger.exception("request %r failed", request.op)
            problem = DurableError(f"the request failed in an unexpected way: {error!r}", outcome="unknown")
            response = wire.pack(wire.RESPONSE, wire.Response(request.id, wire.FAILED, error_to_wire(problem)))
        self._hub.send(identity, response)

    def statistics(self) -> ServerStatistics:
        return ServerStatistics(
            transport=self._transport.statistics(),
            clients=len(self._hub),
            replies_sent=self._hub.replies_sent,
            replies_dropped=self._hub.replies_dropped,
            answers_dropped=self._hub.answers_dropped,
            malformed_messages=self._malformed_messages,
            malformed_calls=self._malformed_calls,
            requests=self._requests,
        )

    def close(self, linger_seconds: float = 0) -> None:
        """Close. A draining shard gives its last replies `linger_seconds` to leave; a fenced one says nothing more."""
        for task in self._tasks:
            task.cancel()
        if linger_seconds:
            self.flush()
        self._hub.close()
        self._transport.close(linger_seconds)
