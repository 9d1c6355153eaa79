"""Jobs of alarms in procrastinate's real tables."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta

import asyncpg
import pytest
from procrastinate import App
from procrastinate.exceptions import AlreadyEnqueued, UniqueViolation

from durable_engine.procrastinate_app import conninfo_of
from durable_engine.procrastinate_jobs import TASK, AlarmJobs, FoundJob, lock_of
from durable_storage.address import Address
from durable_storage.errors import SchemaMismatch
from durable_storage.store import DueAlarm
from tests.support.jobs import execute, jobs_in, new_app, opened_app

AT = datetime(2031, 5, 1, 9, 0, 0, 123456, tzinfo=UTC)
LATER = AT + timedelta(hours=1)


@pytest.fixture
async def app(postgres_dsn: str) -> AsyncIterator[App]:
    """A user's app on a fresh database."""
    async with opened_app(postgres_dsn) as app:
        yield app


def jobs_of(app: App, *, claim_seconds: float = 60.0) -> AlarmJobs:
    return AlarmJobs(app.connector, "durable_alarms", claim_seconds=claim_seconds, timeout_seconds=45.0)


def alarm(object_id: str = "a", at: datetime = AT, prefix: str = "") -> DueAlarm:
    return DueAlarm(Address(prefix, "Counter", object_id), "reset", at)


def changes(*alarms: DueAlarm) -> dict[str, DueAlarm | None]:
    return {lock_of(each.address, each.name): each for each in alarms}


async def take(app: App) -> int:
    """As a worker takes a job; its id."""
    job = await app.job_manager.fetch_job(None, await app.job_manager.register_worker())
    assert job is not None
    assert job.id is not None
    return job.id


async def test_a_job_carries_the_whole_address_and_the_exact_time(app: App, postgres_dsn: str) -> None:
    """parity 76, 91: prefix, object, alarm and the time to the microsecond are in the job, in the queue of alarms."""
    await jobs_of(app).replace(changes(alarm("user-1", prefix="acme")))

    [job] = await jobs_in(postgres_dsn)
    assert job["queue_name"] == "durable_alarms"
    assert job["scheduled_at"] == AT
    assert job["queueing_lock"] == '["acme", "Counter", "user-1", "reset"]'
    assert job["args"] == {
        "prefix": "acme",
        "object_type": "Counter",
        "object_id": "user-1",
        "alarm": "reset",
        "at": "2031-05-01T09:00:00.123456+00:00",
        "timeout": 45.0,
    }


async def test_an_alarm_has_exactly_one_job_at_every_moment_of_an_upsert(app: App, postgres_dsn: str) -> None:
    """parity 91: whoever looks while a job is replaced, over and over, sees one: never none, never two."""
    jobs = jobs_of(app)
    await jobs.replace(changes(alarm()))
    seen, done = set[int](), asyncio.Event()

    async def watch() -> None:
        connection = await asyncpg.connect(postgres_dsn)
        while not done.is_set():
            seen.add(await connection.fetchval("SELECT count(*) FROM procrastinate_jobs WHERE status = 'todo'"))
        await connection.close()

    watching = asyncio.create_task(watch())
    for number in range(200):
        await jobs.replace(changes(alarm(at=AT + timedelta(seconds=number))))
    done.set()
    await watching

    assert seen == {1}
    assert [job["scheduled_at"] for job in await jobs_in(postgres_dsn)] == [AT + timedelta(seconds=199)]


async def test_a_batch_replaces_takes_away_and_adds_in_one_transaction(app: App, postgres_dsn: str) -> None:
    """Some alarms are armed anew, one is cancelled, one is new: afterwards each has what it should have."""
    jobs = jobs_of(app)
    await jobs.replace(changes(alarm("a"), alarm("b"), alarm("c")))

    await jobs.replace(changes(alarm("a", LATER), alarm("d")) | {lock_of(alarm("b").address, "reset"): None})

    found = {job["args"]["object_id"]: job["scheduled_at"] for job in await jobs_in(postgres_dsn)}
    assert found == {"a": LATER, "c": AT, "d": AT}


async def test_a_refused_batch_changes_nothing(app: App, postgres_dsn: str) -> None:
    """A job of the same alarm that appears in the middle undoes the whole batch, cancellations included."""
    jobs = jobs_of(app)
    await jobs.replace(changes(alarm("a"), alarm("b")))
    before = await jobs_in(postgres_dsn)
    await execute(
        postgres_dsn,
        "CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE unique_violation; END $$;"
        "CREATE TRIGGER refuse BEFORE INSERT ON procrastinate_jobs EXECUTE FUNCTION refuse()",
    )

    with pytest.raises(UniqueViolation):
        await jobs.replace(changes(alarm("a", LATER)) | {lock_of(alarm("b").address, "reset"): None})

    assert await jobs_in(postgres_dsn) == before


async def test_a_job_in_a_workers_hands_is_left_to_it(app: App, postgres_dsn: str) -> None:
    """Arming an alarm while it fires makes a second job, and leaves the first alone."""
    jobs = jobs_of(app)
    await jobs.replace(changes(alarm(at=AT - timedelta(days=3650))))
    running = await take(app)

    await jobs.replace(changes(alarm(at=LATER)))

    assert [(job["id"] == running, job["status"]) for job in await jobs_in(postgres_dsn)] == [
        (True, "doing"),
        (False, "todo"),
    ]


