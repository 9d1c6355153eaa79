"""The seam between the engine that users see and whatever carries calls: a frontend, or a shard in this process."""

from __future__ import annotations

import asyncio
from typing import Any, Protocol

from durable_engine.pending import Target
from durable_shards.signature import ResultDecoder


class Backend(Protocol):
    """Implemented by `Frontend` and `Embedded`."""

    def submit(
        self,
        target: Target,
        handler: str,
        args: Any,
        kwargs: dict[str, Any] | None = None,
        timeout: float | None = None,
        key: str | None = None,
        flags: int = 0,
        chain: list[str] | None = None,
        trace: dict[str, str] | None = None,
        decode: ResultDecoder | None = None,
    ) -> asyncio.Future[Any]:
        """Send a call. Raises EngineClosed, InvalidArguments and TooLarge at once; all else through the future."""

    async def request(
        self, op: str, arguments: dict[str, Any] | None = None, *, shard: int | None = None, timeout: float = 5.0
    ) -> Any:
        """Ask the server, or one shard, something that concerns no single object."""

    @property
    def shard_numbers(self) -> list[int]:
        """The shards there are."""

    def shard_of(self, target: Target) -> int:
        """The shard that answers for an address."""

    async def answered(self) -> None:
        """Wait, for a bounded time, until every call made so far is answered."""

    async def aclose(self) -> None:
        """Let go of everything; calls under way fail with EngineClosed."""
