"""`durable-engine objects check` and `migrate-state`: stored rows against changed code, on real stores."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from durable_engine import stored_states
from durable_engine.cli import cli
from durable_engine.commands import states as command
from durable_shards.registry import Registry
from durable_storage.address import Address
from durable_storage.lease import Holder
from durable_storage.memory import MemoryStore, MemoryWorld
from durable_storage.migrate import down
from durable_storage.store import Claim
from durable_storage.stored_state import StoredState
from durable_storage.urls import open_control
from tests.support.server import ROOT
from tests.support.states import fill, rows

CODE = """
import itertools
import os
import signal
from typing import Any

from durable_engine import DurableObject, field, handler

calls = itertools.count(1)


class Cart(DurableObject, schema_version=2):
    items: dict[str, int] = field(default_factory=dict)

    @classmethod
    def migrate(cls, version: int, data: dict[str, Any]) -> dict[str, Any]:
        if next(calls) == int(os.environ.get("DURABLE_TEST_KILL", 0)):
            os.kill(os.getpid(), signal.SIGKILL)
        if data["items"] == ["bad"]:
            raise ValueError("no such item")
        return {"items": dict.fromkeys(data["items"], 1)}


class Plain(DurableObject):
    count: int = 0
    late: str = "new"
"""
STATES = {
    "Cart/current": b'{"$schema":2,"items":{"a":3}}',
    "Cart/old": b'{"items":["a","b"]}',
    "Cart/bad": b'{"items":["bad"]}',
    "Cart/newer": b'{"$schema":3,"items":[]}',
    "Plain/full": b'{"count":1,"late":"old"}',
    "Plain/part": b'{"count":2}',
    "Plain/wrong": b'{"count":"x"}',
    "Gone/a": b"{}",
    "Gone/b": b"{}",
}
AFTER = {
    "Cart/current": (STATES["Cart/current"], 1),
    "Cart/old": (b'{"$schema":2,"items":{"a":1,"b":1}}', 2),
    "Cart/bad": (STATES["Cart/bad"], 1),
    "Cart/newer": (STATES["Cart/newer"], 1),
    "Plain/full": (STATES["Plain/full"], 1),
    "Plain/part": (b'{"count":2,"late":"new"}', 2),
    "Plain/wrong": (STATES["Plain/wrong"], 1),
    "Gone/a": (b"{}", 1),
    "Gone/b": (b"{}", 1),
}
BAD = "migrate(version=1, ...) raised ValueError: no such item"
NEWER = "the row was written by version 3 of the class, and this code knows version 2"
WRONG = "state.count: expected int, got str"

Run = Callable[..., Result]


@pytest.fixture(params=["sqlite", pytest.param("postgres", marks=pytest.mark.postgres)])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """The URL of a store of three shards that holds STATES."""
    url = f"sqlite:///{tmp_path}/store" if request.param == "sqlite" else request.getfixturevalue("postgres_dsn")
    fill(url, STATES)
    return str(url)


@pytest.fixture
def sqlite(tmp_path: Path) -> str:
    """The same on SQLite, where the kind of store makes no difference."""
    url = f"sqlite:///{tmp_path}/store"
    fill(url, STATES)
    return url


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    """Run a command in a folder that holds CODE as shop.py."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "shop.py").write_text(CODE)
    return lambda *words: CliRunner().invoke(cli, words)


def result_of(result: Result, code: int) -> Any:
    """The JSON that a command printed."""
    assert result.exit_code == code, result.output
    return json.loads(result.stdout)


def problems(shown: dict[str, Any]) -> dict[str, str]:
    """{"Class/id": reason} of a report."""
    return {
        f"{each['class']}/{problem['id']}": problem["problem"]
        for each in shown["classes"]
        for problem in each["problems"]
    }


def test_check_tries_every_row_and_changes_none(run: Run, store: str) -> None:
    """It counts what is fine, what would be migrated and what cannot be read, and names the latter."""
    before = rows(store)
    shown = result_of(run("objects", "check", "shop.py", "--store", store, "--json"), 1)
    cart, plain = shown["classes"]
    assert {**cart, "problems": len(cart["problems"])} == {
        "class": "Cart", "rows": 4, "migrated": 1, "outdated": 1, "failed": 2, "problems": 2
    }  # fmt: skip
    assert {**plain, "problems": len(plain["problems"])} == {
        "class": "Plain", "rows": 3, "migrated": 0, "outdated": 1, "failed": 1, "problems": 1
    }  # fmt: skip
    assert shown["unknown"] == [{"class": "Gone", "rows": 2}]
    told = problems(shown)
    assert set(told) == {"Cart/bad", "Cart/newer", "Plain/wrong"}
    assert told["Cart/bad"] == BAD
    assert told["Cart/newer"].startswith(NEWER)
    assert told["Plain/wrong"] == WRONG
    assert rows(store) == before