async def test_looking_finds_waiting_running_and_stalled_jobs(app: App) -> None:
    """A job is stalled once a worker has had it for longer than the claim's time to live."""
    past = AT - timedelta(days=3650)
    await jobs_of(app).replace(changes(alarm("taken", past), alarm("waits"), alarm("other")))
    taken = await take(app)

    def summary(found: list[FoundJob]) -> dict[str, tuple[bool, bool]]:
        return {job.alarm.address.object_id: (job.is_running, job.is_stalled) for job in found}

    wanted = [lock_of(alarm("waits").address, "reset")]
    assert summary(await jobs_of(app).look(wanted)) == {"waits": (False, False), "taken": (True, False)}
    stalled = await jobs_of(app, claim_seconds=0.0).look(wanted)
    assert summary(stalled) == {"waits": (False, False), "taken": (True, True)}
    assert next(job for job in stalled if job.is_stalled).alarm == alarm("taken", past)
    assert next(job.id for job in stalled if job.is_stalled) == taken


async def test_a_stalled_job_is_handed_out_again(app: App, postgres_dsn: str) -> None:
    """parity 85: the very same job waits again, for any worker, and has used an attempt."""
    jobs = jobs_of(app, claim_seconds=0.0)
    await jobs.replace(changes(alarm(at=AT - timedelta(days=3650))))
    taken = await take(app)

    [stalled] = await jobs.look([])
    assert await jobs.hand_out_again(stalled)

    [job] = await jobs_in(postgres_dsn)
    assert (job["id"], job["status"], job["attempts"]) == (taken, "todo", 1)
    assert await take(app) == taken


async def test_a_stalled_job_gives_way_to_one_that_waits_already(app: App, postgres_dsn: str) -> None:
    """It is not handed out beside the job of a later arming, and can be given up; an ended one is left alone."""
    jobs = jobs_of(app, claim_seconds=0.0)
    await jobs.replace(changes(alarm(at=AT - timedelta(days=3650))))
    await take(app)
    await jobs.replace(changes(alarm(at=LATER)))
    [stalled] = await jobs.look([])

    assert not await jobs.hand_out_again(stalled)
    await jobs.give_up(stalled)
    await jobs.give_up(stalled)
    await execute(postgres_dsn, "UPDATE procrastinate_jobs SET status = 'succeeded' WHERE status = 'failed'")
    assert not await jobs.hand_out_again(stalled)

    assert [job["status"] for job in await jobs_in(postgres_dsn)] == ["succeeded", "todo"]


async def test_missing_tables_are_told_with_the_command_that_makes_them(postgres_dsn: str) -> None:
    """The message can be pasted into a shell."""
    app = new_app(postgres_dsn)
    async with app.open_async():
        with pytest.raises(SchemaMismatch, match=r"`procrastinate --app=shop\.jobs\.app schema --apply`"):
            await jobs_of(app).check("shop.jobs.app")


def test_locks_of_different_alarms_differ() -> None:
    """Whatever separators occur in ids and names, and however long they are."""
    addresses = [Address("", "C", "a/b"), Address("", "C", "a"), Address("a", "C", "b"), Address("", "C", "x" * 500)]
    names = ["b/c", 'b", "c', "é" * 100]

    locks = {lock_of(address, name) for address in addresses for name in names}

    assert len(locks) == len(addresses) * len(names)
    assert lock_of(Address("ü" * 100, "é" * 100, "é" * 256), "x") != lock_of(
        Address("ü" * 100, "é" * 100, "é" * 256), "y"
    )
    assert max(map(len, locks)) < 2_000


async def test_an_id_of_any_form_becomes_a_lock_that_procrastinate_understands(app: App) -> None:
    """Brackets, line ends and the longest id: a second job is refused as one that waits already."""
    for object_id in ("a)(b", "line\nend", "é" * 256, "\U0001f9ff" * 128):
        wanted = alarm(object_id)
        await jobs_of(app).replace(changes(wanted))
        deferrer = app.configure_task(TASK, queueing_lock=lock_of(wanted.address, wanted.name))
        with pytest.raises(AlreadyEnqueued):
            await deferrer.defer_async()


async def test_the_default_app_finds_its_tables_by_the_options_of_the_stores_url(postgres_dsn: str) -> None:
    """A search path in the URL, which asyncpg takes as it is, reaches procrastinate too."""
    await execute(postgres_dsn, 'CREATE SCHEMA "of shop"')
    url = f'{postgres_dsn}?search_path="of%20shop"&connect_timeout=7&database={postgres_dsn.rpartition("/")[2]}'

    async with opened_app(url) as app:
        assert (await app.connector.execute_query_one_async("SELECT current_schema() AS name"))["name"] == "of shop"
    await execute(postgres_dsn, 'SELECT FROM "of shop".procrastinate_jobs')


def test_a_url_without_options_is_left_as_it_is() -> None:
    """User, password, port and what libpq knows by the same name pass through."""
    url = "postgresql://me:p%40ss@db:5433/shop?sslmode=require"

    assert conninfo_of(url) == url
    assert conninfo_of("postgresql://db/shop?ssl=require") == "postgresql://db/shop?sslmode=require"
