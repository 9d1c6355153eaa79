"""Which peers there are. A new one implements `durable_bench.peers.peer.Peer` and is named here."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from durable_bench.peers.ceilings import GroupCommit
from durable_bench.peers.dbos import Dbos
from durable_bench.peers.durable_actors import DurableActors
from durable_bench.peers.echo import Echo
from durable_bench.peers.ours import DurableEngine
from durable_bench.peers.peer import Peer
from durable_bench.peers.pgbench import Pgbench
from durable_bench.peers.reboot import Reboot
from durable_bench.peers.restate import Restate
from durable_bench.peers.workerd import Workerd

OURS = ("durable-sqlite", "durable-postgres")
"""What the others are compared with."""

Makes = Callable[[Mapping[str, str]], Peer]
"""Makes a peer; the mapping has the versions of packages that the user asks for in place of the pinned ones."""


PEERS: dict[str, Makes] = {
    "durable-sqlite": lambda _: DurableEngine("sqlite"),
    "durable-postgres": lambda _: DurableEngine("postgres"),
    "pgbench": lambda _: Pgbench(),
    "group-sqlite": lambda _: GroupCommit("sqlite"),
    "group-postgres": lambda _: GroupCommit("postgres"),
    "workerd": Workerd,
    "restate": Restate,
    "reboot": Reboot,
    "dbos": Dbos,
    "durable-actors": DurableActors,
    "http-echo": Echo,
}
