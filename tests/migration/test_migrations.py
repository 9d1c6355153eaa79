"""Migrations: their sum is the schema, each can be undone, and whatever is odd in a history is told."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, get_args

import apsw
import asyncpg
import pytest

from durable_storage import migrations, queries
from durable_storage.errors import SchemaMismatch, StoreInUse, StoreUnavailable
from durable_storage.lease import Holder
from durable_storage.migrate import down, sql, status, up
from durable_storage.migrations import known_migrations, latest_version
from durable_storage.queries import SQL_DIRECTORY, Dialect
from durable_storage.sqlite_layout import Layout
from durable_storage.store import AlarmRow, Claim, DueAlarm, Served, Stored
from durable_storage.urls import directory_of, open_control, open_store
from tests.contract.rigs import NOW, address, alarm, change
from tests.support.postgres import with_database

CLAIM = Claim("shard-0", "test", 1, "", 0, 1)

CATALOG = """
SELECT format('%s %s %s', relkind, relname, reloptions) AS line FROM pg_class
    WHERE relnamespace = $1::text::regnamespace AND relkind IN ('r', 'i', 'v', 'S')
UNION ALL SELECT format('%s.%s %s null=%s default=%s collate=%s', attrelid::regclass::text, attname,
        format_type(atttypid, atttypmod), NOT attnotnull, pg_get_expr(adbin, adrelid), attcollation::regcollation)
    FROM pg_attribute JOIN pg_class ON pg_class.oid = attrelid
    LEFT JOIN pg_attrdef ON adrelid = attrelid AND adnum = attnum
    WHERE relnamespace = $1::text::regnamespace AND relkind = 'r' AND attnum > 0 AND NOT attisdropped
UNION ALL SELECT conrelid::regclass || ' ' || pg_get_constraintdef(oid) FROM pg_constraint
    WHERE connamespace = $1::text::regnamespace
UNION ALL SELECT indexdef FROM pg_indexes WHERE schemaname = $1
UNION ALL SELECT pg_get_functiondef(oid) FROM pg_proc WHERE pronamespace = $1::text::regnamespace
"""


@pytest.fixture(params=["sqlite", pytest.param("postgres", marks=pytest.mark.postgres)])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """The URL of a place with nothing in it."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path}/store"
    return str(request.getfixturevalue("postgres_empty_dsn"))


@pytest.fixture
async def connection(postgres_empty_dsn: str) -> AsyncIterator[asyncpg.Connection[Any]]:
    """A connection to a database with nothing in it."""
    connection = await asyncpg.connect(postgres_empty_dsn)
    yield connection
    await connection.close()


def dialect_of(url: str) -> Dialect:
    """As the SQL files are called."""
    return "sqlite" if url.startswith("sqlite") else "postgres"


async def catalog(url: str, schema: str = "public") -> list[str]:
    """Everything that a schema consists of, in words that do not name it."""
    if url.startswith("sqlite"):
        layout = Layout(directory_of(url))
        generation = layout.current()
        assert generation is not None
        with closing(apsw.Connection(str(layout.file(generation, "", 0)))) as connection:
            return definitions(connection)
    connection = await asyncpg.connect(url)
    try:
        return sorted(line.replace(f"{schema}.", "") for (line,) in await connection.fetch(CATALOG, schema))
    finally:
        await connection.close()


def definitions(connection: apsw.Connection) -> list[str]:
    """The statements that made a SQLite file, spaces and comments aside."""
    rows = connection.execute("SELECT sql FROM sqlite_schema WHERE sql IS NOT NULL").fetchall()
    return sorted(re.sub(r"--.*|\s+|IF NOT EXISTS", " ", str(row[0])).replace(" ", "") for row in rows)


@pytest.mark.parametrize("dialect", get_args(Dialect))
def test_every_step_has_a_way_back(dialect: Dialect) -> None:
    """The files are numbered without a gap, in pairs."""
    for step in known_migrations(dialect):
        assert step.up.strip()
        assert step.down.strip()


