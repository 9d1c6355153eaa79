"""Alarms as jobs of procrastinate, in one process: the user's app, and a worker that the engine runs on it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

import asyncpg
import pytest
from procrastinate import RetryStrategy
from procrastinate.jobs import Job

from durable_engine import Engine
from durable_engine.embedded import Embedded
from durable_engine.errors import DurableError
from durable_engine.procrastinate_jobs import TASK, AlarmJobs, FoundJob, lock_of
from durable_engine.procrastinate_scheduler import ProcrastinateScheduler
from durable_engine.procrastinate_task import ATTEMPTS, RETRY, install_alarms
from durable_storage.address import Address
from durable_storage.migrate import up
from tests.engine import alarm_app
from tests.engine.alarm_app import Bell
from tests.support.jobs import execute, jobs_in, new_app, opened_app, until

TOMORROW = timedelta(days=1)
SOON = timedelta(milliseconds=50)
STOP_OTHERS = (
    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE query LIKE '%defer_jobs%' AND pid <> pg_backend_pid()"
)


@pytest.fixture
async def url(postgres_dsn: str, monkeypatch: pytest.MonkeyPatch) -> str:
    """A database with the tables of both, and `tests.engine.alarm_app:app` on it."""
    async with opened_app(postgres_dsn):
        pass
    app = new_app(postgres_dsn)
    install_alarms(app, retry=RetryStrategy(max_attempts=2))
    monkeypatch.setattr(alarm_app, "app", app)
    return postgres_dsn


@asynccontextmanager
async def opened(url: str, **options: Any) -> AsyncIterator[Engine]:
    settings = {"procrastinate_app": "tests.engine.alarm_app:app", "alarm_poll": 0.2, **options}
    async with Engine(url, objects=[Bell], scheduler="procrastinate", **settings) as engine:
        yield engine


async def job_of(url: str, **wanted: Any) -> dict[str, Any]:
    """The only job, once there is one with these values."""
    return dict((await until(lambda: jobs_in(url, **wanted)))[0])


async def rung(engine: Engine, object_id: str = "a", rings: int = 1, **options: Any) -> dict[str, Any]:
    """What a bell says once it has rung so often."""

    async def look() -> dict[str, Any] | None:
        said: dict[str, Any] = await engine.at(Bell, object_id, **options).get()
        return said if said["rings"] >= rings else None

    said: dict[str, Any] = await until(look)
    assert said["rings"] == rings
    return said


async def test_an_alarm_is_a_job_until_it_fires(url: str) -> None:
    """parity 76, 91: a row in procrastinate's tables, due at the exact time; fired then, not before, and gone."""
    at = datetime.now(UTC) + timedelta(seconds=1)
    async with opened(url) as engine:
        await engine.alarms(Bell, "a").schedule("ring", at=at, payload={"why": 7})
        job = await job_of(url)
        assert (job["status"], job["queue_name"], job["scheduled_at"]) == ("todo", "durable_alarms", at)
        assert job["queueing_lock"] == lock_of(Address("", "Bell", "a"), "ring")

        assert (await rung(engine))["payloads"] == [{"why": 7}]
        rung_at = await engine.at(Bell, "a").last()
        assert rung_at is not None
        assert rung_at >= at
        assert await engine.alarms(Bell, "a").pending() == []

    assert await jobs_in(url, status="todo") == []


async def test_the_queue_is_the_users_choice(url: str) -> None:
    """parity 91: jobs go into the queue that the settings name, and the engine's worker takes them from there."""
    async with opened(url, procrastinate_queue="bells") as engine:
        await engine.alarms(Bell, "later").schedule("ring", after=TOMORROW)
        assert (await job_of(url))["queue_name"] == "bells"

        await engine.at(Bell, "a").arm("ring", 0)
        await rung(engine)


async def test_arming_again_replaces_the_job(url: str) -> None:
    """parity 91: of two schedules of one name the later counts, and there is one job."""
    async with opened(url) as engine:
        alarms = engine.alarms(Bell, "a")
        await alarms.schedule("ring", after=TOMORROW, payload="first")
        first = await job_of(url)
        at = datetime.now(UTC) + SOON
        await alarms.schedule("ring", at=at, payload="second")

        assert (await rung(engine))["payloads"] == ["second"]
        await until(lambda: _is_empty(url))
        assert first["id"] not in [job["id"] for job in await jobs_in(url)]


async def _is_empty(url: str) -> bool:
    return not await jobs_in(url)


