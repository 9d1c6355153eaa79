"""The public door of a supervisor: tells clients the way to the shards, and answers what is asked of the
server.

A client says HELLO when it arrives and about once a second after; it gets the routing table (WELCOME) when
its own is older, and every new table unasked, at once: that is how it hears of a dead shard. No call passes
here.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import Any, Final

from durable_shards import wire
from durable_shards.errors import error_to_wire
from durable_shards.network import Listener, Network, ZmqNetwork
from durable_shards.peers import ReplyHub
from durable_shards.wire import (
    ERROR,
    FAILED,
    HELLO,
    OK,
    REQUEST,
    RESPONSE,
    WELCOME,
    Hello,
    Request,
    Response,
    RoutingTable,
)
from durable_storage.errors import DurableError

_log = logging.getLogger("durable_engine.supervisor")

_SILENT_SECONDS: Final = 30.0
"""A client that said nothing for this long gets no more tables unasked."""
_VISITORS_MAX: Final = 65_536
_REQUESTS_MAX: Final = 256
"""Answered at the same time."""

Operation = Callable[[dict[str, Any]], Awaitable[Any]]


class Reception:
    """Speaks the protocol with whoever connects to the public address."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        *,
        table: Callable[[], RoutingTable],
        operations: dict[str, Operation],
        on_acknowledged: Callable[[dict[int, tuple[int, int]]], None],
        network: Network | None = None,
    ) -> None:
        self._loop = loop
        self._table = table
        self._operations = operations
        self._on_acknowledged = on_acknowledged
        self._network = network or ZmqNetwork()
        self._transport: Listener | None = None
        self._hub: ReplyHub | None = None
        """While it is open; for what goes to a client whose pipe is full."""
        self._visitors: dict[bytes, float] = {}
        """identity → when it last said HELLO; the longest silent first"""
        self._answering: set[asyncio.Task[None]] = set()
        self.malformed: int = 0

    def open(self, endpoint: str) -> str:
        """Bind; the endpoint as bound. Raises OSError that says what to do."""
        self._transport = self._network.listen(endpoint, self._on_message, self._loop)
        self._hub = ReplyHub(self._transport, self._loop)
        return self._transport.endpoint

    def close(self) -> None:
        """Answer no more."""
        for task in self._answering:
            task.cancel()
        if self._hub is not None:
            self._hub.close()
            self._hub = None
        if self._transport is not None:
            self._transport.close(linger_seconds=0.2)
            self._transport = None

    def announce(self) -> None:
        """Send everybody the table as it is now."""
        message = wire.pack(WELCOME, self._table())
        horizon = self._loop.time() - _SILENT_SECONDS
        for visitor in [name for name, seen in self._visitors.items() if seen < horizon]:
            del self._visitors[visitor]
        for visitor in list(self._visitors):
            self._send(visitor, message)

    def statistics(self) -> dict[str, Any]:
        """Counts for people."""
        return {"clients": len(self._visitors), "malformed": self.malformed}

    def _on_message(self, visitor: bytes, message: bytes) -> None:
        try:
            kind = wire.kind_for_server(message)
            if kind == HELLO:
                self._on_hello(visitor, wire.unpack(message))
            elif kind == REQUEST:
                self._on_request(visitor, wire.unpack(message))
            else:
                raise wire.ProtocolError(f"this is a supervisor: it takes HELLO and REQUEST, not kind {kind}")
        except wire.ProtocolError as error:
            self.malformed += 1
            self._send(visitor, wire.pack(ERROR, str(error)))

    def _on_hello(self, visitor: bytes, hello: Hello) -> None:
        self._visitors.pop(visitor, None)
        if len(self._visitors) >= _VISITORS_MAX:
            del self._visitors[next(iter(self._visitors))]
        self._visitors[visitor] = self._loop.time()
        if hello.acknowledged:
            self._on_acknowledged(hello.acknowledged)
        table = self._table()
        if hello.server != table.server or hello.known < table.version:
            self._send(visitor, wire.pack(WELCOME, table))

    def _on_request(self, visitor: bytes, request: Request) -> None:
        if len(self._answering) >= _REQUESTS_MAX:
            busy = {"type": "Overloaded", "message": "too many requests at once; nothing was done"}
            refusal = {**busy, "retryable": True, "outcome": "not_applied"}
            self._send(visitor, wire.pack(RESPONSE, Response(request.id, FAILED, refusal)))
            return
        task = self._loop.create_task(self._answer(visitor, request))
        self._answering.add(task)
        task.add_done_callback(self._answering.discard)

    async def _answer(self, visitor: bytes, request: Request) -> None:
        operation = self._operations.get(request.op)
        try:
            if operation is None:
                known = ", ".join(sorted(self._operations))
                raise DurableError(f"unknown request {request.op!r}; a supervisor answers {known}")
            response = Response(request.id, OK, await operation(request.arguments))
        except DurableError as error:
            response = Response(request.id, FAILED, error_to_wire(error))
        except Exception as error:
            _log.exception("the request %r failed", request.op)
            problem = DurableError(f"the request failed: {error}", outcome="unknown")
            response = Response(request.id, FAILED, error_to_wire(problem))
        self._send(visitor, wire.pack(RESPONSE, response))

    def _send(self, visitor: bytes, message: bytes) -> None:
        if self._hub is not None and not self._hub.send(visitor, message):
            self._visitors.pop(visitor, None)
