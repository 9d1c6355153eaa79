"""A plain ZeroMQ socket that an event loop watches, and the one rule that its edge-triggered descriptor asks for."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Any, Final

import zmq

from durable_storage.limits import MESSAGE_BYTES_MAX

QUEUED_MESSAGES_MAX: Final = 64
"""High-water mark of each direction of a connection, in packed messages: at most 16 MB of small replies a peer."""
TRANSPORT_BYTES_MAX: Final = MESSAGE_BYTES_MAX + 1024 * 1024
"""Beyond this ZeroMQ cuts the connection without a word; up to it the sender of too much gets an answer."""
DRAIN_SECONDS: Final = 0.01
"""How long one callback may read before timers and other descriptors get their turn."""

_SILENCE_MILLISECONDS: Final = 10_000
"""Of a peer's machine, until its connection is given up: a cable was pulled."""
# Plain ints: pyzmq's enums cost a conversion on every use.
NOBLOCK: Final = int(zmq.NOBLOCK)
EVENTS: Final = int(zmq.EVENTS)
RCVMORE: Final = int(zmq.RCVMORE)
POLLIN: Final = int(zmq.POLLIN)
POLLOUT: Final = int(zmq.POLLOUT)


@dataclass(frozen=True, slots=True)
class TransportStatistics:
    """What went through a socket since it was opened."""

    messages_received: int
    bytes_received: int
    messages_sent: int
    bytes_sent: int
    refused_full: int
    """Sends refused because the peer reads too slowly."""
    refused_unconnected: int
    refused_unreachable: int
    """Sends to a peer that is gone."""
    malformed: int
    """Messages of more or fewer parts than the protocol's one."""
    faults: int
    """Exceptions of a message callback: bugs, logged."""


class WatchedSocket:
    """A plain ZeroMQ socket, read by the event loop whenever its descriptor stirs."""

    def __init__(self, socket: zmq.Socket[bytes], loop: asyncio.AbstractEventLoop) -> None:
        self._socket = socket
        self._loop = loop
        self._descriptor: Any = socket.get(zmq.FD)
        self._closed = False
        self._drain_scheduled = False
        self._held = False
        self.messages_received = 0
        self.bytes_received = 0
        self.messages_sent = 0
        self.bytes_sent = 0
        self.refused_full = 0
        self.refused_unconnected = 0
        self.refused_unreachable = 0
        self.malformed = 0
        self.faults = 0

    def _watch(self) -> None:
        self._loop.add_reader(self._descriptor, self._drain)
        self._drain_soon()

    def _drain_soon(self) -> None:
        if not self._drain_scheduled and not self._closed:
            self._drain_scheduled = True
            self._loop.call_soon(self._drain_again)

    def _drain_again(self) -> None:
        self._drain_scheduled = False
        self._drain()

    def _drain(self) -> None:
        """Read until nothing is left, or until it is the turn of others."""
        if self._closed:
            return
        until = self._loop.time() + DRAIN_SECONDS
        while not self._held and self._read_one():
            # Mostly there is one message: asking costs a third of the exception that says there is no other.
            events: Any = self._socket.get(EVENTS)
            if not events & POLLIN:
                break
            if self._loop.time() >= until:
                self._drain_soon()
                break
        if not self._closed:
            self._drained()

    def hold(self) -> None:
        """Read no more for now: what comes waits in the socket, and then at its senders, in fair turns."""
        self._held = True

    def go_on(self) -> None:
        """Read again."""
        self._held = False
        self._drain_soon()

    def _read_one(self) -> bool:
        """Receive and handle one message. False when there is none."""
        raise NotImplementedError

    def _drained(self) -> None:
        """Everything that had arrived was handled (or the time was up)."""

    def _look(self) -> Any:
        """The edge-trigger rule: what the socket can do now; reading is scheduled when there is something."""
        events: Any = self._socket.get(EVENTS)
        if events & POLLIN:
            self._drain_soon()
        return events

    def _receive(self) -> bytes | None:
        try:
            return self._socket.recv(NOBLOCK)
        except zmq.Again:
            return None

    def statistics(self) -> TransportStatistics:
        return TransportStatistics(
            self.messages_received,
            self.bytes_received,
            self.messages_sent,
            self.bytes_sent,
            self.refused_full,
            self.refused_unconnected,
            self.refused_unreachable,
            self.malformed,
            self.faults,
        )

    def close(self, linger_seconds: float = 0) -> None:
        """Close at once; with `linger_seconds` the context's `term` waits that long for messages on their way out."""
        if self._closed:
            return
        self._closed = True
        self._loop.remove_reader(self._descriptor)
        self._socket.close(linger=int(linger_seconds * 1000))


def configure(socket: zmq.Socket[bytes]) -> None:
    socket.set(zmq.LINGER, 0)
    socket.set(zmq.SNDHWM, QUEUED_MESSAGES_MAX)
    socket.set(zmq.RCVHWM, QUEUED_MESSAGES_MAX)
    socket.set(zmq.MAXMSGSIZE, TRANSPORT_BYTES_MAX)
    # Not ZeroMQ's own heartbeats: libzmq 4.3.5 aborts the process when one is due on a connection that broke while what
    # came from it still waits to be read (`assert(!_io_error)` in out_event; libzmq#4841). The kernel's do the same.
    socket.set(zmq.TCP_KEEPALIVE, 1)
    socket.set(zmq.TCP_KEEPALIVE_IDLE, 4)
    socket.set(zmq.TCP_KEEPALIVE_INTVL, 2)
    socket.set(zmq.TCP_KEEPALIVE_CNT, 3)
    socket.set(zmq.TCP_MAXRT, _SILENCE_MILLISECONDS)