@pytest.mark.parametrize("how", ["cancel", "cancel_all", "delete"])
async def test_a_cancelled_alarm_takes_its_job_along(url: str, how: str) -> None:
    """By name, all at once, or with the object: no job is left to wait."""
    async with opened(url) as engine:
        await engine.alarms(Bell, "a").schedule("ring", after=TOMORROW)
        await job_of(url)

        if how == "delete":
            await engine.delete(Bell, "a")
        elif how == "cancel":
            await engine.alarms(Bell, "a").cancel("ring")
        else:
            await engine.alarms(Bell, "a").cancel_all()

        await until(lambda: _is_empty(url))


async def test_the_prefix_travels_with_the_job(url: str) -> None:
    """parity 91: alarms of two tenants with equal names are two jobs, and each reaches its own object."""
    await up(url, prefix="acme")
    async with opened(url) as engine:
        for prefix in ("", "acme"):
            await engine.alarms(Bell, "a", prefix=prefix).schedule("again", after=TOMORROW)
        assert len(await until(lambda: _two_jobs(url))) == 2

        await engine.alarms(Bell, "a", prefix="acme").schedule("ring", after=SOON, payload="for acme")

        assert (await rung(engine, prefix="acme"))["payloads"] == ["for acme"]
        assert (await engine.at(Bell, "a").get())["rings"] == 0
    assert {job["args"]["prefix"] for job in await jobs_in(url)} == {"", "acme"}


async def _two_jobs(url: str) -> list[dict[str, Any]] | None:
    jobs = await jobs_in(url, status="todo")
    return jobs if len(jobs) == 2 else None


async def test_a_failing_alarm_is_tried_three_times_and_parked(url: str) -> None:
    """parity 91: procrastinate tries the job twice more; then the alarm is parked, and `alarms retry` arms it anew."""
    async with opened(url) as engine:
        await engine.at(Bell, "a").arm("broken", 0)
        job = await job_of(url, status="failed")

        assert job["attempts"] == 3
        [orphan] = await engine.all_alarms(orphaned=True)
        assert (orphan.object_id, orphan.name, orphan.attempt, orphan.orphaned) == ("a", "broken", 3, "failed")
        assert str(orphan.problem).startswith("Rejected: attempt 2 cannot work")

        await engine.alarms(Bell, "a").retry("broken")

        async def failed_twice() -> bool:
            return len(await jobs_in(url, status="failed")) == 2

        await until(failed_twice)
        assert [job["attempts"] for job in await jobs_in(url)] == [3, 3]
        assert (await engine.at(Bell, "a").get())["rings"] == 0


async def test_an_attempt_that_succeeds_ends_the_retries(url: str) -> None:
    """The handler sees which attempt it is; its third one counts as done."""
    async with opened(url) as engine:
        await engine.at(Bell, "a").arm("flaky", 0)

        assert (await rung(engine))["attempts"] == [2]
        await until(lambda: _is_empty(url))
        assert await engine.all_alarms(orphaned=True) == []


async def test_an_alarm_that_arms_itself_while_it_fires_stays_armed(url: str) -> None:
    """The job under way is done with; the one of the new arming waits for its time."""
    async with opened(url) as engine:
        await engine.at(Bell, "a").arm("again", 0)
        await rung(engine)

        job = await job_of(url, status="todo")
        [pending] = await engine.alarms(Bell, "a").pending()
        assert job["scheduled_at"] == pending.at
        await until(lambda: _only_job(url))  # the worker takes the one that it is done with away
        assert pending.at > datetime.now(UTC) + timedelta(hours=23)


async def _only_job(url: str) -> dict[str, Any] | None:
    jobs = await jobs_in(url)
    return jobs[0] if len(jobs) == 1 else None


async def test_the_job_of_an_old_arming_fires_nothing(url: str) -> None:
    """A job that somebody else made, or forgot to take away, finds that the alarm is armed for another time."""
    async with opened(url) as engine:
        await engine.alarms(Bell, "a").schedule("ring", after=TOMORROW)
        job = await job_of(url)
        stale = job["args"] | {"at": "2001-01-01T00:00:00+00:00"}
        async with opened_app(url) as app:
            await app.configure_task(TASK, queue="durable_alarms").defer_async(**stale)

        await until(lambda: _only_job(url))
        assert (await engine.at(Bell, "a").get())["rings"] == 0
        assert len(await engine.alarms(Bell, "a").pending()) == 1


