"""Who takes how much of the processors: the processes of a run by the part they play."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from durable_bench.cpu import cpu_seconds

POSTMASTER: Final = "postmaster.pid"


@dataclass(slots=True)
class Cpu:
    """Processor time of a group of processes, those that have ended meanwhile included as far as they were seen."""

    pids: Sequence[int] = ()
    postgres: int | None = None
    """The postmaster, all of whose children are meant."""
    _seen: dict[int, float] = field(default_factory=dict)

    def seconds(self) -> float:
        """So far; Linux, in steps of 10 ms."""
        children = _children(self.postgres) if self.postgres is not None else []
        for pid in (*self.pids, *children):
            try:
                self._seen[pid] = cpu_seconds([pid])
            except FileNotFoundError:
                continue  # it has ended: what it had taken at the last look stays
        return sum(self._seen.values())


def postmaster_of(directory: Path) -> int | None:
    """The server of ours whose folder lies in this one; None when the database is elsewhere, or there is none."""
    found = next(directory.glob(f"**/{POSTMASTER}"), None)
    return int(found.read_text().splitlines()[0]) if found is not None else None


def _children(parent: int) -> list[int]:
    try:
        return [int(word) for word in Path(f"/proc/{parent}/task/{parent}/children").read_text().split()]
    except FileNotFoundError:
        return []
