"""A process whose callers all want one object: `python -m durable_bench.experiments.hot_callers`.

It reads one JSON value a line from its standard input and answers each with one: first whom to call and how, then
whether to call (true) or to pause (false), until the input ends. What has been answered since is said at each pause.
"""

from __future__ import annotations

import asyncio
import sys
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, Final, Self

import msgspec
import uvloop

from durable_bench.errors import ClientFailed
from durable_bench.experiments.objects import Hot
from durable_engine import DurableError, Engine, Overloaded

AGAIN_SECONDS: Final = 0.005
"""After which a caller who found the mailbox full tries again."""


class Crowd:
    """The callers, in the process of their own."""

    def __init__(self, hot: Hot, handler: str, callers: int) -> None:
        self._call = getattr(hot, handler)
        self._calling = asyncio.Event()
        self._under_way = 0
        self._none_under_way = asyncio.Event()
        self._counts: Counter[str] = Counter()
        self._tasks = [asyncio.create_task(self._caller()) for _ in range(callers)]

    async def _caller(self) -> None:
        while True:
            await self._calling.wait()
            self._under_way += 1
            try:
                await self._call()
                self._counts["answered"] += 1
            except Overloaded:
                self._counts["refused"] += 1
                await asyncio.sleep(AGAIN_SECONDS)
            finally:
                self._under_way -= 1
                if not self._under_way:
                    self._none_under_way.set()

    async def told(self, calling: bool) -> dict[str, int]:
        """Call, or pause; then what came of it, when all is answered."""
        if calling:
            self._counts.clear()
            self._calling.set()
            return {}
        self._calling.clear()
        while self._under_way:
            self._none_under_way.clear()
            await self._none_under_way.wait()
        return dict(self._counts)

    def failure(self) -> BaseException | None:
        """Of a caller that gave up."""
        return next((task.exception() for task in self._tasks if task.done()), None)

    def disperse(self) -> None:
        """Nobody calls any more."""
        for task in self._tasks:
            task.cancel()


class HotCallers:
    """That process, as the experiment sees it."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process
        self.pid = process.pid

    @classmethod
    @asynccontextmanager
    async def of(cls, url: str, object_id: str, handler: str, callers: int) -> AsyncIterator[Self]:
        """So many callers who wait to be told, for the time of the block. Raises ClientFailed."""
        command = (sys.executable, "-m", __name__)
        process = await asyncio.create_subprocess_exec(*command, stdin=-1, stdout=-1)
        crowd = cls(process)
        try:
            await crowd._ask({"url": url, "object_id": object_id, "handler": handler, "callers": callers})
            yield crowd
        finally:
            assert process.stdin is not None
            process.stdin.close()
            await process.wait()

    async def begin(self) -> None:
        """They call, each again as soon as it is answered."""
        await self._ask(True)

    async def pause(self) -> dict[str, int]:
        """They stop; what they saw: calls `answered` and `refused`."""
        return {"answered": 0, "refused": 0} | await self._ask(False)

    async def _ask(self, question: object) -> dict[str, int]:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(msgspec.json.encode(question) + b"\n")
        line = await self._process.stdout.readline()
        if not line:
            raise ClientFailed(f"the process of the hot callers ended with exit code {await self._process.wait()}")
        answer: dict[str, int] = msgspec.json.decode(line)
        return answer


async def play(lines: AsyncIterator[bytes]) -> None:
    """What the process does."""
    about: dict[str, Any] = msgspec.json.decode(await anext(lines))
    async with Engine.connect(about["url"]) as engine:
        crowd = Crowd(engine.at(Hot, about["object_id"]), about["handler"], about["callers"])
        try:
            _say({})
            async for line in lines:
                counts = await crowd.told(msgspec.json.decode(line, type=bool))
                failure = crowd.failure()
                if failure is not None:
                    raise failure
                _say(counts)
        except DurableError as error:
            sys.exit(f"a hot caller failed: {error}")
        finally:
            crowd.disperse()


def _say(answer: dict[str, int]) -> None:
    sys.stdout.buffer.write(msgspec.json.encode(answer) + b"\n")
    sys.stdout.buffer.flush()


async def _lines() -> AsyncIterator[bytes]:
    reader = asyncio.StreamReader()
    await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    while line := await reader.readline():
        yield line


async def _main() -> None:
    await play(_lines())


if __name__ == "__main__":
    uvloop.run(_main())
