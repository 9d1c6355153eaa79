"""The worker of DBOS, which is a library: the program that calls is the one that runs the workflows. Argument: a URL.

A call is a workflow of one step, under an id of its own, as an application would take the key of a request. The step is
a transaction of a datasource, so that it takes effect once. Callers take turns on a few threads, as in a web server
with a pool: more of them only wait for the interpreter's lock.
"""

from __future__ import annotations

import asyncio
import sys
import uuid
from concurrent.futures import ThreadPoolExecutor

import sqlalchemy
from dbos import DBOS, SetWorkflowID, SQLAlchemyDatasource

from durable_bench.peers.workers.closed_loop import serve, take_stdout

THREADS = 8
_ADD = sqlalchemy.text(
    "INSERT INTO counters (id, count) VALUES (:id, 1)"
    " ON CONFLICT (id) DO UPDATE SET count = counters.count + 1 RETURNING count"
)
_READ = sqlalchemy.text("SELECT count FROM counters WHERE id = :id")
_TABLE = sqlalchemy.text("CREATE TABLE IF NOT EXISTS counters (id text PRIMARY KEY, count bigint NOT NULL)")


class Counters:
    """A workflow for each add; a read is a transaction alone, since it changes nothing."""

    def __init__(self, url: str, pool: ThreadPoolExecutor) -> None:
        self._pool = pool
        datasource = SQLAlchemyDatasource.create(url, engine_kwargs={"pool_size": THREADS})
        with datasource.engine.begin() as connection:
            connection.execute(_TABLE)

        @datasource.transaction(isolation_level="READ COMMITTED")
        def upsert(object_id: str) -> int:
            return int(datasource.sql_session().execute(_ADD, {"id": object_id}).scalar_one())

        @datasource.transaction(isolation_level="READ COMMITTED")
        def select(object_id: str) -> int:
            return int(datasource.sql_session().execute(_READ, {"id": object_id}).scalar() or 0)

        @DBOS.workflow()
        def add(object_id: str) -> int:
            return int(upsert(object_id))

        self._workflow, self._select = add, select

    async def add(self, object_id: str, /) -> int:
        return await asyncio.get_running_loop().run_in_executor(self._pool, self._add, object_id)

    async def read(self, object_id: str, /) -> int:
        return await asyncio.get_running_loop().run_in_executor(self._pool, self._select, object_id)

    def _add(self, object_id: str) -> int:
        with SetWorkflowID(str(uuid.uuid4())):
            return int(self._workflow(object_id))


def main(url: str, results: int) -> None:
    """Until the harness closes the pipe."""
    url = url.replace("postgresql://", "postgresql+psycopg://", 1)
    DBOS(config={"name": "counters", "system_database_url": url, "log_level": "WARNING"})
    with ThreadPoolExecutor(THREADS) as pool:
        counters = Counters(url, pool)
        DBOS.launch()
        try:
            asyncio.run(serve(counters, results))
        finally:
            DBOS.destroy()


if __name__ == "__main__":
    main(sys.argv[1], take_stdout())
