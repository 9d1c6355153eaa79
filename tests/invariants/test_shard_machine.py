"""One shard core under crashes, takeovers, broken commits and poison, driven by hypothesis.

The workload is an append log per object: every append carries its own token, so that the final log tells for each
call whether its effect exists, and how often. The model knows of each token what its caller was told.
"""

from __future__ import annotations

import asyncio
import itertools
import json
from datetime import timedelta
from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import initialize, invariant, rule

from durable_engine import DurableError, DurableObject, Rejected, field, handler
from tests.invariants.world_machine import EXAMPLES_FACTOR, WorldMachine
from tests.shards.harness import Harness, settle

IDS = ("a", "b", "c")


class Log(DurableObject, hibernate_after=timedelta(seconds=5)):
    """Remembers every token it was given, in order.

    None of its handlers waits, so that the engine does not look for changes that a task of an earlier turn has made:
    here a rollback is all that takes back what a failed turn did.
    """

    tokens: list[int] = field(default_factory=list)
    poisoned: bool = False

    @handler
    def append(self, token: int) -> list[int]:
        self.tokens.append(token)
        return self.tokens

    @handler
    def append_and_reject(self, token: int) -> None:
        self.tokens.append(token)
        raise Rejected("on second thoughts")

    @handler
    def append_poison(self, token: int) -> list[int]:
        self.tokens.append(token)
        self.poisoned = True
        return self.tokens

    @handler(readonly=True)
    def read(self) -> list[int]:
        return self.tokens


class Waiting:
    """Half of the histories begin with it."""

    class Log(Log, name="Log"):
        """May wait in between."""

        @handler
        async def append_async(self, token: int) -> list[int]:
            self.tokens.append(token)
            await asyncio.sleep(0)
            return self.tokens


class Second:
    """The next release."""

    class Log(Waiting.Log, name="Log", schema_version=2):
        """Knows which version its row was when it was first read; what it was stored as is migrated."""

        was: int = 2

        @classmethod
        def migrate(cls, version: int, data: dict[str, Any]) -> dict[str, Any]:
            assert version == 1
            return {**data, "was": version}


