"""The wire for parts that are measured by themselves: messages stay within the process, and nothing is sent."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from durable_shards import wire
from durable_shards.network import ZmqNetwork
from durable_shards.transport import DealerTransport
from durable_shards.watched_socket import TransportStatistics
from durable_shards.wire import RoutingTable, ShardRoute

SHARD_URL = "ipc://nowhere"
_NOTHING = TransportStatistics(0, 0, 0, 0, 0, 0, 0, 0, 0)


class Wireless:
    """A `Network` with both ends in one's hand: what is sent goes to `on_sent(message)`."""

    def __init__(self, on_sent: Callable[[bytes], None]) -> None:
        self._on_sent = on_sent
        self.deliver: Callable[[bytes], None] = on_sent
        """Hand a message to whoever dialled the shard, or listens."""

    def listen(
        self,
        endpoint: str,
        on_message: Callable[[bytes, bytes], None],
        loop: asyncio.AbstractEventLoop,
        *,
        on_drained: Callable[[], None] | None = None,
    ) -> _Listener:
        """The serving end."""

        def deliver(message: bytes) -> None:
            on_message(b"client", message)
            if on_drained is not None:
                on_drained()

        self.deliver = deliver
        return _Listener(endpoint, self._on_sent)

    def dial(
        self,
        endpoint: str,
        on_message: Callable[[bytes], None],
        loop: asyncio.AbstractEventLoop,
        *,
        on_connected: Callable[[], None],
        **_: Any,
    ) -> _Connection:
        """The asking end: of the supervisor, who knows of one shard, or of that shard."""
        loop.call_soon(on_connected)
        if endpoint != SHARD_URL:
            return _Connection(lambda _: loop.call_soon(on_message, wire.pack(wire.WELCOME, _TABLE)))
        self.deliver = on_message
        return _Connection(self._on_sent)

    def close(self) -> None:
        """There is nothing to close."""


_TABLE = RoutingTable("bench", 1, 1024, [ShardRoute(0, SHARD_URL, 1, (0, 1024), "up")])


class _Connection:
    connected = True

    def __init__(self, on_sent: Callable[[bytes], Any]) -> None:
        self._on_sent = on_sent

    def send(self, payload: bytes) -> bool:
        self._on_sent(payload)
        return True

    def read_all(self) -> None:
        """Nothing waits."""

    def close(self, linger_seconds: float = 0) -> None:
        """There is nothing to close."""


class _Listener:
    messages_received = 0

    def __init__(self, endpoint: str, on_sent: Callable[[bytes], None]) -> None:
        self.endpoint = endpoint
        self._on_sent = on_sent

    def send(self, identity: bytes, payload: bytes) -> bool:
        self._on_sent(payload)
        return True

    def hold(self) -> None:
        """Nothing is read."""

    def go_on(self) -> None:
        """Nothing is read."""

    def statistics(self) -> TransportStatistics:
        return _NOTHING

    def close(self, linger_seconds: float = 0) -> None:
        """There is nothing to close."""


class CountingNetwork(ZmqNetwork):
    """The real one, which tells how many messages went through what was dialled."""

    def __init__(self) -> None:
        super().__init__()
        self._dialled: list[DealerTransport] = []

    def dial(self, *args: Any, **options: Any) -> DealerTransport:
        """See `Network`."""
        transport = super().dial(*args, **options)
        self._dialled.append(transport)
        return transport

    def messages(self) -> tuple[int, int]:
        """(sent, received) so far."""
        every = [transport.statistics() for transport in self._dialled]
        return sum(one.messages_sent for one in every), sum(one.messages_received for one in every)
