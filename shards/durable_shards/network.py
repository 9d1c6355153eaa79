"""The wire, as one small seam: who listens, who dials, and what both are told. The real one is ZeroMQ's.

Everything above sends and receives whole messages, on the loop that it belongs to, and never waits for the wire. So a
test can be the wire: `tests/simulation` has one in virtual time that loses, repeats, delays and breaks.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Protocol

import zmq

from durable_shards.transport import RECONNECT_SECONDS, DealerTransport, RouterTransport
from durable_shards.watched_socket import TransportStatistics


class Listener(Protocol):
    """The serving end of many connections; see `RouterTransport`."""

    endpoint: str
    messages_received: int

    def send(self, identity: bytes, payload: bytes) -> bool:
        """Hand a message over. False when the peer reads too slowly; raises PeerGone when it is no longer there."""

    def hold(self) -> None:
        """Read no more for now."""

    def go_on(self) -> None:
        """Read again."""

    def statistics(self) -> TransportStatistics:
        """What went through since it was opened."""

    def close(self, linger_seconds: float = 0) -> None:
        """Listen no more."""


class Connection(Protocol):
    """The asking end of one connection; see `DealerTransport`."""

    connected: bool

    def send(self, payload: bytes) -> bool:
        """Hand a message over. False when it was not taken."""

    def read_all(self) -> None:
        """Hand over everything that has arrived."""

    def close(self, linger_seconds: float = 0) -> None:
        """Let go of it."""


class Network(Protocol):
    """Makes both. Belongs to whoever uses it, who closes it last."""

    def listen(
        self,
        endpoint: str,
        on_message: Callable[[bytes, bytes], None],
        loop: asyncio.AbstractEventLoop,
        *,
        on_drained: Callable[[], None] | None = None,
    ) -> Listener:
        """Serve an endpoint. Raises OSError when it cannot be bound."""

    def dial(
        self,
        endpoint: str,
        on_message: Callable[[bytes], None],
        loop: asyncio.AbstractEventLoop,
        *,
        on_connected: Callable[[], None],
        on_disconnected: Callable[[], None],
        on_writable: Callable[[], None],
        reconnect_seconds: float = RECONNECT_SECONDS,
    ) -> Connection:
        """Connect, sooner or later. Raises ValueError for an endpoint that is none."""

    def close(self) -> None:
        """Wait for what lingers, then let go of everything."""


class ZmqNetwork:
    """The real one. What dials shares a context; a listener has its own, which ends with it."""

    listen = RouterTransport

    def __init__(self) -> None:
        self._context: zmq.Context[zmq.Socket[bytes]] | None = None

    def dial(
        self,
        endpoint: str,
        on_message: Callable[[bytes], None],
        loop: asyncio.AbstractEventLoop,
        *,
        on_connected: Callable[[], None],
        on_disconnected: Callable[[], None],
        on_writable: Callable[[], None],
        reconnect_seconds: float = RECONNECT_SECONDS,
    ) -> DealerTransport:
        """See `Network`."""
        if self._context is None:
            self._context = zmq.Context()
        return DealerTransport(
            endpoint,
            on_message,
            loop,
            context=self._context,
            on_connected=on_connected,
            on_disconnected=on_disconnected,
            on_writable=on_writable,
            reconnect_seconds=reconnect_seconds,
        )

    def close(self) -> None:
        """See `Network`."""
        if self._context is not None:
            self._context.term()
