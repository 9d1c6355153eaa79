"""Exchanges the processes of shards that come near what a process may take in memory.

The kernel holds the limit itself (RLIMIT_DATA, set by the shard at its start): an allocation beyond it is a MemoryError
for whoever asks for it, so one greedy call fails and nothing else happens. What leaks a little with each call gets
there as well, and then every call fails; so a process that has taken most of what it may take gives way to a fresh one
while it still can (`renewal`), and no call fails by it.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Final

from durable_engine.renewal import renew
from durable_storage.errors import DurableError

if TYPE_CHECKING:
    from durable_engine.keeper import ShardKeeper

_log = logging.getLogger("durable_engine.supervisor")

LOOK_SECONDS: Final = 1.0
FULL_SHARE: Final = 0.75
"""From here on a process is to be exchanged. What is left must do for the batches that it still works on."""
_PREFIX: Final = "VmData:"


async def guard_memory(keepers: Sequence[ShardKeeper], bytes_max: int, drain_seconds: float) -> None:
    """Look after these shards until cancelled. Their stores must outlive their processes."""
    while True:
        await asyncio.sleep(LOOK_SECONDS)
        for keeper in keepers:
            taken = data_bytes(keeper.pid) if keeper.state == "up" else 0
            if taken > bytes_max * FULL_SHARE:
                _log.warning(
                    "shard %d has taken %d MB of the %d MB that it may take: exchanged for a fresh process",
                    keeper.shard,
                    taken >> 20,
                    bytes_max >> 20,
                )
                await _exchange(keeper, drain_seconds)


async def _exchange(keeper: ShardKeeper, drain_seconds: float) -> None:
    try:
        await renew(keeper, drain_seconds)
    except DurableError as error:
        _log.warning("shard %d keeps its process for now: %s", keeper.shard, error.message)


def data_bytes(pid: int) -> int:
    """What counts against RLIMIT_DATA: private writable memory of a process; 0 when there is none."""
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith(_PREFIX)), 0)
