"""Who rules a store: one supervisor at a time, its term, and when a holder may be replaced.

The term is for people and for order: it keeps two supervisors from starting on one store by mistake. What keeps a
replaced one from doing harm is not this lease but the epoch of its shards' host rows, which `acquire` bumps before
it returns: every commit and every confirmation of the old shards fails from then on, whatever the clocks say.

Reads write nothing, so a shard answers them only for `LEASE_SECONDS` after its ownership was last confirmed; whoever
replaces a holder that is not known to be dead waits that long.
"""

from __future__ import annotations

import os
import socket
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Protocol

from durable_storage.errors import DataLossDetected, Fenced, StoreInUse

LEASE_SECONDS: Final = 2.0
"""For how long a confirmed ownership lets a shard answer reads, by a clock that runs on while it is stopped."""
SILENT_SECONDS: Final = 15.0
"""A holder on another machine that did not renew for so long is replaced as if by --takeover."""


@dataclass(frozen=True, slots=True)
class Holder:
    """A supervisor process, told apart from every other one that ever was."""

    node: str
    """Host name, for people."""
    boot: str
    """The boot and the pid namespace that `pid` counts in: only within them does a pid prove anything."""
    pid: int
    process_started: int
    """Start time of the process in clock ticks since boot: pids are used again, pairs with this are not."""
    address: str = ""
    """Where the supervisor can be reached."""

    @classmethod
    def of_this_process(cls, address: str = "") -> Holder:
        """The calling process."""
        pid = os.getpid()
        return cls(socket.gethostname(), this_boot(), pid, process_started(pid) or 0, address)

    def is_provably_dead(self) -> bool:
        """True only when it ran where we can look, and is gone."""
        return self.boot == this_boot() and process_started(self.pid) != self.process_started


class Control(Protocol):
    """What a supervisor asks of storage before its shards start, and once a second after."""

    async def prepare(self, *, shards: int, migrate: bool | None) -> None:
        """Bring the store into the shape that this release and `shards` shards need.

        SQLite and memory stores are created, upgraded and re-split by themselves (a re-split of a store that
        somebody else holds waits for `acquire`). PostgreSQL is migrated only when `migrate` is True. Raises
        SchemaMismatch, naming the command to run, and StoreUnavailable.
        """

    async def acquire(self, holder: Holder, *, takeover: bool, after: int = 0) -> int:
        """Become the ruler; the new term, later than `after`. All shards of earlier terms are fenced when this returns.

        A holder whose process is provably dead on this machine is replaced at once, one on another machine after
        `SILENT_SECONDS` without a renewal, any other only with `takeover`. Raises StoreInUse, StoreUnavailable.
        """

    async def renew(self, term: int) -> None:
        """Once a second. Raises Fenced when another supervisor took over, StoreUnavailable when nobody can tell.

        Raises DataLossDetected when the store shows a term from before ours: it is of a backup, or a stale replica.
        """

    async def release(self, term: int) -> None:
        """Rule no more; the next supervisor need not wait. Does nothing when the term is over already."""

    async def close(self) -> None:
        """Release connections and files."""


@dataclass(frozen=True, slots=True)
class Incumbent:
    """The holder on record."""

    holder: Holder
    silent_seconds: float
    """Since its last renewal, by the store's clock."""


def must_wait_for_lease(incumbent: Incumbent | None, *, takeover: bool) -> bool:
    """Whether a newcomer has to wait out the read lease, having fenced the incumbent's shards.

    Raises StoreInUse when it may not replace the incumbent at all.
    """
    if incumbent is None or incumbent.holder.is_provably_dead():
        return False
    is_elsewhere = incumbent.holder.boot != this_boot()
    if takeover or (is_elsewhere and incumbent.silent_seconds > SILENT_SECONDS):
        return True
    holder = incumbent.holder
    at = f" at {holder.address}" if holder.address else ""
    raise StoreInUse(
        f"this store is in use by the supervisor with pid {holder.pid} on {holder.node}{at}, which renewed its lease "
        f"{incumbent.silent_seconds:.1f} s ago. Stop that one, or fence it off with --takeover"
    )


def term_over(term: int, found: int) -> Fenced | DataLossDetected:
    """A supervisor does not find its own term, or has released it."""
    if found < term:
        return DataLossDetected(f"the store shows term {found}, and this is term {term}: it was turned back")
    return Fenced(f"term {term} is over: another supervisor took the store over, and this one must stop serving")


def this_boot() -> str:
    """Identity of this boot of this machine and of our pid namespace."""
    boot_id = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    return f"{boot_id}/{Path('/proc/self/ns/pid').readlink()}"


def process_started(pid: int) -> int | None:
    """Start time of a running process in clock ticks since boot; None when there is none, or only its zombie."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_bytes()
    except (FileNotFoundError, ProcessLookupError):
        return None
    # The second field is the command in parentheses and may contain anything, parentheses too.
    fields = stat[stat.rindex(b")") + 2 :].split()
    return None if fields[0] in (b"Z", b"X") else int(fields[19])
