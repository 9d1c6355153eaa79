"""What a tenant may be called, store by store, and how tenants of a PostgreSQL database come and are upgraded."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path

import asyncpg
import pytest
from click.testing import CliRunner, Result
from hypothesis import example, given
from hypothesis import strategies as st

from durable_engine import Engine, SchemaMismatch
from durable_engine.cli import cli
from durable_storage.migrate import down, status, up
from durable_storage.sqlite_layout import Generation, Layout
from tests.engine.tenant_objects import Account

NOT_IN_POSTGRESQL = [
    ("x" * 64, "longer than the 63 bytes"),
    ("é" * 32, "longer than the 63 bytes"),
    ("public", "PostgreSQL's schema of that name is taken"),
    ("information_schema", "PostgreSQL's schema of that name is taken"),
    ("pg_catalog", "PostgreSQL's schema of that name is taken"),
    ("pg_anything", "PostgreSQL's schema of that name is taken"),
    ("other", "the schema of that name is another engine's own"),
]


async def with_schema(dsn: str, name: str) -> str:
    """The URL of an engine whose default tenant is this schema."""
    connection = await asyncpg.connect(dsn)
    await connection.execute(f'CREATE SCHEMA IF NOT EXISTS "{name}"')
    await connection.close()
    return f"{dsn}?search_path={name}"


async def test_names_that_postgresql_keeps_to_itself(postgres_dsn: str) -> None:
    """parity 64: refused when the tenant is called and when it is migrated, by name; the other calls are served."""
    await up(await with_schema(postgres_dsn, "other"))
    async with Engine(postgres_dsn, objects=[Account]) as engine:
        for name, says in NOT_IN_POSTGRESQL:
            refused, served = await asyncio.gather(
                engine.at(Account, "a", prefix=name).note("x"),
                engine.at(Account, name[:9]).note("x"),
                return_exceptions=True,
            )
            assert isinstance(refused, SchemaMismatch), name
            assert says in refused.message
            assert (refused.outcome, refused.retryable, served) == ("not_applied", False, 1)
            with pytest.raises(SchemaMismatch, match=says):
                await engine.objects(Account, prefix=name)
            with pytest.raises(SchemaMismatch, match=says):
                await engine.all_alarms(prefix=name)
            with pytest.raises(SchemaMismatch, match=says):
                await up(postgres_dsn, prefix=name)


async def test_names_that_are_as_long_as_postgresql_allows(postgres_dsn: str) -> None:
    """63 bytes; two that are the same for 62 of them are two."""
    names = ["x" * 62 + last for last in "ab"]
    async with Engine(postgres_dsn, objects=[Account]) as engine:
        for name in names:
            await up(postgres_dsn, prefix=name)
            assert await engine.at(Account, "a", prefix=name).note(name) == 1
        assert [await engine.at(Account, "a", prefix=name).read() for name in names] == [[name] for name in names]


async def test_a_tenant_without_tables_is_told_how_to_get_them(postgres_dsn: str) -> None:
    """parity 64: the message has the command; once it is done, the same engine serves the tenant."""
    async with Engine(postgres_dsn, objects=[Account]) as engine:
        with pytest.raises(SchemaMismatch, match=r"durable-engine migrate up --store .* --prefix 'new one'"):
            await engine.at(Account, "a", prefix="new one").note("x")
        await up(postgres_dsn, prefix="new one")
        assert await engine.at(Account, "a", prefix="new one").note("x") == 1
        assert await engine.objects(Account) == []


async def test_a_tenant_is_no_home(postgres_dsn: str) -> None:
    """parity 64: an engine is not opened, and nothing is migrated, where another one keeps a tenant."""
    await up(postgres_dsn, prefix="acme")
    url = await with_schema(postgres_dsn, "acme")
    for migrate in (None, True):
        with pytest.raises(SchemaMismatch, match="schema 'acme' of the database is a tenant: name the schema"):
            async with Engine(url, objects=[Account], migrate=migrate):
                pass
    with pytest.raises(SchemaMismatch, match="is a tenant"):
        await down(url, to=0)


async def test_migrate_true_makes_the_engine_s_own_tenant(postgres_empty_dsn: str) -> None:
    """parity 64: as it makes the default one; no other tenant begins by it."""
    async with Engine(postgres_empty_dsn, objects=[Account], prefix="acme", migrate=True) as engine:
        assert await engine.at(Account, "a").note("x") == 1
        with pytest.raises(SchemaMismatch, match="no tables"):
            await engine.at(Account, "a", prefix="other").note("x")


async def test_migrate_true_upgrades_every_tenant(postgres_dsn: str, caplog: pytest.LogCaptureFixture) -> None:
    """parity 64: a new release needs one start; a tenant that cannot be upgraded is told, and left out."""
    latest = (await status(postgres_dsn)).latest
    for prefix in ("acme", "broken", "zoo"):
        await up(postgres_dsn, prefix=prefix)
        await down(postgres_dsn, prefix=prefix, to=latest - 1)
    connection = await asyncpg.connect(postgres_dsn)
    await connection.execute("UPDATE broken.durable_migrations SET checksum = 'another' WHERE version = 1")
    await connection.close()
    async with Engine(postgres_dsn, objects=[Account], migrate=True) as engine:
        for prefix in ("acme", "zoo"):
            assert (await status(postgres_dsn, prefix=prefix)).current == latest
            assert await engine.at(Account, "a", prefix=prefix).note("x") == 1
        with pytest.raises(SchemaMismatch, match="another text of 0001_initial"):
            await engine.at(Account, "a", prefix="broken").note("x")
    assert "tenant 'broken' was not upgraded" in caplog.text


@pytest.mark.parametrize("name", ["é" * 50, "A" * 90, "." * 100])
async def test_names_that_no_folder_can_have(tmp_path: Path, name: str) -> None:
    """parity 63: refused whatever is asked of the tenant; the other calls are served."""
    async with Engine(f"sqlite:///{tmp_path}/data", objects=[Account]) as engine:
        refused, served = await asyncio.gather(
            engine.at(Account, "a", prefix=name).note("x"), engine.at(Account, "a").note("x"), return_exceptions=True
        )
        assert isinstance(refused, SchemaMismatch)
        assert "a file system allows 255" in refused.message
        assert served == 1
        with pytest.raises(SchemaMismatch, match="a file system allows 255"):
            await engine.objects(Account, prefix=name)


def folder_of(prefix: str) -> str:
    """The name of a tenant's folder."""
    return Layout(Path("/")).file(Generation(1, 1), prefix, 0).parent.name


