"""Somebody who speaks ZeroMQ to a server and says whatever a test likes."""

from __future__ import annotations

from types import TracebackType

import zmq

TIMEOUT_MILLISECONDS = 20_000


class WireClient:
    """One DEALER socket, used as a context manager."""

    def __init__(self, endpoint: str) -> None:
        self._context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        self._socket = self._context.socket(zmq.DEALER)
        self._socket.set(zmq.RCVTIMEO, TIMEOUT_MILLISECONDS)
        self._socket.set(zmq.SNDTIMEO, TIMEOUT_MILLISECONDS)
        self._socket.connect(endpoint)

    def __enter__(self) -> WireClient:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._context.destroy(linger=0)

    def send(self, message: bytes) -> None:
        """One message of one part."""
        self._socket.send(message)

    def receive(self) -> bytes:
        """The next message; zmq.Again when none comes in time."""
        return self._socket.recv()
