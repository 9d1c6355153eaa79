"""What the experiments call besides the benchmarks' own objects."""

from __future__ import annotations

import asyncio
from datetime import timedelta

from durable_engine import DurableObject, handler

SLOW_SECONDS = 0.001
"""How long a slow handler waits for something that is not the store."""


class Hot(DurableObject, name="bench.Hot", call_timeout=timedelta(seconds=60)):
    """One object that everybody wants. Its mailbox has the size that every class has."""

    count: int = 0

    @handler
    def increment(self) -> int:
        self.count += 1
        return self.count

    @handler
    async def increment_slowly(self) -> int:
        await asyncio.sleep(SLOW_SECONDS)
        self.count += 1
        return self.count
