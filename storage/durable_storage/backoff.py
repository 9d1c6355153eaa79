"""Waiting between attempts: exponential, bounded, with jitter, so that many shards do not return in step."""

from __future__ import annotations

import asyncio
import random
from typing import Final

FIRST_SECONDS: Final = 0.005
LAST_SECONDS: Final = 0.5


class Backoff:
    """The pauses of one series of attempts: 5 ms doubling to 500 ms, each cut short by up to half at random."""

    def __init__(self) -> None:
        self._pause = FIRST_SECONDS

    async def wait(self) -> None:
        """The next pause."""
        pause, self._pause = self._pause, min(self._pause * 2, LAST_SECONDS)
        await asyncio.sleep(pause * random.uniform(0.5, 1.0))  # noqa: S311 - spread, no secret
