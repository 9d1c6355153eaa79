"""The jobs of alarms in procrastinate's tables: what is written there, and what is found.

An alarm has at most one job that waits: its `queueing_lock` names the alarm, and procrastinate's unique index holds
that for all processes. Replacing a job is one statement, and so one transaction: others see the old job or the new
one, never both and never neither, and a process that is stopped in its middle leaves no transaction open.

No `lock`: it would keep two workers from one alarm, which the object's mailbox does anyway, and a worker that was
killed would hold it against every later arming of that alarm (`docs/decisions/procrastinate.md`).
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from hashlib import sha256
from typing import Any, Final, NamedTuple

from procrastinate import sql
from procrastinate.connector import BaseConnector
from procrastinate.exceptions import ConnectorException, UniqueViolation
from procrastinate.jobs import Status
from procrastinate.manager import JobManager
from procrastinate.types import JobToDefer

from durable_engine.procrastinate_names import SCHEMA_COMMAND
from durable_storage.address import Address
from durable_storage.errors import SchemaMismatch
from durable_storage.store import DueAlarm

TASK: Final = "durable_engine:fire"
"""Name of the task that fires an alarm."""
LOCK_CHARS_MAX: Final = 1_000
"""Longer names of alarms are cut and hashed: an entry of PostgreSQL's index has 2,704 bytes at most."""

# A condition that counts what is gone makes PostgreSQL finish the deletion first: procrastinate's index would
# refuse the new job beside the old one. The text in the middle is procrastinate's own.
_REPLACE: Final = f"""
WITH gone AS (
    DELETE FROM procrastinate_jobs WHERE status = 'todo' AND queueing_lock = ANY(%(locks)s::text[]) RETURNING id
)
{sql.queries["defer_jobs"].rstrip().removesuffix(";")}
WHERE (SELECT count(*) FROM gone) >= 0
"""  # noqa: S608

# Jobs that wait are found by procrastinate's index of queueing locks. Those in workers' hands are few, and no index has
# their locks, so all of the queue are taken.
_LOOK: Final = """
SELECT id, queueing_lock, args, false AS is_running, false AS is_stalled FROM procrastinate_jobs
WHERE status = 'todo' AND queueing_lock = ANY(%(locks)s::text[])
UNION ALL
SELECT id, queueing_lock, args, true, NOT EXISTS (
    SELECT FROM procrastinate_events WHERE job_id = job.id AND type = 'started'
    AND at > now() - make_interval(secs => %(claim_seconds)s)
) FROM procrastinate_jobs AS job
WHERE status = 'doing' AND queue_name = %(queue)s AND task_name = %(task)s
"""


class FoundJob(NamedTuple):
    """The job of an alarm, waiting or in a worker's hands."""

    id: int
    lock: str
    alarm: DueAlarm
    """What it fires: it is of no use once the alarm was armed for another time."""
    is_running: bool
    is_stalled: bool
    """A worker took it longer ago than `claim_ttl`, and has not said what became of it."""


def lock_of(address: Address, name: str) -> str:
    """The `queueing_lock` of an alarm, to be read by people: its prefix, class, id and name as JSON."""
    lock = json.dumps([*address, name])
    if len(lock) <= LOCK_CHARS_MAX:
        return lock
    return f"{lock[:LOCK_CHARS_MAX]} {sha256(lock.encode()).hexdigest()}"


def arguments_of(alarm: DueAlarm, timeout_seconds: float) -> dict[str, Any]:
    """What a job carries: the whole address, prefix included, and the time, by which an old job is known as such."""
    return {
        "prefix": alarm.address.prefix,
        "object_type": alarm.address.object_type,
        "object_id": alarm.address.object_id,
        "alarm": alarm.name,
        "at": alarm.at.astimezone(UTC).isoformat(),
        "timeout": timeout_seconds,
    }


def alarm_of(arguments: Mapping[str, Any]) -> DueAlarm:
    """The inverse of `arguments_of`."""
    address = Address(arguments["prefix"], arguments["object_type"], arguments["object_id"])
    return DueAlarm(address, arguments["alarm"], datetime.fromisoformat(arguments["at"]))


class AlarmJobs:
    """The jobs of one queue. Every method raises procrastinate's ConnectorException while the database is away."""

    def __init__(self, connector: BaseConnector, queue: str, *, claim_seconds: float, timeout_seconds: float) -> None:
        self._connector = connector
        self._manager = JobManager(connector)
        self._queue = queue
        self._claim_seconds = claim_seconds
        self._timeout_seconds = timeout_seconds

    async def check(self, app: str) -> None:
        """Raises SchemaMismatch unless procrastinate's tables are there. `app` is what its own commands take."""
        if not await self._manager.check_connection_async():
            raise SchemaMismatch(
                "procrastinate's tables are not in the database of its app: make them with "
                f"`{SCHEMA_COMMAND.format(app=app)}`"
            )

    async def replace(self, changes: Mapping[str, DueAlarm | None]) -> None:
        """Make a job for each alarm in place of the one that waits, if any; None only takes the old one away.

        Under locks as of `lock_of`, all in one transaction. Raises UniqueViolation when somebody else made a job of
        one of these alarms at that very moment; then nothing was changed.
        """
        jobs = [
            JobToDefer(
                queue_name=self._queue,
                task_name=TASK,
                priority=0,
                lock=None,
                queueing_lock=lock,
                args=arguments_of(alarm, self._timeout_seconds),
                scheduled_at=alarm.at,
            )
            for lock, alarm in changes.items()
            if alarm is not None
        ]
        await self._connector.execute_query_all_async(_REPLACE, locks=list(changes), jobs=jobs)

    async def look(self, locks: Sequence[str]) -> list[FoundJob]:
        """The waiting jobs of these alarms, and all jobs of the queue that are in a worker's hands."""
        rows = await self._connector.execute_query_all_async(
            _LOOK, locks=list(locks), claim_seconds=self._claim_seconds, queue=self._queue, task=TASK
        )
        return [
            FoundJob(row["id"], row["queueing_lock"], alarm_of(row["args"]), row["is_running"], row["is_stalled"])
            for row in rows
        ]

    async def hand_out_again(self, job: FoundJob) -> bool:
        """Let another worker have a stalled job; False when it has ended, or another job of its alarm waits already."""
        try:
            await self._manager.retry_job_by_id_async(job.id, retry_at=datetime.now(UTC))
        except UniqueViolation:
            return False
        except ConnectorException as error:
            if _is_refusal(error):
                return False
            raise
        return True

    async def give_up(self, job: FoundJob) -> None:
        """Note that a stalled job failed, whose alarm does not need it any more."""
        try:
            await self._manager.finish_job_by_id_async(job.id, status=Status.FAILED, delete_job=False)
        except ConnectorException as error:
            if not _is_refusal(error):
                raise


def _is_refusal(error: ConnectorException) -> bool:
    """Whether one of procrastinate's functions said that the job is in no state for it: it has ended meanwhile."""
    return getattr(error.__cause__, "sqlstate", None) == "P0001"
