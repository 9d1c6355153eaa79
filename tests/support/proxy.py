"""A TCP proxy in the test's own loop, that does to a connection what networks do."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Literal
from urllib.parse import urlsplit, urlunsplit

Direction = Literal["up", "down"]
"""To the server, to the client."""


class Connection:
    """Both halves of a proxied connection."""

    def __init__(self, number: int, client: asyncio.StreamWriter, server: asyncio.StreamWriter) -> None:
        self.number = number
        self.client = client
        self.server = server
        self.seen: dict[Direction, int] = {"up": 0, "down": 0}
        """Bytes that came in so far."""

    def cut(self) -> None:
        """Reset both halves, as a lost network does."""
        self.client.transport.abort()
        self.server.transport.abort()


Filter = Callable[[Connection, Direction, bytes], Awaitable[bytes]]
"""What becomes of some bytes: what to pass on. It may also wait, or cut the connection."""


async def pass_on(connection: Connection, direction: Direction, data: bytes) -> bytes:
    """The filter of a healthy network."""
    return data


class Proxy:
    """Listens on a port of its own for one server."""

    def __init__(self, url: str) -> None:
        self._target = urlsplit(url)
        self._server: asyncio.Server | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self.filter: Filter = pass_on
        self.connections: list[Connection] = []
        self.faults = 0
        """How often a filter did harm, for tests to count."""

    async def __aenter__(self) -> Proxy:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._server is not None
        self._server.close()
        for connection in self.connections:
            connection.cut()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    @property
    def url(self) -> str:
        """The server's URL by way of this proxy."""
        assert self._server is not None
        port = self._server.sockets[0].getsockname()[1]
        user = f"{self._target.username}@" if self._target.username else ""
        return urlunsplit(self._target._replace(netloc=f"{user}127.0.0.1:{port}"))

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            upstream, server = await asyncio.open_connection(self._target.hostname, self._target.port)
        except OSError:
            writer.transport.abort()
            return
        connection = Connection(len(self.connections), writer, server)
        self.connections.append(connection)
        pumps = [
            asyncio.create_task(self._pump(connection, "up", reader, server)),
            asyncio.create_task(self._pump(connection, "down", upstream, writer)),
        ]
        self._tasks.update(pumps)

    async def _pump(
        self, connection: Connection, direction: Direction, source: asyncio.StreamReader, sink: asyncio.StreamWriter
    ) -> None:
        try:
            while data := await source.read(1 << 16):
                passed = await self.filter(connection, direction, data)
                connection.seen[direction] += len(data)
                if passed:
                    sink.write(passed)
                    await sink.drain()
        except OSError:
            pass
        finally:
            sink.close()
