"""procrastinate's tables in a test's database, seen as an operator would see them."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import asyncpg
from procrastinate import App, PsycopgConnector

from durable_engine.procrastinate_app import conninfo_of
from tests.support.eventually import INTERVAL_SECONDS, TIMEOUT_SECONDS

_ROWS = "SELECT id, status::text, queue_name, queueing_lock, args, scheduled_at, attempts FROM procrastinate_jobs"


def new_app(url: str) -> App:
    """A user's app on a database."""
    return App(connector=PsycopgConnector(conninfo=conninfo_of(url), min_size=1, max_size=4))


@asynccontextmanager
async def opened_app(url: str) -> AsyncIterator[App]:
    """A user's app, open, with its tables made."""
    app = new_app(url)
    async with app.open_async():
        if not await app.check_connection_async():
            await app.schema_manager.apply_schema_async()
        yield app


async def jobs_in(url: str, **wanted: Any) -> list[dict[str, Any]]:
    """All jobs by id, or those with `wanted` values."""
    connection = await asyncpg.connect(url)
    try:
        rows = [dict(row) | {"args": json.loads(row["args"])} for row in await connection.fetch(f"{_ROWS} ORDER BY id")]
    finally:
        await connection.close()
    return [row for row in rows if all(row[name] == value for name, value in wanted.items())]


async def execute(url: str, statement: str, *args: Any) -> None:
    """One statement, in a connection of its own."""
    connection = await asyncpg.connect(url)
    try:
        await connection.execute(statement, *args)
    finally:
        await connection.close()


async def until(look: Callable[[], Awaitable[Any]], *, state: Callable[[], object] = str) -> Any:
    """The first true value of an async `look`; AssertionError with `state()` when there is none in time."""
    loop = asyncio.get_running_loop()
    deadline = loop.time() + TIMEOUT_SECONDS
    while not (found := await look()):
        assert loop.time() < deadline, f"not within {TIMEOUT_SECONDS:g} s; last seen: {found}; state:\n{state()}"
        await asyncio.sleep(INTERVAL_SECONDS)
    return found
