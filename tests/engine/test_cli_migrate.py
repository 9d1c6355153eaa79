"""`durable-engine migrate` on real stores."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import apsw
import asyncpg
import pytest
from click.testing import CliRunner, Result

from durable_engine.cli import cli

Migrate = Callable[..., Result]


@pytest.fixture
def migrate(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Migrate:
    """Run `durable-engine migrate` in an empty directory, with no terminal."""
    monkeypatch.chdir(tmp_path)
    return lambda *words: CliRunner().invoke(cli, ["migrate", *words])


def result_of(result: Result) -> Any:
    """The JSON that a command printed."""
    assert result.exit_code == 0, result.stderr
    return json.loads(result.stdout)


def there_and_back(migrate: Migrate, *where: str) -> None:
    """Up, up again, down by one, up by one, down to nothing."""
    fresh = result_of(migrate("status", *where, "--json"))
    assert (fresh["current"], fresh["applied"], len(fresh["pending"])) == (0, [], fresh["latest"])
    latest = fresh["latest"]
    steps = result_of(migrate("up", *where, "--json"))
    assert [(step["direction"], step["version"]) for step in steps] == [("up", one + 1) for one in range(latest)]
    assert migrate("up", *where).stdout == f"already up to date: version {latest}\n"
    done = result_of(migrate("status", *where, "--json"))
    assert (done["current"], done["pending"]) == (latest, [])
    assert migrate("status", *where).stdout.startswith(f"version {latest} of {latest}\n")
    down = result_of(migrate("down", *where, "--to", str(latest - 1), "--yes", "--json"))
    assert [(step["direction"], step["version"]) for step in down] == [("down", latest)]
    assert len(result_of(migrate("up", *where, "--to", str(latest), "--json"))) == 1
    assert len(result_of(migrate("down", *where, "--to", "0", "--yes", "--json"))) == latest
    assert result_of(migrate("status", *where, "--json"))["current"] == 0


def test_a_sqlite_store_goes_up_and_down(migrate: Migrate) -> None:
    """Every step is told, and nothing is done twice."""
    there_and_back(migrate, "--store", "sqlite:///data")


def test_a_postgresql_database_goes_up_and_down(migrate: Migrate, postgres_empty_dsn: str) -> None:
    """parity 64: so does a database, and a tenant in it, which the other does not touch."""
    there_and_back(migrate, "--store", postgres_empty_dsn)
    result_of(migrate("up", "--store", postgres_empty_dsn, "--json"))
    there_and_back(migrate, "--store", postgres_empty_dsn, "--prefix", "acme")
    assert result_of(migrate("status", "--store", postgres_empty_dsn, "--json"))["pending"] == []


@pytest.mark.parametrize("store", ["sqlite:///data", "postgresql://nobody@127.0.0.1:1/none"])
def test_sql_prints_the_steps_and_connects_to_nothing(migrate: Migrate, store: str) -> None:
    """What would be run, both ways; the directory stays empty."""
    up = migrate("sql", "--store", store)
    assert up.exit_code == 0, up.stderr
    assert "CREATE TABLE" in up.stdout
    assert result_of(migrate("sql", "--store", store, "--json"))["sql"].rstrip() == up.stdout.rstrip()
    down = migrate("sql", "--store", store, "--from", "1", "--to", "0")
    assert "DROP TABLE" in down.stdout
    assert list(Path().iterdir()) == []


def test_going_down_without_a_terminal_wants_yes(migrate: Migrate) -> None:
    """Nobody can be asked, so nothing is done."""
    result_of(migrate("up", "--store", "sqlite:///data", "--json"))
    refused = migrate("down", "--store", "sqlite:///data", "--to", "0")
    assert (refused.exit_code, refused.stdout) == (2, "")
    assert "hint: add --yes" in refused.stderr
    assert result_of(migrate("status", "--store", "sqlite:///data", "--json"))["pending"] == []


@pytest.mark.parametrize(
    ("words", "code", "says"),
    [
        (["up", "--store", "sqlite:///data", "--to", "99"], 1, "there is no schema version 99"),
        (["up", "--store", "sqlite:///data", "--to", "-1"], 2, "-1"),
        (["up", "--store", "oracle://x"], 2, "no store is called 'oracle'"),
        (["up", "--store", "postgresql://127.0.0.1:1/x"], 3, "PostgreSQL cannot be used"),
        (["down", "--store", "sqlite:///data", "--yes"], 2, "Missing option '--to'"),
    ],
)
def test_a_migration_that_cannot_be_is_refused(migrate: Migrate, words: list[str], code: int, says: str) -> None:
    """One line says why."""
    result = migrate(*words)
    assert (result.exit_code, result.stdout) == (code, "")
    assert result.stderr.startswith("error: ")
    assert says in result.stderr.splitlines()[0]


def test_the_question_before_going_down_hides_the_password(migrate: Migrate, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is asked may be seen by others."""
    monkeypatch.setattr("durable_engine.output.at_terminal", lambda: True)
    result = migrate("down", "--store", "postgresql://me:secret@127.0.0.1:1/shop", "--to", "0")
    assert "postgresql://me@127.0.0.1:1/shop" in result.stderr
    assert "everything that is stored there" in result.stderr
    assert "secret" not in result.stderr


def test_status_says_what_was_found_and_up_says_that_there_is_nothing_left(migrate: Migrate) -> None:
    """parity 100: no tables yet, some of the versions, up to date: each has its words, and says what to run."""
    where = ("--store", "sqlite:///data")
    none = migrate("status", *where).stdout
    assert none.startswith("version 0 of ")
    assert "no tables of durable-engine found; `durable-engine migrate up` creates them" in none
    migrate("up", *where, "--to", "1")
    migrate("up", *where)
    done = migrate("status", *where).stdout
    assert done.endswith("up to date\n")
    assert "missing" not in done
    assert migrate("up", *where).stdout.startswith("already up to date: version ")


@pytest.mark.parametrize("words", [["status"], ["up"], ["down", "--to", "0", "--yes"]])
def test_sqlite_tables_without_a_history_are_left_alone(migrate: Migrate, words: list[str]) -> None:
    """parity 100: tables of an unknown version are neither guessed at nor touched, and the message says so."""
    where = ("--store", "sqlite:///data")
    migrate("up", *where)
    [file] = Path("data").rglob("shard-*.sqlite3")
    with closing(apsw.Connection(str(file))) as connection:
        connection.execute("DELETE FROM durable_migrations")
    refused = migrate(*words, *where)
    assert (refused.exit_code, refused.stdout) == (1, "")
    assert "has a table durable_objects, but no history of migrations" in refused.stderr
    with closing(apsw.Connection(str(file))) as connection:
        assert connection.table_exists("main", "durable_objects")


def test_postgresql_tables_without_a_history_are_left_alone(migrate: Migrate, postgres_dsn: str) -> None:
    """parity 100: nor are those of a database, whether the history is empty or gone."""
    for statement in ("DELETE FROM durable_migrations", "DROP TABLE durable_migrations"):
        asyncio.run(execute(postgres_dsn, statement))
        refused = migrate("up", "--store", postgres_dsn)
        assert (refused.exit_code, refused.stdout) == (1, "")
        assert "schema 'public' of the database has a table durable_objects, but no history" in refused.stderr


async def execute(url: str, statement: str) -> None:
    """Run one statement."""
    connection = await asyncpg.connect(url)
    try:
        await connection.execute(statement)
    finally:
        await connection.close()
