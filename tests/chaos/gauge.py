"""How long service was away: one caller for each shard, which calls nothing else and never stops.

The clients at work call all shards, so that one that hangs soon has all of them waiting; what that does to the others
would look as if they were away, too.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Sequence

import uvloop

from durable_engine import Engine
from durable_engine.errors import DurableError
from tests.chaos.records import Op
from tests.chaos.rig import RECOVERY_SECONDS, now
from tests.support.eventually import eventually

INTERVAL_SECONDS = 0.01
TIMEOUT_SECONDS = 20.0


class Gauge:
    """Calls in a thread of its own, until the `with` block ends; every success is one operation of `ops`."""

    def __init__(self, url: str, witnesses: Sequence[str]) -> None:
        self.ops: list[Op] = []
        self._heard: dict[str, float] = {}
        """Witness: when the last call that it answered began."""
        self._url = url
        self._witnesses = witnesses
        self._loop = uvloop.new_event_loop()
        self._thread = threading.Thread(target=self._run, name="gauge")
        self._crash: BaseException | None = None
        self._stopped = False

    def __enter__(self) -> Gauge:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopped = True
        self._thread.join()
        self._loop.close()
        if self._crash is not None:
            raise self._crash

    def until_heard(self) -> None:
        """Until each shard has answered a call that began after this."""
        begun = now()
        eventually(
            lambda: len(self._heard) == len(self._witnesses) and min(self._heard.values()) >= begun,
            timeout=RECOVERY_SECONDS,
            state=lambda: {witness: begun - heard for witness, heard in self._heard.items()},
        )

    def _run(self) -> None:
        try:
            self._loop.run_until_complete(self._call_all())
        except BaseException as error:
            self._crash = error

    async def _call_all(self) -> None:
        async with Engine.connect(self._url, exactly_once=True, timeout=RECOVERY_SECONDS) as engine:
            await asyncio.gather(*(self._call(engine, witness) for witness in self._witnesses))

    async def _call(self, engine: Engine, witness: str) -> None:
        while not self._stopped:
            invoked = now()
            try:
                incarnation: int = await engine.call_by_name("Witness", witness, "probe", timeout=TIMEOUT_SECONDS)
            except DurableError:
                continue
            finally:
                await asyncio.sleep(INTERVAL_SECONDS)
            self._heard[witness] = invoked
            self.ops.append(Op(-1, f"Witness/{witness}", "probe", 0, True, invoked, now(), "ok", epoch=incarnation))
