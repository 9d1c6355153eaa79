"""ZeroMQ on an event loop without `zmq.asyncio`: plain sockets whose descriptor the loop watches.

An await per message costs about thirty microseconds on either side, a drained plain socket one or two, and all calls
of one loop tick in one message less than one a call (`docs/decisions/sockets.md`). The price is a trap to know: the
descriptor of a ZeroMQ socket is *edge-triggered*. It signals "look again", once; sending and asking for the events
swallow such signals too. Hence the one rule of this module: after registration and after every send, look at the
events, and once reading has begun, read until nothing is left (or come back by `call_soon`, so that timers run).

Nothing here knows what a message means. Works on uvloop and on asyncio's own loop.
"""

from __future__ import annotations

import asyncio
import errno
import logging
import struct
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

import zmq

from durable_storage.limits import MESSAGE_BYTES_MAX

PACKED_BYTES_MAX: Final = 256 * 1024
"""Calls or replies are packed into messages of about this size; a larger single one travels alone."""
QUEUED_MESSAGES_MAX: Final = 64
"""High-water mark of each direction of a connection, in packed messages: at most 16 MB of small replies a peer."""
TRANSPORT_BYTES_MAX: Final = MESSAGE_BYTES_MAX + 1024 * 1024
"""Beyond this ZeroMQ cuts the connection without a word; up to MESSAGE_BYTES_MAX + 1 MiB the sender gets an answer."""
DRAIN_SECONDS: Final = 0.01
"""How long one callback may read before timers and other descriptors get their turn."""
RECONNECT_SECONDS: Final = 0.05

_HEARTBEAT_MILLISECONDS: Final = 2_000
_HEARTBEAT_TIMEOUT_MILLISECONDS: Final = 10_000
# Plain ints: pyzmq's enums cost a conversion on every use.
_NOBLOCK: Final = int(zmq.NOBLOCK)
_EVENTS: Final = int(zmq.EVENTS)
_RCVMORE: Final = int(zmq.RCVMORE)
_POLLIN: Final = int(zmq.POLLIN)
_POLLOUT: Final = int(zmq.POLLOUT)

_logger = logging.getLogger(__name__)


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


class _WatchedSocket:
    """A plain ZeroMQ socket, read by the event loop whenever its descriptor stirs."""

    def __init__(self, socket: zmq.Socket[bytes], loop: asyncio.AbstractEventLoop) -> None:
        self._socket = socket
        self._loop = loop
        self._descriptor: Any = socket.get(zmq.FD)
        self._closed = False
        self._drain_scheduled = False
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
        while self._read_one():
            if self._loop.time() >= until:
                self._drain_soon()
                break
        if not self._closed:
            self._drained()

    def _read_one(self) -> bool:
        """Receive and handle one message. False when there is none."""
        raise NotImplementedError

    def _drained(self) -> None:
        """Everything that had arrived was handled (or the time was up)."""

    def _look(self) -> Any:
        """The edge-trigger rule: what the socket can do now; reading is scheduled when there is something."""
        events: Any = self._socket.get(_EVENTS)
        if events & _POLLIN:
            self._drain_soon()
        return events

    def _receive(self) -> bytes | None:
        try:
            return self._socket.recv(_NOBLOCK)
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


