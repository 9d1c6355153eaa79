"""Waiting, in a coroutine, for something that another party does: by looking again and again, with a deadline."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Callable
from typing import Any

TIMEOUT_SECONDS = 30.0
INTERVAL_SECONDS = 0.005


async def watch_for(look: Callable[[], Any]) -> Any:
    """The first true value of `look`, a function or a coroutine function. TimeoutError when there is none in time."""
    async with asyncio.timeout(TIMEOUT_SECONDS):
        while True:
            found = look()
            if inspect.isawaitable(found):
                found = await found
            if found:
                return found
            await asyncio.sleep(INTERVAL_SECONDS)
