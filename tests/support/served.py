"""A scripted shard behind its real socket, for those who write frames by hand."""

from __future__ import annotations

import asyncio
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import msgpack
import zmq
import zmq.asyncio

from durable_shards.server import ShardServer
from tests.support.scripted import WAIT_SECONDS, ScriptedShard

__all__ = ["WAIT_SECONDS", "Served", "calls"]


class Served:
    """A shard behind its socket, and a raw client that sends what it is told."""

    def __init__(self, folder: Path, endpoint: str = "") -> None:
        self.shard = ScriptedShard()
        self.endpoint = endpoint or f"ipc://{folder}/shard"
        self.context: Any = zmq.asyncio.Context()
        self.server: ShardServer

    async def __aenter__(self) -> Self:
        self.server = ShardServer(self.shard, self.endpoint, asyncio.get_running_loop())
        self.endpoint = self.server.endpoint
        self.raw = self.client()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.server.close()
        self.context.destroy(linger=0)

    def client(self) -> Any:
        raw = self.context.socket(zmq.DEALER)
        raw.connect(self.endpoint)
        return raw

    async def ask(self, message: bytes) -> tuple[int, Any]:
        """Send a message; kind and body of the answer."""
        await self.raw.send(message)
        return await self.answer()

    async def answer(self) -> tuple[int, Any]:
        answer = await asyncio.wait_for(self.raw.recv(), WAIT_SECONDS)
        return answer[1], msgpack.unpackb(answer[2:], strict_map_key=False)


def calls(*elements: Any) -> bytes:
    body: bytes = msgpack.packb(elements)
    return b"\x01\x03" + body