@given(st.text(min_size=1, max_size=20), st.text(min_size=1, max_size=20))
@example("red", "Red")
@example("%2e", ".")
@example("..", "%2E%2E")
@example("a/b", "a%2Fb")
def test_folders_differ_where_case_does_not_count(one: str, other: str) -> None:
    """parity 63: on a file system that takes "Red" for "red", too; and none leaves the store."""
    try:
        folders = [folder_of(one), folder_of(other)]
    except UnicodeEncodeError:
        return  # a lone surrogate: no engine lets it in
    assert (folders[0].lower() == folders[1].lower()) == (one == other)
    assert all(folder not in ("", ".", "..") and "/" not in folder for folder in folders)


@pytest.fixture
def migrate(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[..., Result]:
    """Run `durable-engine migrate` in an empty directory."""
    monkeypatch.chdir(tmp_path)
    return lambda *words: CliRunner().invoke(cli, ["migrate", *words])


@pytest.mark.parametrize("command", ["up", "status", "sql"])
def test_the_command_refuses_what_can_be_no_tenant(
    migrate: Callable[..., Result], postgres_dsn: str, command: str
) -> None:
    """parity 64: one line, exit code 1, and no schema is made."""
    for name, says in (
        ("x" * 64, "longer than the 63 bytes"),
        ("x" * 201, "more than the 200 allowed"),
        ("pg_x", "schema of that name is taken"),
        ("\udcff", "prefix must be valid Unicode text"),
        ("a\0b", "prefix must not contain NUL"),
    ):
        result = migrate(command, "--store", postgres_dsn, "--prefix", name)
        assert (result.exit_code, result.stdout) == (1, "")
        assert result.stderr.startswith("error: ")
        assert says in result.stderr.splitlines()[0]


def test_the_sql_of_a_tenant_is_its_own(migrate: Callable[..., Result], postgres_dsn: str) -> None:
    """parity 64: it makes a schema, and none of the tables that there are once."""
    script = migrate("sql", "--store", postgres_dsn, "--prefix", 'we"ird').stdout
    assert 'CREATE SCHEMA IF NOT EXISTS "we""ird"' in script
    assert "durable_hosts" not in script

    async def run() -> None:
        connection = await asyncpg.connect(postgres_dsn)
        await connection.execute(script)
        await connection.close()
        assert (await status(postgres_dsn, prefix='we"ird')).pending == ()
        async with Engine(postgres_dsn, objects=[Account], prefix='we"ird') as engine:
            assert await engine.at(Account, "a").note("x") == 1

    asyncio.run(run())