@pytest.mark.parametrize("jobs", ["DELETE FROM procrastinate_jobs", "SELECT"])
async def test_an_alarm_without_its_job_is_found_by_the_sweep(url: str, jobs: str) -> None:
    """A commit whose job was never written, or whose job is still that of the arming before, fires all the same."""
    async with opened(url) as engine:
        await engine.alarms(Bell, "a").schedule("ring", after=TOMORROW)
        await job_of(url)
    await execute(url, jobs)
    await execute(url, "UPDATE durable_alarms SET scheduled_at = now()")

    async with opened(url) as engine:
        await rung(engine)
        await until(lambda: _is_empty(url))


async def test_calls_go_on_while_procrastinates_tables_are_away(url: str) -> None:
    """Arming never waits for the queue: the jobs are written when it is back, the latest arming of each alarm."""
    async with opened(url) as engine:
        await execute(url, "ALTER TABLE procrastinate_jobs RENAME TO gone")
        for number in range(20):
            await engine.alarms(Bell, "a").schedule("again", after=TOMORROW, payload=number)
        at = datetime.now(UTC) + TOMORROW
        await engine.alarms(Bell, "a").schedule("again", at=at)
        await execute(url, "ALTER TABLE gone RENAME TO procrastinate_jobs")

        await job_of(url, scheduled_at=at)
        assert len(await jobs_in(url)) == 1


async def test_an_app_that_the_program_opened_stays_open(url: str) -> None:
    """The engine uses it as it is, and closes only what it opened itself."""
    async with alarm_app.app.open_async():
        async with opened(url) as engine:
            await engine.at(Bell, "a").arm("ring", 0)
            await rung(engine)

        assert await alarm_app.app.check_connection_async()


def test_three_attempts_are_the_default() -> None:
    """parity 91: as Oban's `max_attempts`, the first one included."""
    decisions = [RETRY.get_retry_exception(ValueError(), _job(attempts)) is not None for attempts in range(4)]

    assert decisions == [True, True, False, False]
    assert ATTEMPTS == 3


def _job(attempts: int) -> Job:
    return Job(queue="durable_alarms", lock=None, queueing_lock=None, task_name=TASK, attempts=attempts)


async def test_the_default_app_keeps_its_jobs_in_the_stores_database(url: str) -> None:
    """Without `procrastinate_app` nothing has to be written: the store's URL is enough."""
    async with opened(url, procrastinate_app=None) as engine:
        await engine.at(Bell, "a").arm("ring", 0)
        await rung(engine)


async def test_an_alarm_armed_during_a_sweep_keeps_its_job(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """What the sweep read before the commit does not undo what the commit asked for."""
    async with opened(url, alarm_poll=3600.0) as engine:
        alarms = engine.alarms(Bell, "a")
        await alarms.schedule("ring", after=timedelta(minutes=1))
        await job_of(url)
        at = datetime.now(UTC) + timedelta(minutes=2)

        async def look(self: AlarmJobs, locks: Sequence[str]) -> list[FoundJob]:
            assert len(locks) == 1
            await alarms.schedule("ring", at=at)
            await job_of(url, scheduled_at=at)
            return []  # as if the job that the sweep looks for were missing

        monkeypatch.setattr(AlarmJobs, "look", look)
        scheduler = _scheduler_of(engine)
        await scheduler.sweep()

        await scheduler._outbox.emptied()  # whatever the sweep asked for is written by now
        assert [job["scheduled_at"] for job in await jobs_in(url)] == [at]


async def test_a_fenced_shard_writes_no_more_jobs(url: str) -> None:
    """Its alarms are another shard's, which may have armed them anew."""
    async with opened(url) as engine:
        scheduler = _scheduler_of(engine)
        async with AsyncExitStack() as later:
            connection = await asyncpg.connect(url)
            later.push_async_callback(connection.close)
            async with connection.transaction():
                await connection.execute("LOCK TABLE procrastinate_jobs IN ACCESS EXCLUSIVE MODE")
                await engine.alarms(Bell, "a").schedule("ring", after=TOMORROW)
                async with Engine(url, objects=[Bell], takeover=True):
                    await until(lambda: _is_fenced(engine))
                    await execute(url, STOP_OTHERS)
    assert scheduler.statistics().armed == 1
    assert await jobs_in(url) == []


async def _is_fenced(engine: Engine) -> bool:
    with pytest.raises(DurableError):
        await engine.at(Bell, "b").arm("ring", 86_400)
    return True


def _scheduler_of(engine: Engine) -> ProcrastinateScheduler:
    assert isinstance(engine._backend, Embedded)
    assert engine._backend._shard.alarms is not None
    scheduler = engine._backend._shard.alarms.scheduler
    assert isinstance(scheduler, ProcrastinateScheduler)
    return scheduler
