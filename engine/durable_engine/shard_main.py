"""What a forked shard process runs: the shard of `durable_shards.process` with a client for calls between
objects.

Shards know nothing of the engine above them, so the way to other shards, which is a client like any other, is
given to them here, and so is the scheduler of their alarms.
"""

from __future__ import annotations

import asyncio

from durable_engine.late_caller import LateCaller
from durable_engine.scheduling import make_scheduler
from durable_shards import process
from durable_shards.control import Inheritance, ShardConfig
from durable_shards.schedulers import Scheduler
from durable_shards.shard import Shard


def run_shard(inheritance: Inheritance) -> int:
    """Be a shard; the exit code."""
    return process.main(inheritance, _make_caller, _make_scheduler)


def _make_caller(config: ShardConfig, _loop: asyncio.AbstractEventLoop) -> LateCaller:
    return LateCaller(config.supervisor, for_turns=True)


def _make_scheduler(config: ShardConfig, caller: process.ObjectCaller, shard: Shard) -> Scheduler:
    return make_scheduler(config.store, caller, shard)