def test_check_tells_people_the_same(run: Run, sqlite: str) -> None:
    """A table, then a line for each row that cannot be read, then the classes that the code lacks."""
    result = run("objects", "check", "shop.py", "--store", sqlite)
    lines = result.stdout.splitlines()
    assert [line.split() for line in lines[:3]] == [
        ["CLASS", "ROWS", "OK", "MIGRATED", "UNREADABLE"],
        ["Cart", "4", "1", "1", "2"],
        ["Plain", "3", "2", "0", "1"],
    ]
    assert f"Cart 'bad': {BAD}" in lines
    assert lines[-1] == "Gone: 2 rows of a class that this code does not have"
    assert result.exit_code == 1


def test_check_is_content_when_every_row_can_be_read(run: Run, sqlite: str, tmp_path: Path) -> None:
    """Rows that would be migrated are no reason to fail, nor are classes that the code does not have."""
    fine = f"sqlite:///{tmp_path}/fine"
    fill(fine, {name: STATES[name] for name in ("Cart/old", "Plain/part", "Gone/a")})
    assert run("objects", "check", "shop.py", "--store", fine).exit_code == 0
    fill(fine, {"Cart/c": STATES["Cart/current"]}, prefix="acme")
    shown = result_of(run("objects", "check", "shop.py", "--store", fine, "--prefix", "acme", "--json"), 0)
    assert [each["rows"] for each in shown["classes"]] == [1, 0]
    assert shown["unknown"] == []


def test_check_of_one_class_and_of_some_rows(run: Run, store: str) -> None:
    """--class leaves the others out, --limit tries the first rows and says so."""
    words = ("objects", "check", "shop.py", "--store", store, "--class", "Plain")
    shown = result_of(run(*words, "--json"), 1)
    assert [each["class"] for each in shown["classes"]] == ["Plain"]
    assert shown["unknown"] == []
    limited = run(*words, "--limit", "2")
    assert limited.stdout.splitlines()[1].split()[:2] == ["Plain", "2"]
    assert "Only the first 2 rows" in limited.stderr


def test_only_some_unreadable_rows_are_shown_to_people(run: Run, tmp_path: Path) -> None:
    """The rest is a number; under --json they are all there."""
    url = f"sqlite:///{tmp_path}/store"
    fill(url, {f"Plain/{n:02}": b"[]" for n in range(13)})
    lines = run("objects", "check", "shop.py", "--store", url).stdout.splitlines()
    assert sum(line.startswith("Plain '") for line in lines) == 10
    assert lines[-1] == "Plain: and 3 more"
    assert len(problems(result_of(run("objects", "check", "shop.py", "--store", url, "--json"), 1))) == 13


def test_check_looks_at_a_store_that_a_server_holds(run: Run, store: str) -> None:
    """It needs no ownership, and takes none."""

    async def hold() -> None:
        control = open_control(store)
        await control.prepare(shards=3, migrate=None)
        await control.acquire(Holder.of_this_process("here"), takeover=False)
        await control.close()

    asyncio.run(hold())
    before = rows(store)
    assert run("objects", "check", "shop.py", "--store", store).exit_code == 1
    refused = run("migrate-state", "shop.py", "--store", store)
    assert refused.exit_code == 1
    assert "this store is in use by the supervisor with pid" in refused.stderr
    assert rows(store) == before
    assert run("migrate-state", "shop.py", "--store", store, "--takeover").exit_code == 1
    assert rows(store) == AFTER


def test_migrate_state_writes_what_is_outdated_and_nothing_twice(run: Run, store: str) -> None:
    """fault F3: rows that fail are listed and left, the others migrated; a second run finds nothing to do."""
    shown = result_of(run("migrate-state", "shop.py", "--store", store, "--batch", "1", "--json"), 1)
    assert [(each["rows"], each["rewritten"], each["failed"]) for each in shown["classes"]] == [(4, 1, 2), (3, 1, 1)]
    assert set(problems(shown)) == {"Cart/bad", "Cart/newer", "Plain/wrong"}
    assert shown["unknown"] == [{"class": "Gone", "rows": 2}]
    assert rows(store) == AFTER
    again = run("migrate-state", "shop.py", "--store", store)
    assert again.exit_code == 1
    assert again.stdout.splitlines()[1].split() == ["Cart", "4", "0", "2"]
    assert f"Cart 'bad': {BAD}" in again.stdout.splitlines()
    assert rows(store) == AFTER


def test_migrate_state_of_one_class_of_a_tenant(run: Run, store: str) -> None:
    """The other classes, and the other tenants, stay as they are."""
    fill(store, STATES, prefix="acme")
    words = ("migrate-state", "shop.py", "--store", store, "--prefix", "acme", "--class", "Plain")
    assert [each["rewritten"] for each in result_of(run(*words, "--json"), 1)["classes"]] == [1]
    assert rows(store, "acme") == {
        name: AFTER[name] if name.startswith("Plain") else (state, 1) for name, state in STATES.items()
    }
    assert rows(store) == {name: (state, 1) for name, state in STATES.items()}


