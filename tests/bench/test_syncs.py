"""Syncs are counted as they are: each that succeeds of the watched processes and their children, and nothing else."""

from __future__ import annotations

import asyncio
import shutil
import sys
from asyncio.subprocess import PIPE
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from durable_bench.peers.results import Books, Seen
from durable_bench.peers.syncs import NotWatched, Watcher, watch, watched
from durable_bench.peers.workers.load import Load, Outcome

SYNCING = """
import os, sys, threading
here = os.open(sys.argv[1], os.O_RDWR | os.O_CREAT)
each = os.open(sys.argv[1] + ".each", os.O_RDWR | os.O_CREAT | os.O_DSYNC)
print("ready", flush=True)
for line in sys.stdin:
    kind, times = line.split()
    for _ in range(int(times)):
        if kind == "sync":
            os.write(here, b"x")
            os.fdatasync(here)
        elif kind == "thread":
            thread = threading.Thread(target=os.fsync, args=(here,))
            thread.start()
            thread.join()
        elif kind == "child":
            if (child := os.fork()) == 0:
                os.fsync(here)
                os._exit(0)
            os.waitpid(child, 0)
        elif kind == "dsync":
            os.pwrite(each, b"x", 0)
        elif kind == "fail":
            try:
                os.fsync(999)
            except OSError:
                pass
        else:
            os.write(here, b"x")
    print("done", flush=True)
"""


@dataclass
class Syncing:
    """A process that syncs as often as it is told; as a peer, `each` times for an add, with ten adds in a load."""

    process: asyncio.subprocess.Process
    each: str = "sync 1"

    @property
    def servers(self) -> Sequence[int]:
        return [self.process.pid]

    async def do(self, order: str) -> None:
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(f"{order}\n".encode())
        assert await self.process.stdout.readline() == b"done\n"

    async def drive(self, load: Load) -> Outcome:
        for _ in range(10 // load.callers):
            await self.do(self.each)
        return Outcome(10, 1.0, {1000: 10}, 0.1, {}, 1)

    async def total(self, prefix: str, count: int) -> int:
        raise NotImplementedError


@asynccontextmanager
async def syncing(tmp_path: Path, each: str = "sync 1") -> AsyncIterator[Syncing]:
    words = (sys.executable, "-c", SYNCING, str(tmp_path / "file"))
    process = await asyncio.create_subprocess_exec(*words, stdin=PIPE, stdout=PIPE)
    assert process.stdout is not None
    assert await process.stdout.readline() == b"ready\n"
    try:
        yield Syncing(process, each)
    finally:
        assert process.stdin is not None
        process.stdin.close()
        await process.wait()


async def can_watch(one: Syncing, tmp_path: Path) -> bool:
    """Whether strace is here and may attach: where it may not, the same tests check that this is said."""
    try:
        async with watched(one.servers, tmp_path / "try"):
            return True
    except NotWatched:
        return False


async def test_each_sync_of_a_process_its_threads_and_children_is_counted(tmp_path: Path) -> None:
    """Seven here, three in threads, two in children, four by the way a file was opened; five fail, nine write."""
    orders = ("sync 7", "thread 3", "child 2", "dsync 4", "fail 5", "write 9")
    async with syncing(tmp_path) as one:
        await one.do("sync 2")
        if not await can_watch(one, tmp_path):
            return
        async with watched(one.servers, tmp_path / "log") as watcher:
            for order in orders:
                await one.do(order)
        await one.do("sync 2")

    assert watcher.syncs() == 7 + 3 + 2 + 4


async def test_a_peer_is_seen_to_sync_before_each_reply(tmp_path: Path) -> None:
    """One sync for each of ten adds alone, five together; the adds stand in the books."""
    books = Books()
    async with syncing(tmp_path) as one:
        possible = await can_watch(one, tmp_path)
        seen = await watch(one, books, 2, tmp_path)

    if possible:
        assert seen == Seen(1.0, 0.5, 2)
        assert str(seen) == "seen: synced before each reply: 1.00 syncs an add, 0.50 with 2 callers"
        assert (books.acknowledged["alone-"], books.acknowledged["spread-"]) == (10, 10)
    else:
        assert str(seen).startswith("not watched: ")


async def test_a_peer_that_never_syncs_is_told(tmp_path: Path) -> None:
    """Writes alone are no durability."""
    async with syncing(tmp_path, each="write 1") as one:
        possible = await can_watch(one, tmp_path)
        seen = await watch(one, Books(), 2, tmp_path)

    assert str(seen).startswith("seen: NOT SYNCED: 0.00" if possible else "not watched: ")


async def test_without_strace_it_is_said_and_not_guessed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The reason stands in the place of the verdict."""
    monkeypatch.setattr(shutil, "which", lambda _: None)
    async with syncing(tmp_path) as one:
        seen = await watch(one, Books(), 2, tmp_path)

    assert str(seen) == "not watched: there is no strace here; install it from your distribution"


async def test_a_process_that_is_gone_cannot_be_watched(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is counted of one that ended."""
    monkeypatch.setattr(shutil, "which", lambda _: "/usr/bin/strace")
    async with syncing(tmp_path) as one:
        pass

    with pytest.raises(NotWatched, match="the processes are gone"):
        async with watched(one.servers, tmp_path / "log"):
            pass


@pytest.mark.parametrize(
    ("lines", "syncs"),
    [
        (["7 fsync(3) = 0", "7 fdatasync(3) = 0", "7 sync() = 0", "7 syncfs(3) = 0"], 4),
        (["7 fsync(3 <unfinished ...>", "8 fsync(4) = 0", "7 <... fsync resumed>) = 0"], 2),
        (["7 fsync(3 <unfinished ...>", "7 <... fsync resumed>) = -1 EIO (Input/output error)"], 0),
        (["7 fsync(3 <unfinished ...>", "7 +++ killed by SIGKILL +++"], 0),
        (["7 msync(0x7f, 4096, MS_SYNC) = 0", "7 msync(0x7f, 4096, MS_ASYNC) = 0"], 1),
        (["7 pwrite64(5, ..., 8, 0) = 8", "7 pwrite64(6, ..., 8, 0) = 8"], 1),
        (["7 pwritev2(9, [...], 1, 0, RWF_DSYNC) = 8", "7 pwritev2(9, [...], 1, 0, 0) = 8"], 1),
        (["7 sync_file_range(3, 0, 0, 0) = 0", "7 exit_group(0) = ?"], 0),
    ],
)
def test_what_counts_as_a_sync(tmp_path: Path, lines: list[str], syncs: int) -> None:
    """Also where lines of threads are mixed; only file 5 of process 7 was opened to be synced."""
    log = tmp_path / "log"
    log.write_text("\n".join(lines))
    assert Watcher(log, {(7, 5)}).syncs() == syncs


@pytest.mark.parametrize(
    ("seen", "said"),
    [
        (Seen(1.0, 0.1, 64), "seen: synced before each reply: 1.00 syncs an add, 0.10 with 64 callers"),
        (Seen(0.01, 0.1, 64), "seen: NOT SYNCED BEFORE EACH REPLY: 0.01 syncs an add, 0.10 with 64 callers"),
        (Seen(reason="no"), "not watched: no"),
    ],
)
def test_what_was_seen_is_a_sentence(seen: Seen, said: str) -> None:
    """For the table."""
    assert str(seen) == said