class RouterTransport(_WatchedSocket):
    """The serving side: many peers on one ROUTER socket.

    `on_message(identity, payload)` is called for every message, `on_drained()` after each burst of them. The
    identities are made by this socket, never by peers. Raises OSError when the endpoint cannot be bound.
    """

    def __init__(
        self,
        endpoint: str,
        on_message: Callable[[bytes, bytes], None],
        loop: asyncio.AbstractEventLoop,
        *,
        on_drained: Callable[[], None] | None = None,
        context: zmq.Context[zmq.Socket[bytes]] | None = None,
    ) -> None:
        self._own_context = context is None
        self._context = context or zmq.Context()
        socket = self._context.socket(zmq.ROUTER)
        _configure(socket)
        # Without it a ROUTER drops, silently, what it sends to a peer that is gone or full.
        socket.set(zmq.ROUTER_MANDATORY, 1)
        try:
            socket.bind(endpoint)
        except zmq.ZMQError as error:
            socket.close(linger=0)
            if self._own_context:
                self._context.term()
            raise _bind_error(endpoint, error) from None
        super().__init__(socket, loop)
        self._on_message = on_message
        self._on_drained = on_drained
        bound: Any = socket.get(zmq.LAST_ENDPOINT)
        self.endpoint: str = bound.rstrip(b"\0").decode()
        """As bound: with the real port when port 0 or `*` was asked for."""
        self._watch()

    def _read_one(self) -> bool:
        identity = self._receive()
        if identity is None:
            return False
        socket = self._socket
        payload = socket.recv(_NOBLOCK) if socket.get(_RCVMORE) else b""
        self.messages_received += 1
        self.bytes_received += len(payload)
        if socket.get(_RCVMORE):
            self._skip_parts()
            payload = b""  # no message of this protocol: the receiver says so to the sender
        try:
            self._on_message(identity, payload)
        except Exception:
            self.faults += 1
            _logger.exception("a message callback failed; the message is lost, the socket goes on")
        return not self._closed

    def _skip_parts(self) -> None:
        self.malformed += 1
        while self._socket.get(_RCVMORE):
            self._socket.recv(_NOBLOCK)

    def _drained(self) -> None:
        if self._on_drained is not None:
            self._on_drained()

    def send(self, identity: bytes, payload: bytes) -> bool:
        """Hand a message over. False when the peer reads too slowly; raises PeerGone when it is no longer there."""
        try:
            self._socket.send_multipart((identity, payload), _NOBLOCK)
        except zmq.Again:
            self.refused_full += 1
            self._look()
            return False
        except zmq.ZMQError as error:
            if error.errno != zmq.EHOSTUNREACH:
                raise
            self.refused_unreachable += 1
            self._look()
            raise PeerGone from None
        self.messages_sent += 1
        self.bytes_sent += len(payload)
        self._look()
        return True

    def close(self, linger_seconds: float = 0) -> None:
        if self._closed:
            return
        super().close(linger_seconds)
        if self._own_context:
            self._context.term()


class PeerGone(Exception):
    """The peer of a ROUTER socket has disconnected."""


class DealerTransport(_WatchedSocket):
    """The asking side: one DEALER socket with one connection.

    Messages are accepted only while the connection stands, as far as is known here. `on_connected` and
    `on_disconnected` come from the socket's monitor; everything that arrived before a disconnect is handed to
    `on_message` first. ZeroMQ reconnects by itself; an owner that counts on what is in flight closes the transport on a
    disconnect and opens another, since what was in the old connection is lost. Raises ValueError for an endpoint that
    is none.

    ZMQ_IMMEDIATE, which promises to queue nothing without a connection, is not used: at a disconnect it
    throws away what was received and not read yet, in half of the tries the last words of a server.
    """

    def __init__(
        self,
        endpoint: str,
        on_message: Callable[[bytes], None],
        loop: asyncio.AbstractEventLoop,
        *,
        context: zmq.Context[zmq.Socket[bytes]],
        on_connected: Callable[[], None],
        on_disconnected: Callable[[], None],
        on_writable: Callable[[], None],
        reconnect_seconds: float = RECONNECT_SECONDS,
    ) -> None:
        socket = context.socket(zmq.DEALER)
        _configure(socket)
        socket.set(zmq.RECONNECT_IVL, int(reconnect_seconds * 1000))
        super().__init__(socket, loop)
        self.endpoint = endpoint
        self.connected = False
        self._on_message = on_message
        self._on_writable = on_writable
        self._on_connected = on_connected
        self._on_disconnected = on_disconnected
        self._starved = False
        self._monitor = _Monitor(socket, loop, self._connection_stands, self._connection_broke)
        try:
            socket.connect(endpoint)
        except zmq.ZMQError as error:
            self._monitor.close()
            socket.close(linger=0)
            raise ValueError(
                f"cannot connect to {endpoint!r}: {error.strerror}; expected tcp://HOST:PORT or ipc://PATH"
            ) from None
        self._watch()

    def _read_one(self) -> bool:
        payload = self._receive()
        if payload is None:
            return False
        self.messages_received += 1
        self.bytes_received += len(payload)
        if self._socket.get(_RCVMORE):
            self.malformed += 1
            while self._socket.get(_RCVMORE):
                self._socket.recv(_NOBLOCK)
            return True
        try:
            self._on_message(payload)
        except Exception:
            self.faults += 1
            _logger.exception("a message callback failed; the message is lost, the socket goes on")
        return not self._closed

    def _drained(self) -> None:
        if self._starved and self._look() & _POLLOUT:
            self._starved = False
            self._on_writable()

    def _connection_stands(self) -> None:
        self.connected = True
        self._on_connected()

    def _connection_broke(self) -> None:
        """Also told of vain attempts, which are ZeroMQ's own business."""
        self.read_all()
        if self.connected and not self._closed:
            self.connected = False
            self._on_disconnected()

    def read_all(self) -> None:
        """Hand over everything that has arrived, however long it takes."""
        while not self._closed and self._read_one():
            pass

    def send(self, payload: bytes) -> bool:
        """Hand a message over. False when it was not taken.

        Then `on_connected` or `on_writable` is called when it is worth trying again.
        """
        if not self.connected:
            self.refused_unconnected += 1
            return False
        try:
            self._socket.send(payload, _NOBLOCK)
        except zmq.Again:
            self.refused_full += 1
            self._starved = True
            if self._look() & _POLLOUT:
                self._drain_soon()
            return False
        self.messages_sent += 1
        self.bytes_sent += len(payload)
        self._look()
        return True

    def close(self, linger_seconds: float = 0) -> None:
        if self._closed:
            return
        self._monitor.close()
        super().close(linger_seconds)


