"""The scheduler `procrastinate`: a job in procrastinate's tables triggers each alarm, and a worker of procrastinate's
runs it.

The rows of `durable_alarms` stay the truth. They commit with the state; the job is written after that, so a crash in
between leaves an alarm without a job, and a job may be there that no alarm needs any more. The second kind fires
nothing. The first kind is found by the sweep, on start and every `alarm_poll`: it compares the alarms that are due
soon with their jobs, and makes what is missing. It also hands out again what a worker took longer ago than
`claim_ttl` and never finished.

Who has which job since when stands in procrastinate's tables, and only there: a second record in `durable_alarms`
(`claimed_at`) could only disagree with it.

Jobs are made through the connection of the user's app, and fired by the user's workers. Besides, each shard runs a
worker of its own, for this queue and this task alone, unless `procrastinate_concurrency` is 0.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Sequence
from datetime import timedelta
from typing import Final

from procrastinate import App
from procrastinate.exceptions import AppNotOpen, ConnectorException
from psycopg import Error as PsycopgError

from durable_engine.procrastinate_app import default_app, load_app
from durable_engine.procrastinate_jobs import TASK, AlarmJobs, FoundJob, lock_of
from durable_engine.procrastinate_names import DEFAULT_APP
from durable_engine.procrastinate_outbox import Outbox
from durable_engine.procrastinate_task import RETRY, AlarmTask
from durable_shards.outbound import Caller
from durable_shards.schedulers import Failed, Fire
from durable_shards.shard import Shard
from durable_shards.statistics import SchedulerStatistics
from durable_storage.address import Address, partition_of
from durable_storage.errors import StoreUnavailable
from durable_storage.store import AlarmRow, DueAlarm

SWEEP_ROWS: Final = 2_000
"""Alarms that one sweep looks at, the soonest first. Those behind them come nearer as these are fired."""
TIMEOUT_SHARE: Final = 0.75
"""Part of `claim_ttl` that a firing may take, so that it has ended before it is handed out again."""
POLL_SECONDS: Final = 1.0
"""How often our own workers look for jobs whose time has come; procrastinate tells them only of new ones."""
STOP_SECONDS: Final = 1.0
"""How long a worker that is stopped waits for the firings in flight; then their jobs are given back."""
FLUSH_SECONDS: Final = 2.0
"""How long a closing shard goes on writing jobs; the next owner's sweep finds the rest."""
WORKER_PAUSE_SECONDS: Final = 1.0
"""Before a worker that ended by itself, because the database was away, is started again."""

_log = logging.getLogger("durable_engine.procrastinate")


