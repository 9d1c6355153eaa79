"""What the nemesis itself asks for, served beside the objects of the workload."""

from __future__ import annotations

from durable_engine import DurableObject, handler
from tests.chaos.journal import incarnation


class Witness(DurableObject):
    """Tells whether its shard serves."""

    seen: int = 0

    @handler
    def probe(self) -> int:
        """Which incarnation of its shard answers, and only once it is durable that it was asked."""
        self.seen += 1
        return incarnation()

    @handler
    def recite(self, kibibytes: int) -> str:
        """A long answer."""
        self.seen += 1
        return "." * (kibibytes * 1024)
