"""What clients were told outlives a server: its shards must have that, or not be served."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from durable_engine import claims
from durable_engine.claims import Claims


class Keeper:
    """A shard as far as claims look at it."""

    def __init__(self, shard: int, state: str, acknowledged_seq: int) -> None:
        self.shard = shard
        self.state = state
        self.acknowledged_seq = acknowledged_seq
        self.remembered: list[int] = []
        self.killed = asyncio.Event()

    def remember(self, seq: int) -> None:
        self.remembered.append(seq)

    def kill(self) -> None:
        self.killed.set()


@pytest.fixture(autouse=True)
def _no_grace(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(claims, "GRACE_SECONDS", 0.001)


def claims_on(*keepers: Any, looked: asyncio.Event | None = None) -> Claims:
    """Claims on these shards; `looked` is set whenever they are looked at."""

    def look() -> tuple[Any, ...]:
        if looked is not None:
            looked.set()
        return keepers

    return Claims(asyncio.get_running_loop(), len(keepers), look)


async def test_a_shard_that_has_less_than_a_client_was_told_is_ended() -> None:
    """The others go on; what a shard has that does not exist is nobody's business."""
    lost, whole = Keeper(0, "up", 6), Keeper(1, "up", 8)
    judged = claims_on(lost, whole)

    judged.add({0: (1, 7), 1: (1, 8), 9: (1, 99), -1: (1, 99)})
    await asyncio.wait_for(lost.killed.wait(), 5)

    assert lost.remembered == [7]
    assert not whole.killed.is_set()


async def test_a_shard_that_is_still_starting_is_judged_when_it_serves() -> None:
    """A client says it once, as soon as the server's door is open; the highest of all clients counts."""
    shard = Keeper(0, "starting", 0)
    looked = asyncio.Event()
    judged = claims_on(shard, looked=looked)
    judged.add({0: (1, 7)})
    judged.add({0: (1, 3)})
    for _ in range(2):  # once, and once more when the first look has ended
        looked.clear()
        await asyncio.wait_for(looked.wait(), 5)
    assert not shard.killed.is_set()

    shard.state, shard.acknowledged_seq = "up", 6
    await asyncio.wait_for(shard.killed.wait(), 5)
    assert shard.remembered == [7]


async def test_a_loss_that_was_accepted_is_forgotten() -> None:
    """Otherwise the shard would be ended again as soon as it serves."""
    shard, other = Keeper(0, "failing", 0), Keeper(1, "up", 0)
    judged = claims_on(shard, other)
    judged.add({0: (1, 7)})
    judged.forget(0)
    shard.state = "up"
    judged.add({1: (1, 1)})
    await asyncio.wait_for(other.killed.wait(), 5)
    assert not shard.killed.is_set()
    judged.close()