class ProcrastinateScheduler:
    """Implements `durable_shards.schedulers.Scheduler`."""

    def __init__(self, shard: Shard, store: str, caller: Caller) -> None:
        self._shard = shard
        self._settings = settings = shard.settings.alarms.jobs
        self._app = load_app(settings.app) if settings.app else default_app(store)
        self._jobs = AlarmJobs(
            self._app.connector,
            settings.queue,
            claim_seconds=settings.claim_ttl,
            timeout_seconds=settings.claim_ttl * TIMEOUT_SHARE,
        )
        self._outbox = Outbox(self._jobs.replace)
        installed = self._app.tasks.get(TASK)
        self._task = AlarmTask(caller, (installed and installed.retry_strategy) or RETRY)
        self._touched: set[str] | None = None
        """During a sweep, the alarms that commits changed since it began: what it has read of them is old."""
        self._opened = False
        self._work: list[asyncio.Task[None]] = []
        self._worker: asyncio.Task[None] | None = None

    async def start(self, fire: Fire, failed: Failed) -> None:
        """See `Scheduler`. `fire` is of no use here, since an alarm of any shard may come to any worker.

        Raises SchemaMismatch, StoreUnavailable.
        """
        try:
            await self._open()
            await self._jobs.check((self._settings.app or DEFAULT_APP).replace(":", "."))
        except (ConnectorException, PsycopgError) as error:
            raise StoreUnavailable(f"the database of the procrastinate app: {error.__cause__ or error}") from error
        self._work = [asyncio.create_task(self._outbox.run()), asyncio.create_task(self._sweep_for_ever())]
        if self._settings.concurrency:
            self._worker = asyncio.create_task(self._work_for_ever())

    async def _open(self) -> None:
        """Open the user's app, unless the program that we are part of did so."""
        try:
            await self._app.check_connection_async()
        except AppNotOpen:
            await self._app.open_async()
            self._opened = True

    # What commits tell.

    def armed(self, address: Address, rows: Sequence[AlarmRow]) -> None:
        """See `Scheduler`. A row that counts a failure is left to its job, which procrastinate tries again."""
        for row in rows:
            if not row.attempts:
                self._wish(lock_of(address, row.name), DueAlarm(address, row.name, row.at))

    def disarmed(self, address: Address, names: Sequence[str]) -> None:
        """See `Scheduler`."""
        for name in names:
            self._wish(lock_of(address, name), None)

    def _wish(self, lock: str, alarm: DueAlarm | None) -> None:
        if self._touched is not None:
            self._touched.add(lock)
        self._outbox.put(lock, alarm)

    # The sweep.

    async def _sweep_for_ever(self) -> None:
        while True:
            try:
                await self.sweep()
            except Exception as error:
                _log.warning("the jobs of alarms could not be looked at: %s", error.__cause__ or error)
            await asyncio.sleep(self._shard.settings.alarms.poll)

    async def sweep(self) -> None:
        """See to it that every alarm that is due within two `alarm_poll` has a job that will fire it."""
        shard = self._shard
        before = shard.clock.now() + timedelta(seconds=2 * shard.settings.alarms.poll)
        self._touched = touched = set[str]()
        try:
            due = await shard.store.due_alarms(shard.registry.served(), before, SWEEP_ROWS)
            wanted = {lock_of(alarm.address, alarm.name): alarm for alarm in due}
            provided = set[str]()
            for job in await self._jobs.look(list(wanted)):
                if await self._provides(job, wanted.get(job.lock)):
                    provided.add(job.lock)
            for lock in wanted.keys() - provided - touched:
                self._outbox.put(lock, wanted[lock])
        finally:
            self._touched = None

    async def _provides(self, job: FoundJob, alarm: DueAlarm | None) -> bool:
        """Whether an alarm's job will fire it. One that a worker never finished is handed to another, if it would."""
        if not job.is_stalled:
            return job.alarm == alarm
        if job.alarm == alarm and await self._jobs.hand_out_again(job):
            return True
        if partition_of(*job.alarm.address) in self._shard.settings.owned:
            await self._jobs.give_up(job)
        return False

    # A worker of our own.

    async def _work_for_ever(self) -> None:
        """Run jobs through the user's connection, but none of the user's tasks."""
        app = App(connector=self._app.connector)
        self._task.install(app)
        while True:
            try:
                await app.run_worker_async(
                    queues=[self._settings.queue],
                    name=f"durable-shard-{self._shard.settings.shard}",
                    concurrency=self._settings.concurrency,
                    fetch_job_polling_interval=POLL_SECONDS,
                    shutdown_graceful_timeout=STOP_SECONDS,
                    delete_jobs="successful",
                    install_signal_handlers=False,
                )
                problem: object = "it ended"
            except Exception as error:
                problem = error.__cause__ or error
            _log.warning("the worker for alarms is started again: %s", problem)
            await asyncio.sleep(WORKER_PAUSE_SECONDS)

    # The end.

    def statistics(self) -> SchedulerStatistics:
        """See `Scheduler`: `armed` are those whose jobs are not written yet, the rest is our own worker's."""
        task = self._task
        return SchedulerStatistics(len(self._outbox), task.in_flight, task.fired, task.late_seconds_max)

    def pause(self) -> None:
        """See `Scheduler`. The users' own workers go on, and find the next owner of the partitions."""
        if self._worker is not None:
            self._worker.cancel()
        if self._shard.stopped is not None:
            for task in self._work:  # the alarms are another shard's by now, and what waits here may be old
                task.cancel()

    async def close(self) -> None:
        """See `Scheduler`. What could not be written in time is left to the next owner's sweep."""
        self.pause()
        if self._worker is not None:
            await asyncio.wait((self._worker,), timeout=STOP_SECONDS + FLUSH_SECONDS)
        if self._work:
            await self._flush()
            for task in self._work:
                task.cancel()
            await asyncio.wait(self._work)
        if self._opened:
            await self._app.close_async()

    async def _flush(self) -> None:
        if self._shard.stopped is not None:
            return
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(FLUSH_SECONDS):
                await self._outbox.emptied()