def test_migrate_state_that_was_killed_is_completed_by_the_next_run(run: Run, store: str, tmp_path: Path) -> None:
    """fault F3: kill -9 between two batches: no row is written twice, and none is left out."""
    many = {f"Cart/{n:03}": b'{"items":["a"]}' for n in range(60)}
    fill(store, many)
    words = [sys.executable, "-m", "durable_engine", "migrate-state", "shop.py", "--store", store, "--batch", "4"]
    paths = os.pathsep.join(str(ROOT / part) for part in ("engine", "shards", "storage"))
    killed = subprocess.run(
        words, cwd=tmp_path, env={**os.environ, "PYTHONPATH": paths, "DURABLE_TEST_KILL": "30"}, check=False
    )
    assert killed.returncode == -signal.SIGKILL
    between = [version for name, (_, version) in rows(store).items() if name in many]
    assert 0 < between.count(2) < len(many)
    assert run("migrate-state", "shop.py", "--store", store, "--batch", "4").exit_code == 1
    after = rows(store)
    assert {name: after[name] for name in many} == dict.fromkeys(many, (b'{"$schema":2,"items":{"a":1}}', 2))


async def test_a_row_that_the_store_refuses_is_named_and_the_others_written(tmp_path: Path) -> None:
    """The store's reason is in the report; the batch goes through without that row."""
    (tmp_path / "shop.py").write_text(CODE)
    spec = Registry.load([str(tmp_path / "shop.py")]).classes["Plain"]
    world = MemoryWorld()
    world.refuse(lambda change: change.address.object_id == "b")
    store = MemoryStore(world)
    await store.open(Claim("shard-0", "test", 1, "", 0, 1))
    tally = stored_states.Tally("Plain")
    page = [StoredState(name, b"{}", 1) for name in ("a", "b", "c")]
    await stored_states._rewrite_page(store, spec, "", page, tally)
    assert (tally.rows, tally.outdated, tally.rewritten, tally.failed) == (3, 3, 2, 1)
    assert [object_id for object_id, _ in tally.problems] == ["b"]
    assert tally.problems[0][1].endswith("refused on order of a test")
    assert set(world.objects) == {Address("", "Plain", "a"), Address("", "Plain", "c")}


def test_progress_goes_to_stderr(run: Run, sqlite: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """So that a long run can be watched, and its result used."""
    monkeypatch.setattr(command, "PROGRESS_SECONDS", 0.0)
    result = run("migrate-state", "shop.py", "--store", sqlite)
    assert "Cart: 4 rows read, 1 rewritten, 2 failed" in result.stderr
    assert "rows read" not in result.stdout


def test_a_report_names_a_bounded_number_of_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    """And counts them all."""
    monkeypatch.setattr(stored_states, "PROBLEMS_MAX", 2)
    tally = stored_states.Tally("Cart")
    for n in range(5):
        tally.fail(str(n), "Cart: it is bad")
    assert (tally.failed, tally.problems) == (5, [("0", "it is bad"), ("1", "it is bad")])


@pytest.mark.parametrize("words", [("objects", "check"), ("migrate-state",)])
def test_what_cannot_be_is_refused_in_one_line(run: Run, words: tuple[str, ...], tmp_path: Path) -> None:
    """Nothing is made or changed."""
    url = f"sqlite:///{tmp_path}/store"
    fill(url, {})
    before = sorted(tmp_path.rglob("*"))
    for more, code, said in (
        (("shop.py", "--store", url, "--class", "Basket"), 2, "shop.py has no class that is stored as 'Basket'"),
        (("nowhere.py", "--store", url), 2, "nowhere.py cannot be loaded: there is no file"),
        (("shop.py", "--store", "memory://"), 2, "memory:// keeps nothing that could be looked at"),
        (("shop.py", "--store", "sqlite:///nothing"), 1, "there is no store in nothing"),
        (("shop.py", "--store", "postgresql://127.0.0.1:1/x"), 3, "PostgreSQL cannot be used"),
    ):
        result = run(*words, *more)
        assert (result.exit_code, result.stdout) == (code, "")
        assert said in result.stderr.splitlines()[0]
    assert sorted(tmp_path.rglob("*")) == before


def test_a_store_of_an_older_schema_is_not_looked_at(run: Run, sqlite: str) -> None:
    """The error names the command that upgrades it."""
    asyncio.run(down(sqlite, to=0))
    result = run("objects", "check", "shop.py", "--store", sqlite)
    assert result.exit_code == 1
    assert "durable-engine migrate up" in result.stderr
