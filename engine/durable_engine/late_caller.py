"""Calls by a server's address, whose connections are opened with the first of them: many programs never make one.

Shards call the objects of other shards this way, and workers of procrastinate those whose alarms they fire.
"""

from __future__ import annotations

import asyncio
from functools import partial
from typing import Any

from durable_engine.frontend import Frontend
from durable_shards.network import Network


class LateCaller:
    """Belongs to the event loop of its first call. `for_turns` as in `Frontend.connect`."""

    def __init__(self, url: str, *, for_turns: bool = False, network: Network | None = None) -> None:
        self._url = url
        self._for_turns = for_turns
        self._network = network
        self._frontend: Frontend | None = None
        self._connecting: asyncio.Task[Frontend] | None = None

    def call(
        self,
        object_type: str,
        object_id: str,
        handler: str,
        args: list[Any],
        kwargs: dict[str, Any] | None,
        *,
        timeout: float,
        **options: Any,
    ) -> asyncio.Future[Any]:
        """See `durable_shards.outbound.Caller`. `timeout`, in seconds, includes that of connecting."""
        names = (object_type, object_id, handler)
        if self._frontend is not None:
            return self._frontend.call(*names, args, kwargs, timeout=timeout, **options)
        loop = asyncio.get_running_loop()
        if self._connecting is None:
            connecting = Frontend.connect(self._url, timeout, for_turns=self._for_turns, network=self._network)
            self._connecting = loop.create_task(connecting)
        submit = partial(Frontend.call, object_type=object_type, object_id=object_id, handler=handler)
        later = partial(submit, args=args, kwargs=kwargs, **options)
        return loop.create_task(self._connect_and(later, timeout))

    async def close(self) -> None:
        """Let go of the connections; calls under way fail."""
        if self._connecting is not None:
            self._connecting.cancel()
        if self._frontend is not None:
            self._frontend.close()

    async def _connect_and(self, submit: Any, seconds: float) -> Any:
        """The first calls wait for the connection, in their order."""
        assert self._connecting is not None
        loop = asyncio.get_running_loop()
        deadline = loop.time() + seconds
        connecting = self._connecting
        try:
            frontend = await asyncio.shield(connecting)
        except BaseException:
            if connecting.done() and self._connecting is connecting:
                self._connecting = None  # the next call tries again
            raise
        self._frontend = frontend
        return await submit(frontend, timeout=max(deadline - loop.time(), 0.001))
