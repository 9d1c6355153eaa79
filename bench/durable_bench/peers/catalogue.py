"""Which peers there are. A new one implements `durable_bench.peers.peer.Peer` and is named here."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from durable_bench.peers.ours import DurableEngine
from durable_bench.peers.peer import Peer

OURS = ("durable-sqlite", "durable-postgres")
"""What the others are compared with."""

Makes = Callable[[Mapping[str, str]], Peer]
"""Makes a peer; the mapping has the versions of packages that the user asks for in place of the pinned ones."""


def _ours(store: str) -> Makes:
    return lambda _: DurableEngine(store)


PEERS: dict[str, Makes] = {
    "durable-sqlite": _ours("sqlite"),
    "durable-postgres": _ours("postgres"),
}
