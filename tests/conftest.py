"""What the whole suite shares: short paths, and a real PostgreSQL for those who ask."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from uuid import uuid4

import pytest

from tests.support import postgres


def pytest_configure(config: pytest.Config) -> None:
    """The main process makes what all workers share."""
    if "PYTEST_XDIST_WORKER" not in os.environ:
        postgres.begin_session()


def pytest_unconfigure(config: pytest.Config) -> None:
    """... and stops what they started."""
    if "PYTEST_XDIST_WORKER" not in os.environ:
        postgres.end_session()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Whoever uses a server of PostgreSQL bears its mark."""
    for item in items:
        if isinstance(item, pytest.Function) and (
            any(name.startswith("postgres_") for name in item.fixturenames)
            or any("postgresql" in (*mark.args, mark.kwargs.get("store")) for mark in item.iter_markers("durable"))
        ):
            item.add_marker("postgres")


@pytest.fixture(scope="session", autouse=True)
def no_kill_of_ourselves() -> Iterator[None]:
    """A shard that is just being restarted has the process id 0, and kill(0) would end the whole run."""
    kill = os.kill

    def guarded(pid: int, number: int) -> None:
        assert pid > 0, f"there is no process {pid} to kill"
        kill(pid, number)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "kill", guarded)
        yield


@pytest.fixture
def tmp_path() -> Iterator[Path]:
    """An empty folder with a short path, since the path of a unix socket in it may have 107 bytes.

    pytest's own folders name the user, the run, the worker and the test.
    """
    parent = postgres.shared_directory() / "tests"
    parent.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="", dir=parent, ignore_cleanup_errors=True) as name:
        yield Path(name)


@pytest.fixture
def postgres_dsn() -> Iterator[str]:
    """The URL of a fresh database with the engine's tables in it."""
    with postgres.fresh_database(is_migrated=True) as url:
        yield url


@pytest.fixture(scope="session")
def durable_postgres() -> str:
    """Where tests marked durable(store="postgresql") make their databases."""
    return postgres.shared_url()


@pytest.fixture
def postgres_empty_dsn() -> Iterator[str]:
    """The URL of a fresh database with nothing in it."""
    with postgres.fresh_database(is_migrated=False) as url:
        yield url


@pytest.fixture
def postgres_server() -> Iterator[postgres.PostgresServer]:
    """A running server that the test may stop, crash and start again: .url, .stop("immediate"), .start()."""
    server = postgres.private_server(f"private-{uuid4().hex[:8]}").start()
    yield server
    server.remove()
