"""What is called: `WORKLOADS` has each workload under its name."""

from __future__ import annotations

from typing import Final

from durable_bench.errors import LostUpdate
from durable_bench.workloads.base import BaseWorkload, Ledger, Share, Workload
from durable_bench.workloads.counters import (
    Alone,
    EmbeddedReads,
    EmbeddedSpread,
    Hot,
    Keys,
    Mixed,
    New,
    Reads,
    Spread,
    Zipf,
)

__all__ = ["WORKLOADS", "BaseWorkload", "Ledger", "LostUpdate", "Share", "Workload"]

_ALL: Final[tuple[type[BaseWorkload], ...]] = (
    Spread,
    Hot,
    Zipf,
    Reads,
    Mixed,
    Alone,
    New,
    Keys,
    EmbeddedSpread,
    EmbeddedReads,
)

WORKLOADS: Final[dict[str, type[BaseWorkload]]] = {workload.name: workload for workload in _ALL}
