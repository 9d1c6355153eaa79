"""Objects that raise what nobody expects, recurse without end, and share what they hold."""

from __future__ import annotations

import asyncio
from typing import Any

from durable_engine import DurableObject, field, handler
from tests.shards.objects import Node

EXITS: dict[str, type[BaseException]] = {
    "SystemExit": SystemExit,
    "KeyboardInterrupt": KeyboardInterrupt,
    "GeneratorExit": GeneratorExit,
    "CancelledError": asyncio.CancelledError,
    "StopIteration": StopIteration,
    "MemoryError": MemoryError,
    "RecursionError": RecursionError,
}


class Wild(DurableObject):
    count: int = 0
    items: list[str] = field(default_factory=list)
    nested: dict[str, list[str]] = field(default_factory=lambda: {"a": []})
    tree: list[Any] = field(default_factory=list)

    @handler
    def raise_now(self, name: str) -> None:
        self.count += 1000
        raise EXITS[name]

    @handler
    async def raise_early(self, name: str) -> None:
        self.count += 1000
        raise EXITS[name]

    @handler
    async def raise_late(self, name: str) -> None:
        self.count += 1000
        await asyncio.sleep(0)
        raise EXITS[name]

    @handler
    def recurse(self) -> int:
        self.count += 1
        return self.recurse_on(0)

    def recurse_on(self, depth: int) -> int:
        return self.recurse_on(depth + 1) + 1

    @handler
    def grow_deep(self, depth: int) -> None:
        self.count += 1000
        for _ in range(depth):
            self.tree = [self.tree]

    @handler
    def return_deep(self, depth: int) -> Any:
        self.count += 1000
        value: list[Any] = []
        for _ in range(depth):
            value = [value]
        return value

    @handler
    def hold_a_cycle(self) -> None:
        self.count += 1000
        self.tree.append(self.tree)

    @handler
    def keep(self, items: list[str]) -> list[str]:
        self.items = items
        return self.items

    @handler
    def nest(self, text: str, fail: bool) -> None:
        self.nested["a"].append(text)
        if fail:
            raise ValueError(text)

    @handler
    def all(self) -> list[Any]:
        return [self.count, self.items, self.nested]

    @handler
    async def call_and_fail(self, other: str) -> None:
        self.count += 1
        await self.engine.at(Node, other).bump()
        raise ValueError("after the call")

    @handler(readonly=True)
    def write_on_the_sly(self) -> int:
        self.count += 1000
        return self.count
