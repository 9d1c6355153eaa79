"""What is done about a shard whose event loop is late: its stack goes to the log, and then its process dies."""

from __future__ import annotations

import logging

from durable_engine.incarnation import Incarnation
from durable_engine.watchdog import Verdict, is_stopped
from durable_shards.board import monotonic_ms

_log = logging.getLogger("durable_engine.supervisor")


async def stalled(process: Incarnation, verdict: Verdict) -> None:
    """Act on the watchdog's verdict, which is not FINE."""
    running = process.board.read().running
    was_stopped = is_stopped(process.pid)
    stack = "" if was_stopped else await process.stack()  # it would not answer, and its successor is waited for
    if process.gone.is_set():
        return
    shard = process.shard
    where = f" in a turn of {running}" if running else ""
    age_ms = monotonic_ms() - process.board.heartbeat_ms()
    if verdict is Verdict.WARN:
        busy = "stopped by a signal" if was_stopped else "busy"
        _log.warning("shard %d has been %s for %d ms%s:\n%s", shard, busy, age_ms, where, stack)
        return
    if was_stopped or is_stopped(process.pid):
        process.condemned = False  # by whoever stopped it, not by its objects
        process.reason = f"stopped by a signal for {age_ms} ms"
        _log.error("shard %d was %s: killed", shard, process.reason)
    else:
        process.reason = f"event loop stuck for {age_ms} ms{where}"
        _log.error("shard %d: %s, killed. Its stack:\n%s", shard, process.reason, stack)
    process.kill()
