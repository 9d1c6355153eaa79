"""A tenant that cannot be used fails its own calls; those of others that wait for the same query are answered."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import pytest

from durable_engine import SchemaMismatch
from durable_storage.address import Address
from durable_storage.errors import StoreUnavailable
from durable_storage.memory import MemoryStore, MemoryWorld
from durable_storage.store import ResultRow, Stored
from tests.shards.hard_objects import Probe
from tests.shards.harness import Harness, settle

PROBLEM = {
    "bare": SchemaMismatch("there are no tables"),
    "closed": StoreUnavailable("no rights", retryable=False),
}


class Divided(MemoryStore):
    """Has tenants that cannot be used; counts its queries."""

    def __init__(self, world: MemoryWorld) -> None:
        super().__init__(world)
        self.queries: list[list[str]] = []

    async def load(self, addresses: Sequence[Address]) -> list[Stored | None]:
        self._look([address.prefix for address in addresses])
        return await super().load(addresses)

    async def load_results(self, keys: Sequence[tuple[Address, str]]) -> list[ResultRow | None]:
        self._look([address.prefix for address, _ in keys])
        return await super().load_results(keys)

    def _look(self, prefixes: list[str]) -> None:
        self.queries.append(sorted(prefixes))
        for prefix in prefixes:
            if prefix in PROBLEM:
                raise PROBLEM[prefix]


@pytest.mark.parametrize("bad", ["bare", "closed"])
async def test_of_one_query_only_the_bad_tenant_s_calls_fail(bad: str) -> None:
    """parity 63: whether they load objects or look keys up; and the store is asked for each tenant once more."""
    world = MemoryWorld()
    store = Divided(world)
    async with Harness([Probe], world=world, store=store) as h:
        for key in (None, "key"):
            tenants = ["", "acme", bad, ""]
            calls = [
                h.call(Probe, f"{key}-{number}", "increment", prefix=prefix, key=key)
                for number, prefix in enumerate(tenants)
            ]
            found = await asyncio.gather(*calls, return_exceptions=True)
            assert found == [1, 1, PROBLEM[bad], 1]
        loads = [sorted(["", "", "acme", bad]), [bad], ["acme"], ["", ""]]
        assert sorted(store.queries[:4]) == sorted(loads)
        assert h.shard.loader.waiting() == 0


async def test_a_store_that_is_away_is_asked_once_for_all_of_them() -> None:
    """It is no matter of one tenant: the calls wait for it together."""
    world = MemoryWorld()
    store = Divided(world)
    async with Harness([Probe], world=world, store=store) as h:
        world.go_away()
        calls = [h.call(Probe, "a", "increment", prefix=prefix) for prefix in ("", "acme")]
        await settle()
        assert store.queries == [["", "acme"]]
        assert h.shard.loader.waiting() == 2
        world.come_back()
        assert await asyncio.gather(*calls) == [1, 1]