class ShardMachine(WorldMachine):
    """Rules are what clients and the world do; invariants are the promises."""

    classes = (Log,)

    @initialize(waits=st.booleans())
    def begin(self, waits: bool) -> None:
        self.classes = (Waiting.Log if waits else Log,)
        self.open_world()
        self.tokens = itertools.count(1)
        self.calls: dict[int, tuple[str, asyncio.Future[Any]]] = {}
        """Token: (object, what its caller heard or will hear). Retries of a key share the token."""
        self.retries: list[tuple[int, asyncio.Future[Any]]] = []
        self.reads: list[tuple[str, asyncio.Future[Any]]] = []
        self.keyed: list[tuple[str, int, str]] = []
        self.ghosts: list[tuple[list[int], asyncio.Future[Any]]] = []
        """Reads asked of a zombie: (what was stored when they were asked, what they heard)."""
        self.vain: list[tuple[int, asyncio.Future[Any]]] = []
        """Writes asked of a zombie."""

    # What clients do.

    @rule(
        name=st.sampled_from(IDS), how=st.sampled_from(["append", "append_async", "append_and_reject", "append_poison"])
    )
    def call(self, name: str, how: str) -> None:
        token = next(self.tokens)
        how = how if hasattr(self.classes[0], how) else "append"
        self.run(self._call(name, how, token, None))

    @rule(name=st.sampled_from(IDS), fresh=st.booleans())
    def call_with_key(self, name: str, fresh: bool) -> None:
        token = next(self.tokens)
        self.keyed.append((name, token, f"key-{token}"))
        self.run(self._call(name, "append", token, f"key-{token}", flags=1 if fresh else 0))

    @rule(which=st.integers(0, 1000), lie=st.booleans())
    def retry(self, which: int, lie: bool) -> None:
        """A retry after a reply was lost; it may even claim to be fresh."""
        if self.keyed:
            name, token, key = self.keyed[which % len(self.keyed)]
            self.run(self._retry(name, token, key, 1 if lie else 0))

    @rule(name=st.sampled_from(IDS))
    def read(self, name: str) -> None:
        self.run(self._read(name))

    async def _call(self, name: str, how: str, token: int, key: str | None, flags: int = 0) -> None:
        self.calls[token] = (name, self.harness.call(Log, name, how, [token], key=key, flags=flags, timeout=3600))
        await asyncio.sleep(0)

    async def _retry(self, name: str, token: int, key: str, flags: int) -> None:
        future = self.harness.call(Log, name, "append", [token], key=key, flags=flags, timeout=3600)
        self.retries.append((token, future))
        await asyncio.sleep(0)

    async def _read(self, name: str) -> None:
        self.reads.append((name, self.harness.call(Log, name, "read", timeout=3600)))
        await asyncio.sleep(0)

    @rule(name=st.sampled_from(IDS), which=st.integers(0, 1000))
    def read_from_a_zombie(self, name: str, which: int) -> None:
        """A client with an old routing table asks a shard that was replaced."""
        if self.zombies:
            self.run(self._ask_ghost(self.zombies[which % len(self.zombies)], name))

    async def _ask_ghost(self, zombie: Harness, name: str) -> None:
        row = next((row for address, row in self.world.objects.items() if address.object_id == name), None)
        stored = json.loads(row.state)["tokens"] if row else []
        self.ghosts.append((stored, zombie.call(Log, name, "read", timeout=3600)))
        await settle(30)

    # What the world does.

    @rule(which=st.integers(0, 1000))
    def write_through_a_zombie(self, which: int) -> None:
        """A client with an old routing table asks a shard that was replaced, and has woken up."""
        if self.zombies:
            self.run(self._write_through(self.zombies[which % len(self.zombies)], next(self.tokens)))

    async def _write_through(self, zombie: Harness, token: int) -> None:
        future = zombie.call(Log, IDS[token % 3], "append", [token], timeout=3600)
        self.vain.append((token, future))
        await settle(30)

    @rule()
    def deploy(self) -> None:
        """The shard is killed, and comes back with the next release."""
        self.classes = (Second.Log,)
        self.run(self._crash())

    @rule(seconds=st.sampled_from([0.5, 3.0, 20.0]))
    def pass_time(self, seconds: float) -> None:
        self.clock.advance(timedelta(seconds=seconds))
        self.run(self._sweep())

    async def _sweep(self) -> None:
        self.harness.shard.idle.sweep()

    @rule(name=st.sampled_from(IDS))
    def evict(self, name: str) -> None:
        self.run(self._evict(name))

    async def _evict(self, name: str) -> None:
        self.harness.call(Log, name, "$evict", timeout=3600)
        await asyncio.sleep(0)

    def shard_is_gone(self, crashed: Harness | None) -> None:
        if crashed is not None:
            self.retries = [(token, future) for token, future in self.retries if future.done()]
            self.reads = [(name, future) for name, future in self.reads if future.done()]

    # What must hold.

    @invariant()
    def nothing_told_is_lost_or_doubled(self) -> None:
        stored = {address.object_id: json.loads(row.state)["tokens"] for address, row in self.world.objects.items()}
        for log in stored.values():
            assert len(log) == len(set(log)), f"an effect happened twice: {log}"
        for token, (name, future) in self.calls.items():
            log = stored.get(name, [])
            if not future.done():
                continue
            if future.exception() is None:
                assert token in log, f"{token} was acknowledged and is not in {log}"
                self._told(name, future.result(), stored)
            else:
                error = future.exception()
                assert isinstance(error, DurableError)
                assert error.outcome == "not_applied", error
                keyed = any(token == other for _, other, _ in self.keyed)
                assert keyed or token not in log, f"{token} failed with {error!r} and is in {log}"
        for token, future in self.retries:
            if future.done() and future.exception() is None:
                assert future.result()[-1] == token, "a retry hears the first result"
        for name, future in self.reads:
            if future.done() and future.exception() is None:
                self._told(name, future.result(), stored)

        everything = {token for log in stored.values() for token in log}
        for token, future in self.vain:
            assert token not in everything, f"a replaced shard has written {token}"
            assert not future.done() or future.exception() is not None, "a replaced shard acknowledged a write"
        for asked, future in self.ghosts:
            if future.done() and future.exception() is None:
                assert future.result()[: len(asked)] == asked, "a replaced shard told what was true before"

    def _told(self, name: str, told: list[int], stored: dict[str, list[int]]) -> None:
        """Whatever anybody was told is a prefix of what the store holds: told means durable."""
        assert stored.get(name, [])[: len(told)] == told, f"{told} was told, the store has {stored.get(name)}"

    async def finish(self) -> None:
        """After the last fault everything works again, and memory agrees with the store."""
        for name in IDS:
            told = await asyncio.wait_for(self.harness.call(Log, name, "read", timeout=3600), 5)
            row = next((row for address, row in self.world.objects.items() if address.object_id == name), None)
            assert told == (json.loads(row.state)["tokens"] if row else [])
        self.nothing_told_is_lost_or_doubled()


TestShardMachine = ShardMachine.TestCase
TestShardMachine.settings = settings(max_examples=int(150 * EXAMPLES_FACTOR), stateful_step_count=40, deadline=None)
