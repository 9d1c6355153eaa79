"""Where the benchmarked server keeps its objects: a fresh store for each run, removed afterwards."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from durable_bench.postgres_server import postgres_server

STORES = ("sqlite", "postgres")


@contextmanager
def temporary_directory(parent: Path | None) -> Iterator[Path]:
    """A folder for the stores of one run; PostgreSQL may enter it as another user."""
    with tempfile.TemporaryDirectory(prefix="durable-bench-", dir=parent) as name:
        directory = Path(name)
        directory.chmod(0o755)
        yield directory


@contextmanager
def fresh_store(kind: str, directory: Path, postgres: str | None = None) -> Iterator[str]:
    """URL of an empty store below `directory`; `postgres` is the URL of a database to use instead."""
    if kind == "sqlite":
        yield f"sqlite:///{directory / 'sqlite'}"
    elif postgres is not None:
        yield postgres
    else:
        with postgres_server(directory / "postgres") as url:
            yield url
