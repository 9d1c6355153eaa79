"""What is called: `WORKLOADS` has each workload under its name."""

from __future__ import annotations

from typing import Final

from durable_bench.errors import LostUpdate
from durable_bench.workloads import chains, cold, counters, documents, flights, smallbank, ycsb
from durable_bench.workloads.base import BaseWorkload, Ledger, Share, Workload

__all__ = ["WORKLOADS", "BaseWorkload", "Ledger", "LostUpdate", "Share", "Workload"]

_ALL: Final[tuple[type[BaseWorkload], ...]] = (
    counters.Spread,
    counters.Hot,
    counters.Zipf,
    counters.Reads,
    counters.Mixed,
    counters.Alone,
    counters.New,
    counters.Keys,
    counters.EmbeddedSpread,
    counters.EmbeddedReads,
    cold.Cold,
    cold.ColdStorm,
    documents.State1K,
    documents.State10K,
    documents.State100K,
    chains.FanOut,
    chains.Chain,
    ycsb.YcsbA,
    ycsb.YcsbB,
    ycsb.YcsbC,
    ycsb.YcsbD,
    ycsb.YcsbE,
    ycsb.YcsbF,
    smallbank.SmallBank,
    flights.Flights,
)

WORKLOADS: Final[dict[str, type[BaseWorkload]]] = {workload.name: workload for workload in _ALL}
