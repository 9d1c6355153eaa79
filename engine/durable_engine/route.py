"""Which shard answers for which partition, as a client knows it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final
from urllib.parse import urlsplit

from durable_shards.wire import RoutingTable, ShardRoute
from durable_storage.limits import PARTITIONS

UP: Final = "up"
"""The state of a shard that takes calls. In any other, calls for it wait in the client."""
DRAINING: Final = "draining"
"""The state of one that finishes what it has begun, and takes calls from turns of others that do the same."""


@dataclass(frozen=True, slots=True)
class Route:
    """Where a shard can be reached. Two incarnations of a shard are two routes, even on one endpoint."""

    endpoint: str
    pid: int


class RouteMap:
    """The newest routing table, and what follows from it."""

    def __init__(self, url: str, *, for_turns: bool = False) -> None:
        self._host = urlsplit(url).hostname if url.startswith("tcp://") else None
        self._taking = (UP, DRAINING) if for_turns else (UP,)
        self.server = ""
        self.version = 0
        self.partitions: list[int] = []
        """Shard number by partition; -1 where the table says nothing."""
        self.routes: dict[int, ShardRoute] = {}

    def apply(self, table: RoutingTable) -> bool:
        """Take a table over. False when it is no newer than the one known, of the same server.

        Raises ValueError for a table that counts partitions in another way than this client.
        """
        if table.partitions != PARTITIONS:
            raise ValueError(
                f"the server divides objects into {table.partitions} partitions, this client into {PARTITIONS}"
            )
        if table.server == self.server and table.version <= self.version:
            return False
        partitions = [-1] * PARTITIONS
        for route in table.shards:
            first, end = route.partitions
            for partition in range(max(first, 0), min(end, PARTITIONS)):
                partitions[partition] = route.shard
        self.server = table.server
        self.version = table.version
        self.partitions = partitions
        self.routes = {route.shard: route for route in table.shards}
        return True

    def route_of(self, shard: int) -> Route | None:
        """Where to send calls for `shard`, or None while it takes none."""
        route = self.routes.get(shard)
        if route is None or not route.endpoint or route.state not in self._taking:
            return None
        return Route(self._reachable(route.endpoint), route.pid)

    def _reachable(self, endpoint: str) -> str:
        """A shard that listens on all interfaces is reached by the host that the server was reached by."""
        for wildcard in ("tcp://0.0.0.0:", "tcp://[::]:", "tcp://*:"):
            if self._host is not None and endpoint.startswith(wildcard):
                return f"tcp://{self._host}:{endpoint.removeprefix(wildcard)}"
        return endpoint
