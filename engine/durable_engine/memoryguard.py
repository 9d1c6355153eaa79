"""Exchanges the processes of shards that come near what a process may take in memory.

The kernel holds the limit itself (RLIMIT_DATA, set by the shard at its start): an allocation beyond it is a MemoryError
for whoever asks for it, so one greedy call fails and nothing else happens. What leaks a little with each call gets
there as well, and then every call fails; so a process that has taken most of what it may take gives way to a fresh one
while it still can (`renewal`), and no call fails by it. One that took as much when it was fresh is left alone: its
successor would be no better, and somebody has to raise the limit.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING, Final

from durable_engine.footprint import data_bytes
from durable_engine.renewal import STAND_BY_SECONDS, renew
from durable_storage.errors import DurableError

if TYPE_CHECKING:
    from durable_engine.incarnation import Incarnation
    from durable_engine.keeper import ShardKeeper

_log = logging.getLogger("durable_engine.supervisor")

LOOK_SECONDS: Final = 1.0
FULL_SHARE: Final = 0.75
"""From here on a process is to be exchanged. What is left must do for the batches that it still works on."""
GROWN_SHARE: Final = 0.1
"""What it must have taken since it was fresh, so that an exchange is worth it."""


async def guard_memory(keepers: Sequence[ShardKeeper], bytes_max: int, drain_seconds: float) -> None:
    """Look after these shards until cancelled. Their stores must outlive their processes."""
    await asyncio.gather(*(_guard(keeper, bytes_max, drain_seconds) for keeper in keepers))


async def _guard(keeper: ShardKeeper, bytes_max: int, drain_seconds: float) -> None:
    told: Incarnation | None = None
    while True:
        await asyncio.sleep(LOOK_SECONDS)
        process = keeper.processes.current
        if process is None or keeper.state != "up":
            continue
        taken = data_bytes(process.pid)
        if taken <= bytes_max * FULL_SHARE:
            continue
        if taken > process.fresh_bytes + bytes_max * GROWN_SHARE:
            _log.warning(
                "shard %d has taken %d MB of the %d MB that it may take: exchanged for a fresh process",
                keeper.shard,
                taken >> 20,
                bytes_max >> 20,
            )
            await _exchange(keeper, drain_seconds)
        elif told is not process:
            told = process
            _log.warning(
                "shard %d: a fresh process takes %d of the %d MB that it may take, so an exchange would not help: "
                "raise --process-memory-mb, or import less",
                keeper.shard,
                process.fresh_bytes >> 20,
                bytes_max >> 20,
            )


async def _exchange(keeper: ShardKeeper, drain_seconds: float) -> None:
    slow = asyncio.get_running_loop().call_later(
        drain_seconds + STAND_BY_SECONDS,
        partial(
            _log.warning,
            "shard %d is still being exchanged after %g s: see `durable-engine shards list` for what it waits for",
            keeper.shard,
            drain_seconds + STAND_BY_SECONDS,
        ),
    )
    try:
        await renew(keeper, drain_seconds)
    except DurableError as error:
        _log.warning("shard %d keeps its process for now: %s", keeper.shard, error.message)
    finally:
        slow.cancel()
