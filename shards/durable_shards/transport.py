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
from typing import Any, Final

import zmq

from durable_shards.watched_socket import NOBLOCK, POLLOUT, RCVMORE, WatchedSocket, configure

PACKED_BYTES_MAX: Final = 256 * 1024
"""Calls or replies are packed into messages of about this size; a larger single one travels alone."""
RECONNECT_SECONDS: Final = 0.05

_logger = logging.getLogger(__name__)


class RouterTransport(WatchedSocket):
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
        configure(socket)
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
        payload = socket.recv(NOBLOCK) if socket.get(RCVMORE) else b""
        self.messages_received += 1
        self.bytes_received += len(payload)
        if socket.get(RCVMORE):
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
        while self._socket.get(RCVMORE):
            self._socket.recv(NOBLOCK)

    def _drained(self) -> None:
        if self._on_drained is not None:
            self._on_drained()

    def send(self, identity: bytes, payload: bytes) -> bool:
        """Hand a message over. False when the peer reads too slowly; raises PeerGone when it is no longer there."""
        try:
            self._socket.send_multipart((identity, payload), NOBLOCK)
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


class DealerTransport(WatchedSocket):
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
        configure(socket)
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
        if self._socket.get(RCVMORE):
            self.malformed += 1
            while self._socket.get(RCVMORE):
                self._socket.recv(NOBLOCK)
            return True
        try:
            self._on_message(payload)
        except Exception:
            self.faults += 1
            _logger.exception("a message callback failed; the message is lost, the socket goes on")
        return not self._closed

    def _drained(self) -> None:
        if self._starved and self._look() & POLLOUT:
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
            self._socket.send(payload, NOBLOCK)
        except zmq.Again:
            self.refused_full += 1
            self._starved = True
            if self._look() & POLLOUT:
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


class _Monitor(WatchedSocket):
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
        while self._socket.get(RCVMORE):
            self._socket.recv(NOBLOCK)
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


def _bind_error(endpoint: str, error: zmq.ZMQError) -> OSError:
    if error.errno == errno.EADDRINUSE:
        hint = "another process listens there: stop it, or bind another address"
    elif error.errno in (errno.EACCES, errno.EPERM):
        hint = "this user may not listen there: choose another address"
    else:
        hint = "expected tcp://HOST:PORT or ipc://PATH"
    return OSError(error.errno or 0, f"cannot listen on {endpoint!r}: {error.strerror}; {hint}")
