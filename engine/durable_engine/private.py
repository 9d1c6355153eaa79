"""`Engine(..., shards=N)`: a supervisor of one's own, in processes of its own.

It is started by exec, never by fork, so that the program may have threads, sockets and event loops; it is the
same program as `durable-engine run`, listens on a socket in a private directory, and lives no longer than the pipe it
gets its settings through.
"""

from __future__ import annotations

import asyncio
import contextlib
import importlib.util
import logging
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import msgspec

from durable_engine.supervisor_config import SupervisorConfig
from durable_shards.errors import error_from_wire
from durable_shards.spec import spec_of
from durable_storage.errors import DurableError

STOP_SECONDS: Final = 5.0
"""Beyond the drain time, until a supervisor that does not stop is killed."""
_MARK: Final = "DURABLE_SUPERVISED_BY"

_logger = logging.getLogger(__name__)


class PrivateSupervisor:
    """A running supervisor process. Made by `start`."""

    def __init__(self, process: subprocess.Popen[bytes], directory: Path, endpoint: str, drain: float) -> None:
        self._process = process
        self._directory = directory
        self._drain_seconds = drain
        self.endpoint = endpoint

    @classmethod
    async def start(cls, config: SupervisorConfig, directory: Path) -> PrivateSupervisor:
        """Start it and wait until all shards serve. Raises the error that kept it from starting."""
        environment = {
            **os.environ,
            "PYTHONPATH": os.pathsep.join(entry or str(Path.cwd()) for entry in sys.path),
            _MARK: str(os.getpid()),
        }
        process = subprocess.Popen(  # noqa: ASYNC220 - milliseconds, and no child watcher is needed
            [sys.executable, "-P", "-m", "durable_engine", "_supervise"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=environment,
            start_new_session=True,  # a Ctrl-C is for the program, which then stops its engine in good order
        )
        supervisor = cls(process, directory, config.bind, config.drain_timeout)
        assert process.stdin is not None
        try:
            process.stdin.write(config.to_json() + b"\n")
            process.stdin.flush()
            supervisor.endpoint = await supervisor._until_ready()
        except BrokenPipeError:
            await supervisor.stop()
            raise DurableError("the supervisor process ended before it could start; its log is on stderr") from None
        except BaseException:
            await supervisor.stop()
            raise
        return supervisor

    async def _until_ready(self) -> str:
        """The endpoint. Whatever the user's modules print before is passed on."""
        async for line in _lines(self._process):
            try:
                answer = msgspec.json.decode(line)
            except msgspec.MsgspecError:
                answer = None
            if isinstance(answer, dict) and answer.get("ready") is True:
                return str(answer["endpoint"])
            if isinstance(answer, dict) and "error" in answer:
                raise error_from_wire(answer["error"])
            sys.stderr.write(line.decode(errors="replace"))
        status = await asyncio.to_thread(self._process.wait)
        raise DurableError(
            f"the supervisor process ended with status {status} before it was ready; its log is on stderr"
        )

    async def stop(self) -> None:
        """Let it drain and end; kill it when it does not."""
        process = self._process
        with contextlib.suppress(BrokenPipeError):
            if process.stdin is not None:
                process.stdin.close()
        try:
            await asyncio.to_thread(process.wait, self._drain_seconds + STOP_SECONDS)
        except subprocess.TimeoutExpired:
            _logger.error("the supervisor (pid %d) did not stop in time and is killed", process.pid)
            process.kill()
            await asyncio.to_thread(process.wait)
        finally:
            if process.stdout is not None:
                process.stdout.close()
            shutil.rmtree(self._directory, ignore_errors=True)


async def start_private(
    store: str, objects: Sequence[type | str], shards: int, settings: dict[str, Any]
) -> PrivateSupervisor:
    """Start a supervisor with `shards` shards for this program alone."""
    if _MARK in os.environ:
        raise DurableError(
            "an engine with shard processes was started inside a shard process: the module that declares the objects "
            'starts it when it is imported. Start it under `if __name__ == "__main__":`'
        )
    directory = Path(tempfile.mkdtemp(prefix="durable-"))
    try:
        config = SupervisorConfig(
            objects=tuple(importable(each) for each in objects),
            store=store,
            shards=shards,
            bind=f"ipc://{directory}/engine",
            path=tuple(entry or str(Path.cwd()) for entry in sys.path),
            **{"log_level": "WARNING", **settings},
        )
    except BaseException:
        shutil.rmtree(directory, ignore_errors=True)
        raise
    return await PrivateSupervisor.start(config, directory)


def importable(objects: type | str) -> str:
    """How another process finds a class. Raises DurableError that says what to do when it cannot."""
    if isinstance(objects, str):
        return objects
    spec_of(objects)  # raises for what is no class of ours
    if "<locals>" in objects.__qualname__:
        raise DurableError(
            f"{objects.__qualname__} is defined inside a function, where shard processes cannot import it: move it to "
            "the top level of a module, or use shards=0"
        )
    if objects.__module__ != "__main__":
        return f"{objects.__module__}:{objects.__qualname__}"
    main = sys.modules["__main__"]
    spec = getattr(main, "__spec__", None)
    if spec is not None and importlib.util.find_spec(spec.name) is not None:
        return f"{spec.name}:{objects.__qualname__}"
    file = getattr(main, "__file__", None)
    if file is not None and Path(file).suffix == ".py" and Path(file).is_file():
        return f"{Path(file).resolve()}:{objects.__qualname__}"
    raise DurableError(
        f"{objects.__qualname__} is defined in an interactive session, where shard processes cannot import it: put it "
        "into a file and pass objects=['that_file.py'], or use shards=0"
    )


async def _lines(process: subprocess.Popen[bytes]) -> Any:
    """The lines of a process's standard output, until its end."""
    assert process.stdout is not None
    loop = asyncio.get_running_loop()
    descriptor = process.stdout.fileno()
    os.set_blocking(descriptor, False)
    stirred = asyncio.Event()
    loop.add_reader(descriptor, stirred.set)
    waiting = b""
    try:
        while True:
            await stirred.wait()
            stirred.clear()
            try:
                piece = os.read(descriptor, 65536)
            except BlockingIOError:
                continue
            if not piece:
                return
            *lines, waiting = (waiting + piece).split(b"\n")
            for line in lines:
                yield line + b"\n"
    finally:
        loop.remove_reader(descriptor)
