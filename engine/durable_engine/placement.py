"""Where shards live: the seam to a cluster.

A backend says which nodes there are and which partitions each shard gets. On one machine the supervisor is
the only node and the answer is a division. Correctness never depends on it: who may write is decided by a
row in the store.
"""

from __future__ import annotations

import os
import platform
from functools import lru_cache
from pathlib import Path
from typing import Literal, Protocol

from durable_storage.address import partitions_of_shard

NodeState = Literal["up", "draining"]


class Placement(Protocol):
    """What the supervisor asks of whatever places shards."""

    def members(self) -> dict[str, NodeState]:
        """The nodes and whether they may be given shards."""

    def partitions(self, shard: int) -> range:
        """The partitions of a shard."""


class LocalPlacement:
    """One machine: all shards are here."""

    def __init__(self, shards: int) -> None:
        self._shards = shards

    def members(self) -> dict[str, NodeState]:
        """This machine."""
        return {node_name(): "up"}

    def partitions(self, shard: int) -> range:
        """An equal share."""
        return partitions_of_shard(shard, self._shards)


@lru_cache(maxsize=1)
def node_name() -> str:
    """This machine and this boot of it."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()[:8]
    except OSError:
        boot = str(os.getppid())
    return f"{platform.node() or 'localhost'}/{boot}"
