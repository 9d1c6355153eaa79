"""Clients at work while something goes wrong: processes that call, and record what they were told."""

from __future__ import annotations

import asyncio
import json
import os
import select
import subprocess
import sys
import time
from collections import Counter
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Self

import msgspec

from durable_engine import Engine
from durable_engine.views import AlarmView
from durable_shards.alarm_settings import AlarmSettings
from tests.chaos.final import Accounts, Final, Probe
from tests.chaos.limits import ALARM_ATTEMPTS, is_exactly_once
from tests.plants.plant import path_of_plants

ROOT = Path(__file__).parent.parent.parent
CLASSES = ("Log", "Bank", "Timers", "Saboteur")
SETTINGS: dict[str, Any] = {
    "objects": ("tests.chaos.objects",),
    "path": (str(ROOT),),
    "alarms": AlarmSettings(poll=2.0, attempts=ALARM_ATTEMPTS, backoff=0.3),
}
"""For `SupervisorConfig`, or `tests.support.server.Server`: the objects to serve, where they are, and their alarms."""
START_SECONDS = 60.0
PAGE = 1000


@dataclass(frozen=True)
class Progress:
    """All clients together, so far."""

    calls: int = 0
    replies: int = 0
    errors: int = 0
    in_flight: int = 0
    acknowledged: int = 0
    """Operations answered with success."""
    unknown: int = 0
    """Operations whose outcome nobody will ever tell."""
    kinds: Counter[str] = field(default_factory=Counter)
    """Errors by type and outcome."""


class Load:
    """`clients` processes with `in_flight` operations each; `with Load(...) as load`, then `finish`.

    They never stop at errors. Records are in `folder` (`records.Recorded(folder)`) once `finish` or the block has
    ended, or while the clients are paused.
    """

    def __init__(self, endpoint: str, folder: Path, *, seed: int, clients: int = 4, in_flight: int = 100) -> None:
        self._endpoint = endpoint
        self._folder = folder
        self._seed = seed
        self._clients = clients
        self._in_flight = in_flight
        self._processes: list[_Process] = []
        self._visits: list[dict[str, Any]] = []
        """The progress of visitors, who have gone."""
        self._counts_of_visits: list[dict[str, int]] = []

    def __enter__(self) -> Self:
        """Start; returns when each client has had a success."""
        self._folder.mkdir(parents=True, exist_ok=True)
        try:
            for number in range(self._clients):
                self._processes.append(self._start(number))
            self._all("go", timeout=START_SECONDS)
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        """Ends the processes, whatever they do."""
        for process in self._processes:
            process.end()

    @property
    def pids(self) -> list[int]:
        """Of the clients."""
        return [process.pid for process in self._processes]

    def _start(self, number: int) -> _Process:
        words = map(str, (self._folder, self._endpoint, number, self._seed, self._in_flight))
        return _Process([sys.executable, "-m", "tests.chaos.client", *words], self._folder / f"{number}.log")

    def visit(self, operations: int, timeout: float = 120.0) -> None:
        """Another client comes, works on the same objects until so much was acknowledged, and goes.

        It connects anew, and so meets whoever serves now, while the others may still listen to a server that stands.
        """
        [lanes, *_] = self._all("lanes")
        visitor, until = self._start(self._clients + len(self._visits)), time.monotonic() + timeout
        try:
            visitor.ask(("follow", lanes), until)
            visitor.ask(("work", operations), until)
            self._visits.append(visitor.ask(("progress",), until))
            self._counts_of_visits.append(visitor.ask(("counts",), until))
        finally:
            visitor.end()

    def progress(self) -> Progress:
        """A look."""
        told = [*self._all("progress"), *self._visits]
        kinds = Counter[str]()
        for each in told:
            kinds.update(each["kinds"])
        return Progress(**{name: sum(each[name] for each in told) for name in told[0] if name != "kinds"}, kinds=kinds)

    def pause(self, timeout: float = 60.0) -> None:
        """No new operations; returns when nothing is in flight."""
        self._all("pause", timeout=timeout)

    def resume(self, timeout: float = 60.0) -> None:
        """Go on; returns when each client has had a success again."""
        self._all("go", timeout=timeout)

    def served(self, timeout: float = 60.0) -> list[Probe]:
        """Wait until each client has completed an operation, begun after this call, on each shard."""
        return self._probes(self._all("probe", 1, timeout=timeout))

    def finish(self, final: Final, timeout: float = 120.0) -> None:
        """Settle every keyed operation, complete 5 calls on each shard, and stop; `final` is told how it went."""
        final.clients = self._clients
        final.acknowledged = {"own keys": 0, "automatic keys": 0}
        final.probes = self._probes(self._all("finish", timeout * 0.8, timeout=timeout))
        for client, told in enumerate(self._all("progress")):
            kind = "automatic keys" if is_exactly_once(client) else "own keys"
            final.acknowledged[kind] += told["acknowledged"]
        done = self.progress()
        counted = [*self._all("counts"), *self._counts_of_visits]
        calls, errors, left = (sum(each[name] for each in counted) for name in ("calls", "errors", "in_flight"))
        final.accounts = Accounts(done.calls, done.replies, done.errors, calls, errors, left)

    @staticmethod
    def _probes(told: list[list[tuple[int, int, float]]]) -> list[Probe]:
        return [Probe(client, *each) for client, probes in enumerate(told) for each in probes]

    def _all(self, *command: Any, timeout: float = 30.0) -> list[Any]:
        """Tell all clients at once, and wait for all their answers."""
        for process in self._processes:
            process.tell(command)
        until = time.monotonic() + timeout
        return [process.answer(command, until) for process in self._processes]


