"""What the nemesis itself asks for, served beside the objects of the workload."""

from __future__ import annotations

from durable_engine import DurableObject, handler


class Witness(DurableObject):
    """One of each shard tells whether the shard serves."""

    seen: int = 0

    @handler
    def probe(self) -> int:
        """Answered only once it is durable."""
        self.seen += 1
        return self.seen

    @handler
    def recite(self, kibibytes: int) -> str:
        """A long answer."""
        self.seen += 1
        return "." * (kibibytes * 1024)
