"""Real servers for tests that take them apart."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.server import Server

MakeServer = Callable[..., Server]


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.postgres)])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """The URL of an empty store, of each kind that outlives its processes."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path}/store"
    return str(request.getfixturevalue("postgres_dsn"))


@pytest.fixture
def make_server(tmp_path: Path) -> Iterator[MakeServer]:
    """Makes servers, not started yet, and ends whatever is left of them."""
    made: list[Server] = []

    def make(store: str = f"sqlite:///{tmp_path}/store", **settings: Any) -> Server:
        made.append(Server(tmp_path, store, **settings))
        return made[-1]

    yield make
    for server in made:
        server.end()


@pytest.fixture
def server(make_server: MakeServer) -> Server:
    """A server of two shards on SQLite, started."""
    return make_server().start()