class _Monitor(_WatchedSocket):
    """Tells when the connection of a DEALER socket stands and when it breaks."""

    _EVENT: Final = struct.Struct("=HI")

    def __init__(
        self,
        watched: zmq.Socket[bytes],
        loop: asyncio.AbstractEventLoop,
        on_connected: Callable[[], None],
        on_disconnected: Callable[[], None],
    ) -> None:
        self._watched = watched
        socket: Any = watched.get_monitor_socket(int(zmq.Event.HANDSHAKE_SUCCEEDED) | int(zmq.Event.DISCONNECTED))
        super().__init__(socket, loop)
        self._on_connected = on_connected
        self._on_disconnected = on_disconnected
        self._watch()

    def _read_one(self) -> bool:
        part = self._receive()
        if part is None:
            return False
        while self._socket.get(_RCVMORE):
            self._socket.recv(_NOBLOCK)
        event, _ = self._EVENT.unpack(part)
        if event == zmq.Event.DISCONNECTED:
            self._on_disconnected()
        else:
            self._on_connected()
        return not self._closed

    def close(self, linger_seconds: float = 0) -> None:
        if not self._closed:
            self._closed = True
            self._loop.remove_reader(self._descriptor)
            self._watched.disable_monitor()
            self._socket.close(linger=int(linger_seconds * 1000))


def _configure(socket: zmq.Socket[bytes]) -> None:
    socket.set(zmq.LINGER, 0)
    socket.set(zmq.SNDHWM, QUEUED_MESSAGES_MAX)
    socket.set(zmq.RCVHWM, QUEUED_MESSAGES_MAX)
    socket.set(zmq.MAXMSGSIZE, TRANSPORT_BYTES_MAX)
    # A peer that vanished without closing (a cable, a frozen machine) is noticed within ten seconds.
    socket.set(zmq.HEARTBEAT_IVL, _HEARTBEAT_MILLISECONDS)
    socket.set(zmq.HEARTBEAT_TIMEOUT, _HEARTBEAT_TIMEOUT_MILLISECONDS)
    socket.set(zmq.HEARTBEAT_TTL, _HEARTBEAT_TIMEOUT_MILLISECONDS)
    socket.set(zmq.TCP_KEEPALIVE, 1)


def _bind_error(endpoint: str, error: zmq.ZMQError) -> OSError:
    if error.errno == errno.EADDRINUSE:
        hint = "another process listens there: stop it, or bind another address"
    elif error.errno in (errno.EACCES, errno.EPERM):
        hint = "this user may not listen there: choose another address"
    else:
        hint = "expected tcp://HOST:PORT or ipc://PATH"
    return OSError(error.errno or 0, f"cannot listen on {endpoint!r}: {error.strerror}; {hint}")
