"""pgbench, the load generator of PostgreSQL itself: single-row upserts, one commit each.

It is the ceiling of any design that commits call by call: no engine, no object, a client in C.
"""

from __future__ import annotations

import asyncio
import re
import resource
from asyncio.subprocess import PIPE, STDOUT
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from math import ceil
from pathlib import Path

import asyncpg

from durable_bench.peers.peer import NotAvailable
from durable_bench.peers.postgres import DURABILITY, TABLE, postmaster
from durable_bench.peers.processes import GRACE_SECONDS
from durable_bench.peers.scenarios import NEW_IDS_MAX
from durable_bench.peers.workers.load import Load, Outcome, histogram_us
from durable_bench.postgres_server import find_binaries, postgres_server

THREADS = 2
"""Of pgbench: on two cores more gain nothing."""
CONNECTIONS_MAX = 1_100
"""Of its server: each caller has one."""
_ADD = """\
INSERT INTO counters (id, count) VALUES ('{prefix}' || {number}, 1)
ON CONFLICT (id) DO UPDATE SET count = counters.count + 1;
"""
_READ = "SELECT count FROM counters WHERE id = '{prefix}' || {number};\n"
_RANDOM = "\\set number random(0, {last})\n"


@dataclass(frozen=True, slots=True)
class Pgbench:
    """On a PostgreSQL of its own, through its unix socket, with prepared statements."""

    name: str = "pgbench"
    durability: str = f"{DURABILITY}: one row and one commit each, synced before the reply; prepared statements"
    packages: Mapping[str, str] = field(default_factory=dict)
    scenarios: frozenset[str] = frozenset({"spread", "hot", "reads", "alone", "new"})

    async def install(self, folder: Path) -> None:
        """It comes with PostgreSQL. Raises NotAvailable, or NoPostgres."""
        _binary()

    @asynccontextmanager
    async def start(self, folder: Path, installed: Path) -> AsyncIterator[RunningPgbench]:
        """Raises NotAvailable."""
        with postgres_server(folder / "postgres", CONNECTIONS_MAX) as url:
            running = RunningPgbench(url, folder, postmaster(folder / "postgres"))
            await running.execute(TABLE)
            yield running


@dataclass(frozen=True, slots=True)
class RunningPgbench:
    """Each load is a run of pgbench."""

    url: str
    folder: Path
    servers: Sequence[int]

    async def drive(self, load: Load) -> Outcome:
        """Ids are chosen at random. Seconds are whole ones here, as pgbench takes them; connecting does not count."""
        if load.operation == "add" and load.once and load.count < NEW_IDS_MAX:
            return await self._fill(load)
        script = self.folder / "script.sql"
        script.write_text(_script(load))
        before = _children_cpu_seconds()
        said = await self._run(script, load)
        cpu = _children_cpu_seconds() - before
        logs = list(self.folder.glob("latency.*"))
        latencies = _latencies(logs)
        for log in logs:
            log.unlink()
        return _outcome(said, latencies, cpu, load)

    async def total(self, prefix: str, count: int) -> int:
        """By one query; all ids of the prefix."""
        connection = await asyncpg.connect(self.url)
        try:
            found = await connection.fetchval("SELECT sum(count) FROM counters WHERE starts_with(id, $1)", prefix)
        finally:
            await connection.close()
        return int(found or 0)

    async def execute(self, statement: str) -> None:
        """Run a statement that gives nothing back."""
        connection = await asyncpg.connect(self.url)
        try:
            await connection.execute(statement)
        finally:
            await connection.close()

    async def _fill(self, load: Load) -> Outcome:
        """Each id once, which is never measured: pgbench cannot be told to."""
        await self.execute(
            f"INSERT INTO counters SELECT '{load.prefix}' || number, 1 FROM generate_series(0, {load.count - 1}) number"
        )
        return Outcome(load.count, 1.0, {}, 0.0, {}, load.count)

    async def _run(self, script: Path, load: Load) -> str:
        threads, seconds = min(THREADS, load.callers), ceil(load.seconds)
        words = [_binary(), "-n", "-M", "prepared", "-f", script, "-c", load.callers, "-j", threads, "-T", seconds]
        log = ["-l", "--log-prefix", self.folder / "latency"]
        process = await asyncio.create_subprocess_exec(*map(str, [*words, *log, self.url]), stdout=PIPE, stderr=STDOUT)
        try:
            said, _ = await asyncio.wait_for(process.communicate(), load.seconds + GRACE_SECONDS)
        except TimeoutError:
            process.kill()
            await process.wait()
            raise NotAvailable("pgbench did not end") from None
        text = said.decode(errors="replace")
        if process.returncode:
            raise NotAvailable(f"pgbench ended with {process.returncode}: {text[-500:]}")
        return text


def _script(load: Load) -> str:
    if load.operation == "read":
        return _RANDOM.format(last=load.count - 1) + _READ.format(prefix=load.prefix, number=":number")
    if load.once:
        return _ADD.format(prefix=load.prefix, number="nextval('new_ids')")
    return _RANDOM.format(last=load.count - 1) + _ADD.format(prefix=load.prefix, number=":number")


def _outcome(said: str, latencies: list[float], cpu: float, load: Load) -> Outcome:
    calls = _number(r"number of transactions actually processed: (\d+)", said)
    failed = _number(r"number of failed transactions: (\d+)", said, 0)
    rate = _number(r"tps = ([\d.]+)", said)
    if calls == 0 or rate == 0:
        raise NotAvailable(f"pgbench processed nothing: {said[-500:]}")
    errors = {"failed transactions": int(failed)} if failed else {}
    return Outcome(int(calls), calls / rate, histogram_us(latencies), cpu, errors, load.count)


def _number(pattern: str, said: str, default: float | None = None) -> float:
    found = re.search(pattern, said)
    if found is None and default is None:
        raise NotAvailable(f"pgbench did not say {pattern!r}: {said[-500:]}")
    return float(found[1]) if found is not None else float(default or 0)


def _latencies(logs: Sequence[Path]) -> list[float]:
    """Seconds of each transaction: the third word of each line, in microseconds."""
    return [int(line.split(" ", 3)[2]) / 1e6 for log in logs for line in log.read_text().splitlines()]


def _binary() -> Path:
    found = find_binaries() / "pgbench"
    if not found.exists():
        raise NotAvailable(f"there is a PostgreSQL in {found.parent}, but no pgbench beside it")
    return found


def _children_cpu_seconds() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime
