"""What a forked shard process runs: the shard of `durable_shards.process` with a client for calls between
objects.

Shards know nothing of the engine above them, so the way to other shards, which is a client like any other, is
given to them here, and so is the scheduler of their alarms.
"""

from __future__ import annotations

import asyncio
from functools import partial
from typing import Any

from durable_engine.frontend import Frontend
from durable_engine.scheduling import make_scheduler
from durable_shards import process
from durable_shards.control import Inheritance, ShardConfig
from durable_shards.schedulers import Scheduler
from durable_shards.shard import Shard


def run_shard(inheritance: Inheritance) -> int:
    """Be a shard; the exit code."""
    return process.main(inheritance, ObjectCaller, _make_scheduler)


def _make_scheduler(config: ShardConfig, caller: process.ObjectCaller, shard: Shard) -> Scheduler:
    return make_scheduler(config.store, caller, shard)


class ObjectCaller:
    """Calls from objects of this shard to others, wherever they live, by way of the server's public address.

    The connections are opened with the first such call: many programs never make one.
    """

    def __init__(self, config: ShardConfig, loop: asyncio.AbstractEventLoop) -> None:
        self._url = config.supervisor
        self._loop = loop
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
        """See `durable_shards.outbound.Caller`."""
        names = (object_type, object_id, handler)
        if self._frontend is not None:
            return self._frontend.call(*names, args, kwargs, timeout=timeout, **options)
        if self._connecting is None:
            self._connecting = self._loop.create_task(Frontend.connect(self._url, timeout, for_turns=True))
        submit = partial(Frontend.call, object_type=object_type, object_id=object_id, handler=handler)
        later = partial(submit, args=args, kwargs=kwargs, **options)
        return self._loop.create_task(self._connect_and(later, timeout))

    async def close(self) -> None:
        """Let go of the connections; calls under way fail."""
        if self._connecting is not None:
            self._connecting.cancel()
        if self._frontend is not None:
            self._frontend.close()

    async def _connect_and(self, submit: Any, seconds: float) -> Any:
        """The first calls wait for the connection, in their order."""
        assert self._connecting is not None
        deadline = self._loop.time() + seconds
        connecting = self._connecting
        try:
            frontend = await asyncio.shield(connecting)
        except BaseException:
            if connecting.done() and self._connecting is connecting:
                self._connecting = None  # the next call tries again
            raise
        self._frontend = frontend
        return await submit(frontend, timeout=max(deadline - self._loop.time(), 0.001))
