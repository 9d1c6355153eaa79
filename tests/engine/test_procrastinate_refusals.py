"""Settings of the scheduler procrastinate that cannot work: told before anything starts, with what to do."""

from __future__ import annotations

import importlib
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from click.testing import CliRunner
from procrastinate import App, SyncPsycopgConnector

from durable_engine import Engine
from durable_engine.cli import cli
from durable_engine.errors import DurableError, SchemaMismatch
from durable_engine.extras import MissingExtra
from durable_engine.procrastinate_app import default_app, load_app
from tests.engine import alarm_app
from tests.engine.alarm_app import Bell
from tests.support.jobs import new_app


async def refused(store: str, **options: Any) -> DurableError:
    """What an engine says that does not start."""
    with pytest.raises(DurableError) as caught:
        async with Engine(store, objects=[Bell], scheduler="procrastinate", **options):
            pass
    return caught.value


@pytest.fixture
def without_procrastinate(monkeypatch: pytest.MonkeyPatch) -> None:
    """As if the extra had never been installed."""

    def missing(name: str, package: str | None = None) -> ModuleType:
        if name.partition(".")[0] == "procrastinate":
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
        return importlib.import_module(name, package)

    monkeypatch.setattr("durable_engine.extras.import_module", missing)


@pytest.mark.parametrize("shards", [0, pytest.param(1, marks=pytest.mark.processes)])
@pytest.mark.parametrize("store", ["memory://", "sqlite:///{folder}"])
async def test_jobs_need_a_postgresql_store(store: str, shards: int, tmp_path: Any) -> None:
    """The message says which store to give, and which scheduler needs none."""
    error = await refused(store.format(folder=tmp_path), shards=shards)

    assert "needs a PostgreSQL store: give --store postgresql://" in error.message
    assert "deadline" in error.message


async def test_a_missing_extra_is_told_with_the_line_to_add(without_procrastinate: None) -> None:
    """parity 96: what to type, and what to write into the project, instead of a ModuleNotFoundError."""
    error = await refused("postgresql://127.0.0.1:1/none")

    assert isinstance(error, MissingExtra)
    assert 'pip install "durable-engine[procrastinate]"' in error.message
    assert "dependencies of your project" in error.message


def test_the_command_line_tells_of_a_missing_extra(without_procrastinate: None) -> None:
    """parity 96: `run` ends with one line and exit code 1, before any process is started."""
    store = ["--store", "postgresql://127.0.0.1:1/none"]
    result = CliRunner().invoke(cli, ["run", "tests.engine.alarm_app", "--scheduler", "procrastinate", *store])

    assert result.exit_code == 1
    assert 'pip install "durable-engine[procrastinate]"' in result.output


@pytest.mark.parametrize(
    ("path", "said"),
    [
        ("nowhere:app", "No module named 'nowhere'"),
        ("tests.engine.alarm_app:nothing", "has no attribute 'nothing'"),
        ("app", "cannot be imported"),
        ("tests.engine.alarm_app:Bell", "is a "),
        ("tests.engine.alarm_app.blocking", "has a SyncPsycopgConnector, which blocks; give it an async one"),
    ],
)
def test_an_app_that_is_none_is_named(path: str, said: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever is wrong with the import path, the message holds it."""
    monkeypatch.setattr(alarm_app, "blocking", App(connector=SyncPsycopgConnector()), raising=False)

    with pytest.raises(DurableError) as caught:
        load_app(path)

    assert repr(path) in caught.value.message
    assert said in caught.value.message


async def test_missing_tables_are_told_before_anything_is_served(
    postgres_dsn: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """For the user's app and for the default one, each with its own command."""
    monkeypatch.setattr(alarm_app, "app", new_app(postgres_dsn))
    own = await refused(postgres_dsn, procrastinate_app="tests.engine.alarm_app:app")
    default = await refused(postgres_dsn)

    assert isinstance(own, SchemaMismatch)
    assert "procrastinate --app=tests.engine.alarm_app.app schema --apply" in own.message
    assert "procrastinate --app=durable_engine.procrastinate_app.app schema --apply" in default.message


async def test_without_a_worker_of_its_own_an_engine_needs_an_address() -> None:
    """Objects in this very process cannot be reached by anybody else's worker."""
    error = await refused("postgresql://127.0.0.1:1/none", procrastinate_concurrency=0)

    assert "procrastinate_concurrency must be 1 or more" in error.message


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("scheduler", "oban"),
        ("procrastinate_queue", ""),
        ("procrastinate_queue", "q" * 129),
        ("procrastinate_concurrency", -1),
        ("claim_ttl", 0.5),
        ("claim_ttl", float("nan")),
    ],
)
def test_a_value_out_of_range_is_named(name: str, value: object) -> None:
    """A ValueError with the setting's name, when the engine is made."""
    options: dict[str, Any] = {"scheduler": "procrastinate", name: value}

    with pytest.raises(ValueError, match=name):
        Engine("postgresql://127.0.0.1:1/none", objects=[Bell], **options)


def test_the_default_app_asks_for_the_store(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """procrastinate's own command line finds it by DURABLE_STORE or durable.toml, and hears when there is neither."""
    module = importlib.import_module("durable_engine.procrastinate_app")
    monkeypatch.delenv("DURABLE_STORE", raising=False)
    monkeypatch.chdir(tmp_path)

    with pytest.raises(DurableError, match="set DURABLE_STORE"):
        _ = module.app
    with pytest.raises(AttributeError, match="nothing"):
        _ = module.nothing
    Path("durable.toml").write_text('store = "postgresql://127.0.0.1:1/none"\nbind = "tcp://127.0.0.1:7500"\n')
    try:
        assert isinstance(module.app, App)
        assert module.app is module.app
        assert type(module.app.connector) is type(default_app("postgresql://127.0.0.1:1/none").connector)
    finally:
        vars(module).pop("app", None)
