"""Clients at work while something goes wrong: processes that call, and record what they were told."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from tests.chaos.final import Accounts, Probe

SETTINGS: dict[str, Any] = {}
"""For `SupervisorConfig`, or `tests.support.server.Server`: the objects to serve, and where they are."""


@dataclass(frozen=True)
class Progress:
    """All clients together, so far."""

    acknowledged: int
    errors: int
    in_flight: int
    unknown: int


class Load:
    """`clients` processes with `in_flight` operations each; `with Load(...) as load`, then `finish`.

    They never stop at errors. Records are in `folder` (`records.Recorded(folder)`) once the block has ended.
    """

    def __init__(self, endpoint: str, folder: Path, *, seed: int, clients: int = 4, in_flight: int = 100) -> None: ...

    def __enter__(self) -> Self:
        """Start; returns when each client has had a success."""
        raise NotImplementedError

    def __exit__(self, *_: object) -> None:
        """Ends the processes, whatever they do."""

    def progress(self) -> Progress:
        """A look."""
        raise NotImplementedError

    def pause(self, timeout: float = 60.0) -> None:
        """No new operations; returns when nothing is in flight."""

    def resume(self) -> None:
        """Go on."""

    def served(self, timeout: float = 60.0) -> float:
        """Wait until each client has completed an operation, begun after this call, on each shard; seconds it took."""
        raise NotImplementedError

    def finish(self, timeout: float = 120.0) -> tuple[list[Probe], Accounts]:
        """Settle every keyed operation, complete 5 calls on each shard, and stop. The clients' own accounts."""
        raise NotImplementedError


def gather(endpoint: str) -> tuple[dict[str, bytes], dict[str, int]]:
    """`Final.memory` and `Accounts.queues`: what the engine shows when all is quiet."""
    raise NotImplementedError
