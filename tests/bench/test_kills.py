"""A peer that is killed with -9 under load: what it acknowledged and what is found afterwards."""

from __future__ import annotations

import asyncio
import json
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from durable_bench.peers import kills
from durable_bench.peers.kills import kill
from durable_bench.peers.peer import NotAvailable
from durable_bench.peers.results import Killed
from durable_bench.peers.scenarios import ALL
from durable_bench.peers.turns import Plan, run
from durable_bench.peers.workers.load import Load, Outcome

COUNTING = """
import json, os, pathlib, sys
path, every = pathlib.Path(sys.argv[1]), int(sys.argv[2])
count = json.loads(path.read_text()) if path.exists() else 0
print(count, flush=True)
for line in sys.stdin:
    count += 1
    if count % every == 0:
        temporary = path.with_suffix(".new")
        temporary.write_text(json.dumps(count))
        temporary.rename(path)
    print(count, flush=True)
"""


@dataclass
class Running:
    """Answers from a process of its own; a load goes on until that is killed."""

    process: Process
    read: int
    servers: Sequence[int]
    made: int = 0
    """Adds that were acknowledged before the load, so that there are some, however slow the machine is."""

    async def add(self, times: int) -> None:
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        for _ in range(times):
            self.process.stdin.write(b"add\n")
            assert await self.process.stdout.readline()
        self.made += times

    async def drive(self, load: Load) -> Outcome:
        """Every call after the death of the process fails."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        if load.once:
            await self.add(5)
            return Outcome(5, 1.0, {}, 0.1, {}, 1)
        calls = self.made - 5
        while True:
            try:
                self.process.stdin.write(b"add\n")
                await self.process.stdin.drain()
            except ConnectionError:
                break
            if not await self.process.stdout.readline():
                break
            calls += 1
        return Outcome(calls, 1.0, {}, 0.1, {"ConnectionError: gone": 1}, 1)

    async def total(self, prefix: str, count: int) -> int:
        return self.read


@dataclass
class Counting:
    """A peer that stores its count with every so many adds; 1 keeps all that it acknowledged."""

    every: int = 1
    in_caller: bool = False
    """Whether it says that it has no process besides the caller's."""
    dies: bool = False
    name: str = "counting"
    durability: str = "as many as it says"
    packages: Mapping[str, str] = field(default_factory=dict)
    scenarios: frozenset[str] = ALL
    starts: int = 0

    async def install(self, folder: Path) -> None:
        """It is here."""

    @asynccontextmanager
    async def start(self, folder: Path, installed: Path) -> AsyncIterator[Running]:
        self.starts += 1
        if self.dies and self.starts > 1:
            raise OSError("its files are broken")
        words = (sys.executable, "-c", COUNTING, str(folder / "count"), str(self.every))
        process = await asyncio.create_subprocess_exec(*words, stdin=PIPE, stdout=PIPE)
        assert process.stdout is not None
        running = Running(process, int(await process.stdout.readline()), [] if self.in_caller else [process.pid])
        try:
            if self.starts == 1:
                await running.add(10)
            yield running
        finally:
            if process.returncode is None:
                process.kill()
            await process.wait()


@pytest.fixture(autouse=True)
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kills, "KILLED_AFTER_SECONDS", 0.05)


async def test_a_peer_that_stores_each_add_loses_none(tmp_path: Path) -> None:
    """The one that was on its way when it was killed is in doubt, and counts neither way."""
    killed = await kill(Counting(), tmp_path, tmp_path)

    assert killed.acknowledged >= 10
    assert (killed.reason, killed.lost, killed.surplus) == (None, 0, 0)
    assert str(killed) == f"kill -9: lost none of {killed.acknowledged:,} acknowledged adds, 0 done twice"


async def test_acknowledged_adds_that_were_not_stored_are_lost(tmp_path: Path) -> None:
    """A peer that never stores loses all."""
    killed = await kill(Counting(every=10**9), tmp_path, tmp_path)

    assert killed.lost == killed.acknowledged >= 10
    assert str(killed).startswith(f"kill -9: LOST {killed.lost:,} of {killed.lost:,}")


async def test_a_peer_that_does_not_come_back_is_told(tmp_path: Path) -> None:
    """In place of a count."""
    killed = await kill(Counting(dies=True), tmp_path, tmp_path)

    assert str(killed) == "kill -9: no verdict: it did not come back: OSError: its files are broken"


async def test_a_peer_that_refuses_at_first_is_asked_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It may wait until the dead have lost their leases; one that refuses for ever is told."""
    monkeypatch.setattr(kills, "LOOK_AGAIN_SECONDS", 0)
    refusals = iter([NotAvailable("leased")] * 3)
    whole = Running.total

    async def total(self: Running, prefix: str, count: int) -> int:
        if error := next(refusals, None):
            raise error
        return await whole(self, prefix, count)

    monkeypatch.setattr(Running, "total", total)
    assert (await kill(Counting(), tmp_path, tmp_path)).reason is None

    refusals = iter([NotAvailable("leased")] * 99)
    assert (await kill(Counting(), tmp_path, tmp_path)).reason == "it did not come back: leased"


async def test_a_peer_that_acknowledged_nothing_has_no_verdict(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing lost of nothing says nothing."""

    async def drive(self: Running, load: Load) -> Outcome:
        return Outcome(0, 1.0, {}, 0.1, {"TimeoutError: too slow": 64}, 0)

    monkeypatch.setattr(Running, "drive", drive)
    killed = await kill(Counting(), tmp_path, tmp_path)

    assert str(killed) == "kill -9: no verdict: no add was acknowledged before it was killed"


async def test_a_library_in_the_process_that_counts_is_not_killed(tmp_path: Path) -> None:
    """With it would go what was acknowledged."""
    killed = await kill(Counting(in_caller=True), tmp_path, tmp_path)

    assert str(killed) == "kill -9: no verdict: its store is in the process that makes the calls"


def test_adds_done_twice_are_told_from_those_in_doubt() -> None:
    """Two were in doubt, so that three more than acknowledged mean one too many."""
    assert (Killed(10, 2, 13).surplus, Killed(10, 2, 12).surplus, Killed(10, 2, 9).lost) == (1, 0, 1)


async def test_checks_come_after_the_turns_and_leave_the_peer_measured(tmp_path: Path) -> None:
    """Also when nothing could be watched; the next peer has its own."""

    class Short(Running):
        async def drive(self, load: Load) -> Outcome:
            assert self.process.stdin is not None
            assert self.process.stdout is not None
            self.process.stdin.write(b"add\n")
            line = await self.process.stdout.readline()
            self.read = int(json.loads(line)) if line else self.read
            return Outcome(1 if line else 0, 1.0, {1000: 1}, 0.1, {}, 1)

    class Peer(Counting):
        @asynccontextmanager
        async def start(self, folder: Path, installed: Path) -> AsyncIterator[Running]:
            async with super().start(folder, installed) as one:
                yield Short(one.process, one.read, one.servers)

    (tmp_path / "counting").mkdir()
    [result] = await run(
        [Peer()], Plan(["alone"], repetitions=1, watch=True, kill=True), tmp_path, tmp_path, lambda _: None
    )

    assert result.unavailable is None
    assert result.seen is not None
    assert result.seen.reason is not None or result.seen.alone == 0
    assert result.killed is not None
    assert result.killed.reason is None
