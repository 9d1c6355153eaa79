"""Whether a peer syncs before it replies: what its processes ask the kernel is watched with strace while adds are made.

With one caller, a peer that has each add on disk before its reply syncs at least once for each. With many, group commit
makes it fewer. Counted is what succeeds of fsync, fdatasync, msync, sync, syncfs, and writes to files that were opened
with O_SYNC or O_DSYNC. `sync_file_range` is not: it neither writes metadata nor empties the disk's cache, and it is
called for other reasons too. Not seen: io_uring, and what a disk does with a sync.

Each system call of the watched processes costs a stop, so that no rate is taken meanwhile.
"""

from __future__ import annotations

import asyncio
import os
import re
import shutil
import signal
import stat
from asyncio.subprocess import DEVNULL, PIPE, Process
from collections.abc import AsyncIterator, Collection, Iterable, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from durable_bench.peers.peer import NotAvailable, Running
from durable_bench.peers.processes import family
from durable_bench.peers.results import Books, Seen
from durable_bench.peers.scenarios import SCENARIOS
from durable_bench.peers.workers.load import Outcome

SYNCS = ("fsync", "fdatasync", "msync", "sync", "syncfs")
WRITES = ("write", "writev", "pwrite64", "pwritev", "pwritev2")
ALONE_SECONDS = 2.0
TOGETHER_SECONDS = 2.0
ATTACH_SECONDS = 20.0
_POLL_SECONDS = 0.02

# With -f, lines begin with the id of the thread, and a call that was interrupted by a line of another thread is
# finished on a line of its own.
_WHOLE = re.compile(r"^(?P<pid>\d+) +(?P<name>\w+)\((?P<arguments>.*)\) += (?P<result>-?\d+)")
_BEGUN = re.compile(r"^(?P<pid>\d+) +(?P<name>\w+)\((?P<arguments>.*) <unfinished \.\.\.>")
_RESUMED = re.compile(r"^(?P<pid>\d+) +<\.\.\. (?P<name>\w+) resumed>.*\) += (?P<result>-?\d+)")


class NotWatched(Exception):
    """What a process asks the kernel cannot be seen here; the message says why."""


async def watch(running: Running, books: Books, callers: int, folder: Path) -> Seen:
    """Make adds with one caller and then with `callers`, and count the syncs; the adds are entered into the books."""
    alone = SCENARIOS["alone"].load(0, 1, ALONE_SECONDS)
    together = SCENARIOS["spread"].load(0, callers, TOGETHER_SECONDS)
    rates = []
    try:
        for number, load in enumerate((alone, together)):
            async with watched(running.servers, folder / f"strace-{number}") as watcher:
                outcome: Outcome = await running.drive(load)
            books.enter(load, outcome)
            if not outcome.calls:
                raise NotWatched(f"no add was answered meanwhile: {dict(outcome.errors)}")
            rates.append(watcher.syncs() / outcome.calls)
    except (NotWatched, NotAvailable) as error:
        return Seen(reason=str(error))
    return Seen(rates[0], rates[1], callers)


@dataclass(frozen=True, slots=True)
class Watcher:
    """What strace wrote of some processes."""

    path: Path
    synced_files: Collection[tuple[int, int]]
    """Process id and descriptor of files whose every write is synced."""

    def syncs(self) -> int:
        """How many syncs succeeded; whole once the block of `watched` is left."""
        return sum(1 for _ in self._succeeded(self.path.read_text(errors="replace").splitlines()))

    def _succeeded(self, lines: Iterable[str]) -> Iterator[str]:
        begun: dict[tuple[str, str], str] = {}
        for line in lines:
            if match := _BEGUN.match(line):
                begun[match["pid"], match["name"]] = match["arguments"]
                continue
            if match := _WHOLE.match(line):
                arguments = match["arguments"]
            elif match := _RESUMED.match(line):
                arguments = begun.pop((match["pid"], match["name"]), "")
            else:
                continue
            if int(match["result"]) >= 0 and self._is_sync(int(match["pid"]), match["name"], arguments):
                yield line

    def _is_sync(self, thread: int, name: str, arguments: str) -> bool:
        if name == "msync":
            return "MS_SYNC" in arguments
        if name not in WRITES:
            return name in SYNCS
        descriptor = arguments.partition(",")[0]
        synced = descriptor.isdigit() and (_process_of(thread), int(descriptor)) in self.synced_files
        return synced or (name == "pwritev2" and ("RWF_DSYNC" in arguments or "RWF_SYNC" in arguments))


@asynccontextmanager
async def watched(pids: Iterable[int], log: Path) -> AsyncIterator[Watcher]:
    """See the syncs of these processes and all that come from them, for the time of the block. Raises NotWatched."""
    if shutil.which("strace") is None:
        raise NotWatched("there is no strace here; install it from your distribution")
    everyone = [pid for pid in dict.fromkeys(family(pids)) if _is_there(pid)]
    if not everyone:
        raise NotWatched("the processes are gone")
    synced_files = {(pid, descriptor) for pid in everyone for descriptor in _synced_files(pid)}
    traced = ",".join(SYNCS + (WRITES if synced_files else ("pwritev2",)))
    attach = [word for pid in everyone for word in ("-p", str(pid))]
    words = ["strace", "-f", "-q", "-e", f"trace={traced}", "-e", "signal=none", "-s", "0", "-o", str(log), *attach]
    strace = await asyncio.create_subprocess_exec(*words, stdin=DEVNULL, stdout=DEVNULL, stderr=PIPE)
    try:
        await _until_attached(strace, everyone)
        yield Watcher(log, synced_files)
    finally:
        if strace.returncode is None:
            # Detaches from everyone, and writes the rest.
            strace.send_signal(signal.SIGINT)
        await strace.communicate()


async def _until_attached(strace: Process, pids: Collection[int]) -> None:
    """Wait until each of the processes, as far as they still are, is traced in all its threads."""
    try:
        async with asyncio.timeout(ATTACH_SECONDS):
            while strace.returncode is None:
                if all(_is_traced(pid) for pid in pids):
                    return
                await asyncio.sleep(_POLL_SECONDS)
    except TimeoutError:
        raise NotWatched(f"strace did not attach within {ATTACH_SECONDS:.0f} s") from None
    assert strace.stderr is not None
    said = (await strace.stderr.read()).decode(errors="replace").strip().splitlines()
    raise NotWatched(said[0] if said else f"strace ended with exit code {strace.returncode}")


def _is_there(pid: int) -> bool:
    return Path(f"/proc/{pid}").exists()


def _is_traced(pid: int) -> bool:
    try:
        states = [(task / "status").read_text() for task in Path(f"/proc/{pid}/task").iterdir()]
    except OSError:
        return True
    return all("TracerPid:\t0\n" not in state for state in states)


def _synced_files(pid: int) -> Iterator[int]:
    """Descriptors of regular files that this process has open with O_SYNC or O_DSYNC."""
    try:
        for entry in Path(f"/proc/{pid}/fd").iterdir():
            flags = Path(f"/proc/{pid}/fdinfo/{entry.name}").read_text().split("flags:", 1)[1].split()[0]
            if int(flags, 8) & os.O_DSYNC and stat.S_ISREG(entry.stat().st_mode):
                yield int(entry.name)
    except (OSError, IndexError):
        return


def _process_of(thread: int) -> int:
    """The process that a thread is of; itself when both are gone."""
    try:
        return int(Path(f"/proc/{thread}/status").read_text().split("Tgid:", 1)[1].split()[0])
    except (OSError, IndexError):
        return thread
