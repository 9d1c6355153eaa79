"""A proxy in a thread of its own, for tests that block and for processes that the faults are to happen to."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

import uvloop

from tests.support.proxy import Direction, Proxy
from tests.support.wire_faults import Fault, WireFaults

T = TypeVar("T")
DEADLINE_SECONDS = 30.0


class FaultProxy:
    """`Proxy` with `WireFaults`; all methods may be called from any thread."""

    def __init__(self, url: str, *, postgres: bool = True) -> None:
        self.faults = WireFaults(postgres=postgres)
        self.url = ""
        self._target = url
        self._loop = uvloop.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="fault-proxy", daemon=True)
        self._proxy: Proxy | None = None

    def __enter__(self) -> FaultProxy:
        self._thread.start()
        self._proxy = self._run(self._open())
        self.url = self._proxy.url
        return self

    def __exit__(self, *_: object) -> None:
        self._run(self._close())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def arm(self, fault: Fault) -> Fault:
        """Have it strike when its place is reached; wait for `fault.fired`."""
        return self._do(lambda: self.faults.arm(fault, self._opened().connections) or fault)

    def disarm(self, fault: Fault) -> bool:
        """Take it back; False: it struck already."""
        return self._do(lambda: self.faults.disarm(fault))

    def hold(self, *directions: Direction) -> None:
        """A black hole, both ways or one, until `release`."""
        self._do(lambda: self.faults.hold(*(directions or ("up", "down"))))

    def release(self) -> None:
        """Let everything pass again."""
        self._do(self.faults.release)

    def delay(self, seconds: float, *directions: Direction) -> None:
        """Everything arrives so much later from now on; 0: at once again."""
        self._do(lambda: self.faults.delay_seconds.update(dict.fromkeys(directions or ("up", "down"), seconds)))

    def cut(self) -> int:
        """Cut all connections that stand; how many."""
        return self._do(self._cut_all)

    @property
    def standing(self) -> int:
        """Connections that stand."""
        return self._do(lambda: sum(not each.client.transport.is_closing() for each in self._opened().connections))

    def _cut_all(self) -> int:
        standing = [each for each in self._opened().connections if not each.client.transport.is_closing()]
        for connection in standing:
            connection.cut()
        self.faults.struck["cut at once"] += len(standing)
        return len(standing)

    async def _open(self) -> Proxy:
        proxy = Proxy(self._target)
        proxy.filter = self.faults
        return await proxy.__aenter__()

    async def _close(self) -> None:
        self.faults.release()
        await self._opened().__aexit__()

    def _opened(self) -> Proxy:
        assert self._proxy is not None
        return self._proxy

    def _do(self, work: Callable[[], T]) -> T:
        async def run() -> T:
            return work()

        return self._run(run())

    def _run(self, work: Coroutine[Any, Any, T]) -> T:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(DEADLINE_SECONDS)
