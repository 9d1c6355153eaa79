"""One suite, three stores."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import asyncpg
import pytest

from tests.contract.rigs import MemoryRig, PostgresRig, Rig, SqliteRig


@pytest.fixture(params=["memory", "sqlite", pytest.param("postgres", marks=pytest.mark.postgres)])
def bare_rig(request: pytest.FixtureRequest, tmp_path: Path) -> Rig:
    """A place to store in, of each kind, with nothing in it."""
    match request.param:
        case "memory":
            return MemoryRig()
        case "sqlite":
            return SqliteRig(tmp_path / "store")
        case _:
            return PostgresRig(request.getfixturevalue("postgres_dsn"))


@pytest.fixture
async def rig(bare_rig: Rig) -> AsyncIterator[Rig]:
    """The same, prepared for one shard."""
    await bare_rig.control()
    yield bare_rig
    await bare_rig.close()


@pytest.fixture
async def sqlite_rig(tmp_path: Path) -> AsyncIterator[SqliteRig]:
    """SQLite, prepared for one shard."""
    rig = SqliteRig(tmp_path / "store")
    await rig.control()
    yield rig
    await rig.close()


@pytest.fixture
async def postgres_rig(postgres_dsn: str) -> AsyncIterator[PostgresRig]:
    """PostgreSQL, prepared."""
    rig = PostgresRig(postgres_dsn)
    yield rig
    await rig.close()


@pytest.fixture
async def admin(postgres_dsn: str) -> AsyncIterator[asyncpg.Connection[Any]]:
    """A connection that sees the truth."""
    connection = await asyncpg.connect(postgres_dsn)
    yield connection
    await connection.close()
