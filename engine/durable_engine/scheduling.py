"""Which scheduler of alarms a shard gets: its own, or one that needs an extra and is imported only when asked for."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

from durable_engine.extras import require
from durable_engine.procrastinate_names import PROCRASTINATE
from durable_engine.timeouts import plain_seconds
from durable_shards.alarm_settings import AlarmSettings, JobSettings
from durable_storage.errors import DurableError
from durable_storage.urls import kind_of

if TYPE_CHECKING:
    from durable_shards.outbound import Caller
    from durable_shards.schedulers import Scheduler
    from durable_shards.shard import Shard


def alarm_settings(
    *,
    alarm_poll: timedelta | float = 30.0,
    alarm_attempts: int = 10,
    alarm_backoff: timedelta | float = 1.0,
    scheduler: str = "deadline",
    procrastinate_app: str | None = None,
    procrastinate_queue: str = "durable_alarms",
    procrastinate_concurrency: int = 8,
    claim_ttl: timedelta | float = 60.0,
) -> AlarmSettings:
    """The settings of alarms by the names that users know; plain numbers are seconds. Raises ValueError."""
    return AlarmSettings(
        poll=plain_seconds(alarm_poll),
        attempts=alarm_attempts,
        backoff=plain_seconds(alarm_backoff),
        scheduler=scheduler,
        jobs=JobSettings(
            app=procrastinate_app,
            queue=procrastinate_queue,
            concurrency=procrastinate_concurrency,
            claim_ttl=plain_seconds(claim_ttl),
        ),
    )


def check_scheduler(alarms: AlarmSettings, store: str, *, is_embedded: bool = False) -> None:
    """Refuse what cannot work before anything is started. Raises DurableError, MissingExtra."""
    if alarms.scheduler != PROCRASTINATE:
        return
    if kind_of(store) != "postgresql":
        raise DurableError(
            "the scheduler procrastinate keeps its jobs in PostgreSQL, so it needs a PostgreSQL store: give --store "
            "postgresql://user@host/database, or leave the scheduler at its default, deadline"
        )
    if is_embedded and not alarms.jobs.concurrency:
        raise DurableError(
            "with shards=0 there is no address at which workers of another process could reach the objects: "
            "procrastinate_concurrency must be 1 or more, or shards"
        )
    require(PROCRASTINATE)


def make_scheduler(store: str, caller: Caller, shard: Shard) -> Scheduler:
    """The scheduler that a shard's settings ask for. Raises DurableError."""
    if shard.settings.alarms.scheduler != PROCRASTINATE:
        # A client needs none of the shard.
        from durable_shards.deadline_scheduler import deadline_scheduler  # noqa: PLC0415

        return deadline_scheduler(shard)
    require(PROCRASTINATE)
    from durable_engine.procrastinate_scheduler import ProcrastinateScheduler  # noqa: PLC0415

    return ProcrastinateScheduler(shard, store, caller)
