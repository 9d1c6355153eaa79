"""`run` and `status`: a server of shards, and how it does."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from durable_engine.commands.connection import connected, server_settings
from durable_engine.output import Failure, Output, table
from durable_engine.settings import Command, json_setting, positional, setting

if TYPE_CHECKING:
    from durable_engine.views import EngineStatistics
    from durable_storage.errors import DurableError


ALARM_SETTINGS = (
    "alarm_poll",
    "alarm_attempts",
    "alarm_backoff",
    "scheduler",
    "procrastinate_app",
    "procrastinate_queue",
    "procrastinate_concurrency",
    "claim_ttl",
)


def with_alarm_settings(command: Any) -> Any:
    """Give a command what says how alarms are fired."""
    for name in reversed(ALARM_SETTINGS):
        command = setting(name)(command)
    return command


@click.command(cls=Command)
@positional("objects")
@setting("shards")
@setting("store")
@setting("bind")
@setting("migrate")
@setting("takeover")
@setting("accept_data_loss")
@setting("drain_timeout")
@setting("stall_timeout")
@setting("memory_mb")
@setting("process_memory_mb")
@with_alarm_settings
@setting("log_level")
def run(
    *,
    objects: tuple[str, ...],
    shards: int,
    store: str,
    bind: str,
    migrate: bool,
    takeover: bool,
    accept_data_loss: bool,
    drain_timeout: timedelta,
    stall_timeout: timedelta,
    memory_mb: int | None,
    process_memory_mb: int | None,
    log_level: str,
    **alarms: Any,
) -> None:
    """Serve the classes of modules (shop.objects) and files (shop/objects.py) until SIGTERM.

    SIGTERM and Ctrl-C finish what was accepted, for as long as --drain-timeout allows, then stop.
    """
    from durable_engine.scheduling import alarm_settings
    from durable_engine.supervisor_config import SupervisorConfig

    try:
        config = SupervisorConfig(
            objects=objects,
            store=store,
            shards=shards,
            bind=bind,
            migrate=migrate or None,
            takeover=takeover,
            accept_data_loss=accept_data_loss,
            drain_timeout=drain_timeout.total_seconds(),
            stall_timeout=stall_timeout.total_seconds(),
            memory_bytes=memory_mb * 1024 * 1024 if memory_mb else None,
            process_bytes=process_memory_mb * 1024 * 1024 if process_memory_mb else None,
            alarms=alarm_settings(**alarms),
            log_level=log_level.upper(),
            path=(str(Path.cwd()),),
        )
    except ValueError as error:
        raise Failure(str(error), hint="durable-engine run --help", exit_code=2, kind="Usage") from None
    from durable_engine.supervise_main import run_supervisor

    errors: list[DurableError] = []
    status = run_supervisor(config, on_error=errors.append)
    if errors:
        raise errors[0]
    sys.exit(status)


@click.command(cls=Command)
@server_settings
@json_setting
@click.pass_obj
def status(output: Output, connect: str, timeout: timedelta) -> None:
    """Show once how a running server does: its shards, and counts since they started."""
    with connected(connect, timeout) as client:
        found = client.statistics()
    output.show(found, _describe(found, connect))


_COLUMNS = ("shard", "pid", "state", "epoch", "seq", "restarts")
_COUNTS = ("live", "hibernated", "turns", "failures", "gated", "memory_bytes")


def _describe(found: EngineStatistics, address: str) -> Iterator[str]:
    rows = []
    for shard in found.shards:
        row: dict[str, Any] = {name: getattr(shard, name) for name in _COLUMNS}
        row |= {name: getattr(shard.statistics, name, None) for name in _COUNTS}
        rows.append(row)
    here = sum((row["live"] or 0) + (row["hibernated"] or 0) for row in rows)
    shards = "1 shard" if len(rows) == 1 else f"{len(rows)} shards"
    objects = "1 object" if here == 1 else f"{here} objects"
    release = f"durable-engine {found.release} " if found.release else ""
    yield f"{release}at {address}: {shards}, {objects} in memory"
    yield ""
    yield from table(rows, [*_COLUMNS, *_COUNTS])
    for shard in found.shards:
        if shard.last_error:
            yield f"shard {shard.shard}: {shard.last_error}"
    for address_of_object in found.parked:
        yield f"parked, and not served: {address_of_object}"
