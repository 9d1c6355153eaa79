"""Processes of a peer: servers in groups of their own, so that none is left behind, and workers behind a pipe."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator, Iterable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import durable_bench
from durable_bench.peers.peer import NotAvailable
from durable_bench.peers.workers.load import Load, Outcome

STOP_SECONDS = 20.0
"""After SIGTERM, before SIGKILL."""
READY_SECONDS = 60.0
GRACE_SECONDS = 90.0
"""For a load to end after its time is over, and for its ids to be read."""
POLL_SECONDS = 0.1
LOG_LETTERS_MAX = 1_500
LINE_BYTES_MAX = 1 << 24


def free_port() -> int:
    """A port of loopback that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@asynccontextmanager
async def server(
    words: Sequence[str | Path], folder: Path, *, log: str = "server.log", env: Mapping[str, str] | None = None
) -> AsyncIterator[Process]:
    """A process for the time of the block, in `folder`, with what it says in a file there; `env` is added to ours."""
    with (folder / log).open("ab") as output:
        process = await _start(words, cwd=folder, env=env, stdout=output, stderr=output)
    try:
        yield process
    finally:
        await stop(process)


async def _start(words: Sequence[str | Path], *, env: Mapping[str, str] | None = None, **options: Any) -> Process:
    try:
        return await asyncio.create_subprocess_exec(
            *map(str, words), env=os.environ | dict(env or {}), start_new_session=True, **options
        )
    except OSError as error:
        raise NotAvailable(f"{words[0]} cannot be run: {error}") from error


async def stop(process: Process) -> None:
    """End a process and the group that it leads: SIGTERM first, so that it can close its store."""
    if process.returncode is None:
        process.terminate()
        try:
            await asyncio.wait_for(process.wait(), STOP_SECONDS)
        except TimeoutError:
            pass  # it is killed below
    try:
        os.killpg(process.pid, signal.SIGKILL)
    except ProcessLookupError:
        pass  # nobody of its group is left
    await process.wait()


async def until_listening(process: Process, port: int, log: Path) -> None:
    """Wait until something accepts connections at the port. Raises NotAvailable when the process ends before."""
    async with asyncio.timeout(READY_SECONDS):
        while process.returncode is None:
            try:
                _, writer = await asyncio.open_connection("127.0.0.1", port)
            except OSError:
                await asyncio.sleep(POLL_SECONDS)
                continue
            writer.close()
            return
    raise NotAvailable(f"it ended with exit code {process.returncode} as it started: {tail(log)}")


def tail(log: Path) -> str:
    """The end of a log."""
    return log.read_text(errors="replace")[-LOG_LETTERS_MAX:].strip() if log.exists() else ""


def family(pids: Iterable[int]) -> Iterator[int]:
    """These processes and all that come from them; Linux."""
    for pid in pids:
        yield pid
        try:
            tasks = [int(task.name) for task in Path(f"/proc/{pid}/task").iterdir()]
            children = [Path(f"/proc/{pid}/task/{task}/children").read_text() for task in tasks]
        except OSError:
            continue
        yield from family(int(child) for text in children for child in text.split())


def cpu_seconds(pids: Iterable[int]) -> float:
    """Processor time of these processes and all that come from them, those that ended included; in steps of 10 ms."""
    ticks = 0
    for pid in family(pids):
        try:
            # The name of the program stands in parentheses and may hold anything, so that counting begins behind it.
            behind_name = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        except OSError:
            continue
        ticks += sum(map(int, behind_name[11:15]))
    return ticks / os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True, slots=True)
class Worker:
    """A process that makes the calls (`durable_bench.peers.workers`), and the server processes that answer them."""

    process: Process
    servers: Sequence[int]
    log: Path

    async def drive(self, load: Load) -> Outcome:
        """Run a load. Raises NotAvailable when it cannot be done."""
        answer = await self._ask({"do": "drive", "load": asdict(load)}, load.seconds + GRACE_SECONDS)
        return Outcome.from_json(answer)

    async def total(self, prefix: str, count: int) -> int:
        """The sum of the counts of these ids."""
        answer = await self._ask({"do": "total", "prefix": prefix, "count": count}, GRACE_SECONDS)
        return int(answer["total"])

    async def ready(self) -> None:
        """Wait for the worker's first line."""
        await self._line(READY_SECONDS)

    async def _ask(self, question: dict[str, Any], seconds: float) -> dict[str, Any]:
        assert self.process.stdin is not None
        try:
            self.process.stdin.write(json.dumps(question).encode() + b"\n")
            await self.process.stdin.drain()
        except OSError as error:
            raise NotAvailable(f"the worker is gone: {tail(self.log)}") from error
        return await self._line(seconds)

    async def _line(self, seconds: float) -> dict[str, Any]:
        assert self.process.stdout is not None
        try:
            line = await asyncio.wait_for(self.process.stdout.readline(), seconds)
        except TimeoutError:
            raise NotAvailable(f"no answer from the worker in {seconds:.0f} s: {tail(self.log)}") from None
        try:
            answer = json.loads(line)
        except ValueError:
            raise NotAvailable(f"the worker said {line[:80]!r}: {tail(self.log)}") from None
        if "error" in answer:
            raise NotAvailable(f"the worker failed: {answer['error']}")
        return dict(answer)


@asynccontextmanager
async def worker(
    words: Sequence[str | Path],
    folder: Path,
    *,
    servers: Sequence[int] = (),
    log: str = "worker.log",
    env: Mapping[str, str] | None = None,
) -> AsyncIterator[Worker]:
    """A worker for the time of the block. Without `servers` it is its own server: the peer is a library in it."""
    path = folder / log
    with path.open("ab") as output:
        process = await _start(words, cwd=folder, env=env, stdin=PIPE, stdout=PIPE, stderr=output, limit=LINE_BYTES_MAX)
    try:
        one = Worker(process, servers or (process.pid,), path)
        await one.ready()
        yield one
    finally:
        assert process.stdin is not None
        process.stdin.close()
        await _until_ended(process)
        await stop(process)


async def _until_ended(process: Process) -> None:
    """A worker that sees the end of its pipe closes what it has open."""
    try:
        await asyncio.wait_for(process.wait(), STOP_SECONDS)
    except TimeoutError:
        pass  # whoever started it kills what is left


def python_worker(
    module: str,
    *arguments: str,
    python: Path | None = None,
    installed: Path | None = None,
    import_paths: Sequence[Path] = (),
) -> dict[str, Any]:
    """The `words` and `env` of a worker in Python: here, or in an environment that has none of our dependencies.

    The other environment sees `durable_bench`, by a link below `installed`, what is in the `import_paths`, and nothing
    else that is installed here.
    """
    name = f"durable_bench.peers.workers.{module}"
    if python is None or installed is None:
        return {"words": [sys.executable, "-m", name, *arguments]}
    link = installed / "import" / "durable_bench"
    target = Path(durable_bench.__file__).parent
    link.parent.mkdir(parents=True, exist_ok=True)
    if not (link.is_symlink() and link.readlink() == target):
        link.unlink(missing_ok=True)
        link.symlink_to(target)
    seen = os.pathsep.join(map(str, (link.parent, *import_paths)))
    return {"words": [python, "-m", name, *arguments], "env": {"PYTHONPATH": seen}}