@pytest.mark.parametrize("dialect", get_args(Dialect))
def test_every_statement_has_a_name_and_a_sentence(dialect: Dialect) -> None:
    """Loading them asserts it."""
    named = queries.queries(dialect)
    assert len(named) > 10
    assert all(statement and not statement.endswith(";") for statement in named.values())


def test_the_sqlite_schema_is_the_sum_of_its_migrations() -> None:
    """`schema.sql` is what one reads, the migrations are what is run."""
    with closing(apsw.Connection(":memory:")) as read, closing(apsw.Connection(":memory:")) as run:
        read.execute((SQL_DIRECTORY / "sqlite" / "schema.sql").read_text())
        run.execute(sql("sqlite:///x"))
        assert definitions(read) == definitions(run)


async def test_the_postgres_schema_is_the_sum_of_its_migrations(
    connection: asyncpg.Connection[Any], postgres_empty_dsn: str
) -> None:
    """`schema.sql` is what one reads, the migrations are what is run."""
    await connection.execute("CREATE SCHEMA read; SET search_path TO read")
    await connection.execute((SQL_DIRECTORY / "postgres" / "schema.sql").read_text())
    await up(postgres_empty_dsn)
    assert await catalog(postgres_empty_dsn) == await catalog(postgres_empty_dsn, "read")


async def test_up_and_down_and_up_again(url: str) -> None:
    """parity 64: step by step, and nothing stays behind."""
    latest = latest_version(dialect_of(url))
    steps = await up(url)
    assert [step.migration.version for step in steps] == list(range(1, latest + 1))
    assert await up(url) == []
    full = await catalog(url)
    for version in reversed(range(latest)):
        (step,) = await down(url, to=version)
        assert step.direction == "down"
        assert (await status(url)).current == version
    assert all("migrations" in line for line in await catalog(url))
    for version in range(1, latest + 1):
        await up(url, to=version)
    assert await catalog(url) == full


async def test_the_status_tells_what_is_to_be_done(url: str) -> None:
    """parity 64: and changes nothing."""
    known = known_migrations(dialect_of(url))
    before = await status(url)
    assert (before.current, before.latest) == (0, len(known))
    assert before.pending == tuple(step.label for step in known)
    await up(url)
    after = await status(url)
    assert (after.current, after.pending) == (len(known), ())
    assert [row.checksum for row in after.applied] == [step.checksum for step in known]


@pytest.mark.parametrize(("to", "message"), [(99, "no schema version 99"), (-1, "no schema version -1")])
async def test_a_version_that_does_not_exist_is_refused(url: str, to: int, message: str) -> None:
    """Nothing is changed."""
    with pytest.raises(SchemaMismatch, match=message):
        await up(url, to=to)
    assert (await status(url)).current == 0


async def test_up_never_goes_down(url: str) -> None:
    """Nor down up: a mistyped number must not drop tables."""
    await up(url)
    with pytest.raises(SchemaMismatch, match="is not up from there"):
        await up(url, to=0)
    await down(url, to=0)
    with pytest.raises(SchemaMismatch, match="is not down from there"):
        await down(url, to=1)


async def execute(url: str, statement: str) -> None:
    """Change the history by hand."""
    if url.startswith("sqlite"):
        layout = Layout(directory_of(url))
        generation = layout.current()
        assert generation is not None
        with closing(apsw.Connection(str(layout.file(generation, "", 0)))) as file:
            file.execute(statement)
    else:
        connection = await asyncpg.connect(url)
        await connection.execute(statement)
        await connection.close()


@pytest.mark.parametrize(
    ("statement", "message"),
    [
        (
            "INSERT INTO durable_migrations VALUES (99, 'later', 'x', {now})",
            "99, which a newer release of durable-engine made",
        ),
        (
            "INSERT INTO durable_migrations VALUES ({next}, 'later', 'x', {now})",
            "install the release that migrated it",
        ),
        ("UPDATE durable_migrations SET checksum = 'x' WHERE version = 1", "another text of 0001_initial"),
        ("UPDATE durable_migrations SET version = 5 WHERE version = 1", "changed by hand"),
    ],
)
async def test_an_odd_history_is_told_and_left_alone(url: str, statement: str, message: str) -> None:
    """fault B11: a newer release, a gap, an edited file: at every door."""
    await up(url)
    now, following = ("0" if url.startswith("sqlite") else "now()"), latest_version(dialect_of(url)) + 1
    await execute(url, statement.format(now=now, next=following))
    with pytest.raises(SchemaMismatch, match=message):
        await up(url)
    with pytest.raises(SchemaMismatch, match=message):
        await status(url)
    with pytest.raises(SchemaMismatch, match=message):
        await open_store(url).open(CLAIM)
    control = open_control(url)
    with pytest.raises(SchemaMismatch, match=message):
        await control.prepare(shards=1, migrate=True)
    await control.close()


async def test_an_interrupted_migration_leaves_nothing(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """All steps are one transaction."""
    dialect = dialect_of(url)
    known = known_migrations(dialect)
    broken = migrations.Migration(len(known) + 1, "broken", "CREATE TABLE half (a int); SELECT no_such_thing;", "")
    monkeypatch.setattr(migrations, "known_migrations", lambda _: (*known, broken))
    with pytest.raises((StoreUnavailable, SchemaMismatch)):
        await up(url)
    monkeypatch.undo()
    assert (await status(url)).current == 0
    await up(url)
    assert not any("half" in line for line in await catalog(url))


BEFORE_PARKING = {"sqlite": 1, "postgres": 2}
"""The last versions whose alarms neither recur nor are parked."""


async def test_alarms_that_were_armed_before_an_upgrade_are_armed_after_it(url: str) -> None:
    """As they were: with their payload, the attempts that failed, and nothing parked."""
    await up(url, to=BEFORE_PARKING[dialect_of(url)])
    at = str((NOW - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(microseconds=1))
    at = at if url.startswith("sqlite") else f"'{NOW.isoformat()}'"
    columns = "object_type, object_id, alarm_name, partition, scheduled_at, payload, attempts, claimed_at"
    await execute(url, f"INSERT INTO durable_alarms ({columns}) VALUES ('Counter', 'a', 'x', 7, {at}, '[1]', 2, {at})")
    await up(url)
    store = open_store(url)
    await store.open(CLAIM)
    assert await store.load([address("a")]) == [Stored(None, 0, (AlarmRow("x", NOW, b"[1]", 2),))]
    due = await store.due_alarms(Served(("Counter",), ()), NOW + timedelta(seconds=1), 10)
    assert due == [DueAlarm(address("a"), "x", NOW)]
    await store.close()


async def test_no_alarm_is_lost_on_the_way_down(url: str) -> None:
    """What the version before cannot hold is left behind: a parked alarm is armed from then on."""
    await up(url)
    store = open_store(url)
    await store.open(CLAIM)
    parked = alarm("parked", attempts=10, problem="no", is_parked=True)
    recurring = alarm("recurring", 5, b"1", recurrence="{}", tick=NOW)
    await store.commit([change("a", alarms_set=[parked, recurring])])
    await store.close()
    await down(url, to=BEFORE_PARKING[dialect_of(url)])
    await up(url)
    await store.open(CLAIM)
    (stored,) = await store.load([address("a")])
    assert stored == Stored(None, 0, (alarm("parked", attempts=10), alarm("recurring", 5, b"1")))
    await store.close()


async def test_sql_can_be_run_by_hand(url: str) -> None:
    """parity 64: it leaves what `up` and `down` leave."""
    await up(url)
    expected = await catalog(url)
    await down(url, to=0)
    await execute(url, sql(url))
    assert await catalog(url) == expected
    assert await up(url) == []
    latest = latest_version(dialect_of(url))
    await execute(url, sql(url, from_version=latest, to=0))
    assert (await status(url)).current == 0


async def test_a_store_that_was_not_migrated_names_the_command(postgres_empty_dsn: str) -> None:
    """fault B11: without the password, and nothing is made."""
    secret = postgres_empty_dsn.replace("durable@", "durable:secret@")
    for problem in ("no tables", "is at version 1"):
        with pytest.raises(SchemaMismatch, match=problem) as caught:
            await open_store(secret).open(CLAIM)
        assert f"run `durable-engine migrate up --store {postgres_empty_dsn}`" in caught.value.message
        control = open_control(secret)
        with pytest.raises(SchemaMismatch, match=problem):
            await control.prepare(shards=1, migrate=None)
        await control.close()
        await up(postgres_empty_dsn, to=1)


async def test_a_tenant_that_was_never_set_up_names_its_command(postgres_dsn: str) -> None:
    """When it is read, and when it is written; the others go on."""
    store = open_store(postgres_dsn)
    await store.open(CLAIM)
    command = f"durable-engine migrate up --store {postgres_dsn} --prefix acme"
    for prefix, problem in (("acme", command), ("public", "taken"), ("pg_x", "taken"), ("x" * 64, "63 bytes")):
        with pytest.raises(SchemaMismatch) as caught:
            await store.load([address("a", prefix=prefix)])
        assert problem in caught.value.message
        refused = await store.commit([change(address("a", prefix=prefix), b"1"), change("b", b"1")])
        assert set(refused) == {0}
        assert problem in str(refused[0])
    await up(postgres_dsn, prefix="acme")
    assert await store.commit([change(address("a", prefix="acme"), b"1")]) == {}
    await store.close()


async def test_tenants_have_no_tables_of_owners(postgres_dsn: str) -> None:
    """parity 63, 64: those exist once; each tenant counts the same versions, and can be removed alone."""
    await up(postgres_dsn, prefix="acme")
    lines = await catalog(postgres_dsn, "acme")
    assert any("durable_objects" in line for line in lines)
    assert not any("durable_hosts" in line or "durable_controller" in line for line in lines)
    assert (await status(postgres_dsn, prefix="acme")).current == latest_version("postgres")
    await down(postgres_dsn, to=0, prefix="acme")
    assert (await status(postgres_dsn)).pending == ()


async def test_another_schema_can_be_chosen_in_the_url(postgres_empty_dsn: str) -> None:
    """By PostgreSQL's own option."""
    connection = await asyncpg.connect(postgres_empty_dsn)
    await connection.execute("CREATE SCHEMA durable")
    url = f"{postgres_empty_dsn}?search_path=durable"
    await up(url)
    store = open_store(url)
    await store.open(CLAIM)
    await store.close()
    assert await connection.fetchval("SELECT count(*) FROM durable.durable_hosts") == 1
    await connection.close()
    with pytest.raises(SchemaMismatch, match="no schema of the search_path exists"):
        await up(f"{postgres_empty_dsn}?search_path=nowhere")


async def test_a_server_that_is_not_there_is_told(postgres_empty_dsn: str) -> None:
    """No server, no database."""
    with pytest.raises(StoreUnavailable) as caught:
        await open_store("postgresql://127.0.0.1:1/shop").open(CLAIM)
    assert caught.value.retryable
    missing = with_database(postgres_empty_dsn, "no_such_database")
    for attempt in (open_store(missing).open(CLAIM), up(missing)):
        with pytest.raises(StoreUnavailable, match="createdb"):
            await attempt


async def test_sqlite_files_in_use_are_not_migrated(tmp_path: Path) -> None:
    """Their owner runs the code of one version."""
    url = f"sqlite:///{tmp_path}/store"
    control = open_control(url)
    await control.prepare(shards=1, migrate=None)
    await control.acquire(Holder.of_this_process(), takeover=False)
    with pytest.raises(StoreInUse):
        await down(url, to=0)
    with pytest.raises(StoreInUse):
        await up(url)


async def test_sqlite_files_of_an_older_version_are_upgraded_at_the_start(tmp_path: Path) -> None:
    """All of them, tenants included; a shard alone refuses."""
    url = f"sqlite:///{tmp_path}/store"
    control = open_control(url)
    await control.prepare(shards=2, migrate=None)
    await down(url, to=0)
    with pytest.raises(SchemaMismatch, match="is at schema version 0"):
        await open_store(url).open(Claim("shard-1", "test", 1, "", 1, 2))
    await control.prepare(shards=2, migrate=None)
    store = open_store(url)
    await store.open(Claim("shard-1", "test", 1, "", 1, 2))
    await store.close()
