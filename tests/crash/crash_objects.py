"""Objects that count, and objects that take their shard down."""

from __future__ import annotations

import asyncio
import ctypes
import os
import time

from durable_engine import DurableObject, handler


class Counter(DurableObject):
    """What acknowledged increments are counted with."""

    count: int = 0

    @handler
    def increment(self, amount: int = 1) -> int:
        self.count += amount
        return self.count

    @handler
    async def increment_slowly(self, seconds: float) -> int:
        await asyncio.sleep(seconds)
        self.count += 1
        return self.count

    @handler
    def get(self) -> int:
        return self.count


class Bomb(DurableObject):
    """Ends or blocks the process that it lives in."""

    defused: bool = False

    @handler
    def defuse(self) -> bool:
        self.defused = True
        return self.defused

    @handler
    def leave(self) -> None:
        os._exit(3)

    @handler
    def crash(self) -> None:
        ctypes.string_at(0)

    @handler
    def spin(self) -> None:
        while True:
            pass

    @handler
    def block(self, seconds: float) -> None:
        time.sleep(seconds)


class Relay(DurableObject):
    """Calls another object, which may live in another shard."""

    relayed: int = 0

    @handler
    async def pass_on(self, counter_id: str) -> int:
        count: int = await self.engine.at(Counter, counter_id).increment()
        self.relayed += 1
        return count

    @handler
    async def pass_on_later(self, counter_id: str, seconds: float) -> int:
        await asyncio.sleep(seconds)
        return await self.pass_on(counter_id)
