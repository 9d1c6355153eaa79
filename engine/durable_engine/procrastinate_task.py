"""The task by which a procrastinate worker fires an alarm: a call to the object, through the server's public address.

    from procrastinate import App, PsycopgConnector
    from durable_engine.procrastinate_task import install_alarms

    app = App(connector=PsycopgConnector(conninfo="postgresql://localhost/shop"))
    install_alarms(app, connect="tcp://127.0.0.1:7400")

The address belongs to the worker, not to the job: a job may wait for months, and the server move meanwhile.

A job says which arming of the alarm it fires, by its time. One that comes too late (the alarm was armed anew,
cancelled, or fired by another job) is answered with False and is done. A failure is first noted in the alarm's row,
then raised, so that procrastinate tries the job again as its strategy says; with the last attempt the alarm is parked.
"""

from __future__ import annotations

import asyncio
import logging
import os
from datetime import UTC, datetime
from typing import Any, Final

from procrastinate import App, JobContext, RetryStrategy
from procrastinate.jobs import Job
from procrastinate.retry import BaseRetryStrategy

from durable_engine.late_caller import LateCaller
from durable_engine.procrastinate_jobs import TASK, alarm_of
from durable_engine.settings import DEFAULT_ADDRESS, SETTINGS
from durable_shards.errors import EngineClosed, NotOwner, ObjectParked, Overloaded, UnknownClass
from durable_shards.outbound import Caller
from durable_shards.shard_events import problem_of
from durable_storage.errors import DurableError, PersistenceFailed, Unavailable
from durable_storage.store import DueAlarm

ATTEMPTS: Final = 3
RETRY: Final = RetryStrategy(max_attempts=ATTEMPTS - 1, exponential_wait=5)
"""procrastinate counts what comes after the first attempt: three attempts, after 5 and after 25 seconds more."""

_UNREACHED: Final = (EngineClosed, NotOwner, ObjectParked, Overloaded, Unavailable, UnknownClass)
"""The alarm's object was not told: no fault of the alarm, and not counted as one."""

_log = logging.getLogger("durable_engine.procrastinate")


class AlarmTask:
    """What the task does, and how often it did."""

    def __init__(self, caller: Caller, retry: BaseRetryStrategy) -> None:
        self._caller = caller
        self._retry = retry
        self.in_flight = 0
        self.fired = 0
        self.late_seconds_max = 0.0

    def install(self, app: App) -> None:
        """Make it a task of an app."""

        @app.task(name=TASK, retry=self._retry, pass_context=True)
        async def fire(context: JobContext, /, *, timeout: float, **arguments: Any) -> bool:
            return await self.run(context.job, alarm_of(arguments), timeout)

    async def run(self, job: Job, alarm: DueAlarm, timeout_seconds: float) -> bool:
        """Fire; whether the alarm was still armed for that time. Raises DurableError: the job is to be tried again."""
        late = (datetime.now(UTC) - alarm.at).total_seconds()
        self.late_seconds_max = max(self.late_seconds_max, late)
        self.in_flight += 1
        try:
            is_fired = await self._call(alarm, "$fire", [alarm.name, alarm.at.isoformat()], timeout_seconds)
        except DurableError as error:
            if not await self._is_to_be_tried_again(job, alarm, timeout_seconds, error):
                return False
            raise
        finally:
            self.in_flight -= 1
        self.fired += bool(is_fired)
        return bool(is_fired)

    async def _is_to_be_tried_again(self, job: Job, alarm: DueAlarm, seconds: float, error: DurableError) -> bool:
        """Note the failure in the alarm's row. False when the alarm is not armed for that time any more."""
        if isinstance(error, _UNREACHED) or (isinstance(error, PersistenceFailed) and error.retryable):
            return True
        verdict = "count" if self._retry.get_retry_exception(error, job) else "park"
        try:
            arguments = [alarm.name, alarm.at.isoformat(), problem_of(error), verdict]
            return bool(await self._call(alarm, "$alarm_failed", arguments, seconds))
        except DurableError as unnoted:
            _log.warning("that alarm %s of %s failed could not be noted: %s", alarm.name, alarm.address, unnoted)
            return True

    def _call(self, alarm: DueAlarm, handler: str, args: list[Any], seconds: float) -> asyncio.Future[Any]:
        prefix, object_type, object_id = alarm.address
        return self._caller.call(object_type, object_id, handler, args, None, prefix=prefix, timeout=seconds)


def install_alarms(app: App, *, connect: str | None = None, retry: BaseRetryStrategy = RETRY) -> LateCaller:
    """Make the workers of `app` fire alarms.

    `connect` is the address of the server (default: `DURABLE_CONNECT`, then tcp://127.0.0.1:7400). `retry` says when a
    failed firing is tried again; with its last attempt the alarm is parked. A program that goes on after its worker
    ended awaits `close()` of what is returned.
    """
    url = connect or os.environ.get(SETTINGS["connect"].envvar) or DEFAULT_ADDRESS
    caller = LateCaller(url)
    AlarmTask(caller, retry).install(app)
    return caller