class _Process:
    """One client process."""

    def __init__(self, command: list[str], log: Path) -> None:
        self._log = log
        paths = [str(ROOT), *(str(ROOT / part) for part in ("engine", "shards", "storage", "bench")), *path_of_plants()]
        with log.open("ab") as file:
            self._process = subprocess.Popen(
                command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=file,
                cwd=ROOT,
                env={**os.environ, "PYTHONPATH": os.pathsep.join(paths)},
            )
        self._heard = b""

    @property
    def pid(self) -> int:
        return self._process.pid

    def tell(self, command: Any) -> None:
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(json.dumps(command).encode() + b"\n")
            self._process.stdin.flush()
        except BrokenPipeError:
            self._fail(command, "has ended")

    def ask(self, command: Any, until: float) -> Any:
        """One command, and its answer."""
        self.tell(command)
        return self.answer(command, until)

    def answer(self, command: Any, until: float) -> Any:
        assert self._process.stdout is not None
        while b"\n" not in self._heard:
            ready, _, _ = select.select([self._process.stdout], [], [], max(until - time.monotonic(), 0))
            if not ready:
                self._fail(command, "did not answer in time")
            piece = os.read(self._process.stdout.fileno(), 65536)
            if not piece:
                self._fail(command, "ended")
            self._heard += piece
        line, _, self._heard = self._heard.partition(b"\n")
        return json.loads(line)

    def _fail(self, command: Any, what: str) -> None:
        raise AssertionError(f"client {self.pid}, told {command}, {what}:\n{self._log.read_text()[-3000:]}")

    def end(self) -> None:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        if self._process.poll() is None:
            self._process.stdin.close()  # it writes down what it has
            try:
                self._process.wait(10)
            except subprocess.TimeoutExpired:
                self._process.kill()
        self._process.wait()
        self._process.stdin.close()
        self._process.stdout.close()


def gather(endpoint: str, timeout: float = 60.0) -> tuple[dict[str, bytes], dict[str, int]]:
    """`Final.memory` and `Accounts.queues`: what the engine shows once all that is due has fired."""

    async def run() -> tuple[dict[str, bytes], dict[str, int]]:
        async with Engine.connect(endpoint, timeout=timeout) as engine:
            until = time.monotonic() + timeout
            while waiting := await unfired(engine):
                if time.monotonic() > until:
                    raise AssertionError(f"{len(waiting)} alarms do not fire: {waiting[:3]}")
                await asyncio.sleep(0.1)
            return await states(engine), await queues(engine)

    return asyncio.run(run())


async def unfired(engine: Engine) -> list[AlarmView]:
    """Alarms that are due within the next hour, and can fire."""
    soon = datetime.now(UTC) + timedelta(hours=1)
    found: list[AlarmView] = []
    after: AlarmView | None = None
    while page := await engine.all_alarms(after=after, limit=PAGE):
        after = page[-1]
        found += [each for each in page if each.orphaned is None and each.at < soon]
    return found


async def states(engine: Engine) -> dict[str, bytes]:
    """Every object's state as JSON."""
    found: dict[str, bytes] = {}
    for cls in CLASSES:
        after: str | None = None
        while page := await engine.objects(cls, after=after, limit=PAGE):
            after = page[-1]
            for name, state in zip(
                page, await asyncio.gather(*(engine.state(cls, each) for each in page)), strict=True
            ):
                found[f"{cls}/{name}"] = msgspec.json.encode(state)
    return found


async def queues(engine: Engine) -> dict[str, int]:
    """What still waits in the shards."""
    found: dict[str, int] = {}
    for shard in (await engine.statistics()).shards:
        seen = shard.statistics
        if seen is None:
            found[f"shard {shard.shard} does not answer"] = 1
            continue
        waiting = {
            "gated": seen.gated,
            "loading": seen.loading,
            "to be written": seen.writer.waiting,
            "being written": seen.writer.in_flight,
            "firing": seen.alarms.in_flight,
        }
        found.update({f"shard {shard.shard} {name}": count for name, count in waiting.items()})
    return found
