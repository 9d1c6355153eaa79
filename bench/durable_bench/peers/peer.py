"""What a peer is to the harness: something that can be installed, started in a folder, and given loads."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Protocol

from durable_bench.peers.workers.load import Load, Outcome


class NotAvailable(Exception):
    """A peer cannot be installed or started here; the message says why. The run goes on without it."""


class Running(Protocol):
    """A peer that serves."""

    @property
    def servers(self) -> Sequence[int]:
        """Process ids of what serves, their children not named: not those that make the calls."""

    async def drive(self, load: Load) -> Outcome:
        """Run a load to its end. Raises NotAvailable when the peer or the worker is gone."""

    async def total(self, prefix: str, count: int) -> int:
        """The sum of the counts of the ids `prefix`0 to `prefix``count - 1`, as the peer tells it."""


class Peer(Protocol):
    """Something that keeps counters, installed and started by the harness."""

    @property
    def name(self) -> str: ...

    @property
    def durability(self) -> str:
        """What is true when an `add` is acknowledged, and with which settings, in a sentence."""

    @property
    def packages(self) -> Mapping[str, str]:
        """Name and version of what is installed from the public registries, for the report; may be empty."""

    @property
    def scenarios(self) -> frozenset[str]:
        """Which scenarios it can run (`durable_bench.peers.scenarios`)."""

    async def install(self, folder: Path) -> None:
        """Make it ready below a folder that later runs find again. Raises NotAvailable."""

    def start(self, folder: Path, installed: Path) -> AbstractAsyncContextManager[Running]:
        """Serve on loopback for the time of the block, with all state below `folder`: the next start goes on with it.

        `installed` is the folder that `install` was given. Raises NotAvailable.
        """
