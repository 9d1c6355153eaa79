"""A client that asks for far more than it reads."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import zmq

from durable_engine.pending import encode_call, target_of
from durable_shards import wire
from tests.support.eventually import eventually

if TYPE_CHECKING:
    from tests.chaos.rig import Rig

CALLS = 512
PORTION = 8
"""So many at a time: what waits for one commit is not what this is about."""
KIBIBYTES = 1024
"""Of each result."""
_TIMEOUT_MS = 30_000


def pile_up(rig: Rig, shard: int, number: int) -> int:
    """Ask one shard for half a gigabyte and read none of it; by how many bytes the shard grew at most meanwhile."""
    from tests.chaos.rig import resident_bytes

    pid, endpoint = rig.process(shard), rig.ask("shards")[shard]["endpoint"]
    before = most = resident_bytes(pid)
    reciter = rig.somebody("Witness", shard, number)

    def recited(count: int) -> bool:
        state: dict[str, Any] | None = rig.client.state("Witness", reciter)
        return state is not None and state["seen"] >= count

    with zmq.Context() as context:
        socket = context.socket(zmq.DEALER)
        socket.set(zmq.RCVHWM, 1)
        socket.set(zmq.LINGER, 0)
        socket.connect(endpoint)
        target = target_of("", "Witness", reciter)
        for first in range(0, CALLS, PORTION):
            for call in range(first, first + PORTION):
                encoded = encode_call(call, target, "recite", [KIBIBYTES], _TIMEOUT_MS, None, None, 0, None, None)
                socket.send(wire.pack_calls([encoded]))
            eventually(lambda done=first + PORTION: recited(done), timeout=60.0)  # type: ignore[misc]
            most = max(most, resident_bytes(pid))
        assert socket.poll(0), "nothing waits to be read"
        socket.close()
    return most - before
