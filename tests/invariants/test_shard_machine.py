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
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from durable_engine import DurableError, DurableObject, Rejected, field, handler
from durable_storage.lease import LEASE_SECONDS
from durable_storage.memory import MemoryStore, MemoryWorld
from durable_storage.store import Change
from tests.shards.harness import Harness, claim

IDS = ("a", "b", "c")


class Log(DurableObject, hibernate_after=timedelta(seconds=5)):
    """Remembers every token it was given, in order."""

    tokens: list[int] = field(default_factory=list)
    poisoned: bool = False

    @handler
    def append(self, token: int) -> list[int]:
        self.tokens.append(token)
        return self.tokens

    @handler
    async def append_async(self, token: int) -> list[int]:
        self.tokens.append(token)
        await asyncio.sleep(0)
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


def is_poison(change: Change) -> bool:
    return change.state is not None and bool(json.loads(change.state)["poisoned"])


class ShardMachine(RuleBasedStateMachine):
    """Rules are what clients and the world do; invariants are the promises."""

    @initialize()
    def begin(self) -> None:
        self.loop = asyncio.new_event_loop()
        self.tokens = itertools.count(1)
        self.calls: dict[int, tuple[str, asyncio.Future[Any]]] = {}
        """Token: (object, what its caller heard or will hear). Retries of a key share the token."""
        self.retries: list[tuple[int, asyncio.Future[Any]]] = []
        self.reads: list[tuple[str, asyncio.Future[Any]]] = []
        self.keyed: list[tuple[str, int, str]] = []
        self.zombies: list[Harness] = []
        self.ghosts: list[tuple[list[int], asyncio.Future[Any]]] = []
        """Reads asked of a zombie: (what was stored when they were asked, what they heard)."""
        self.run(self._begin())

    async def _begin(self) -> None:
        self.harness = Harness([Log])
        self.world: MemoryWorld = self.harness.world
        self.world.refuse(is_poison)
        await self.harness.shard.start(claim())

    def run(self, work: Any) -> Any:
        return self.loop.run_until_complete(work)

    async def _settle(self) -> None:
        for _ in range(30):
            await asyncio.sleep(0)

    # What clients do.

    @rule(
        name=st.sampled_from(IDS), how=st.sampled_from(["append", "append_async", "append_and_reject", "append_poison"])
    )
    def call(self, name: str, how: str) -> None:
        token = next(self.tokens)
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
        await self._settle()

    # What the world does.

    @rule(fault=st.sampled_from(["before", "after", "late"]))
    def break_a_commit(self, fault: Any) -> None:
        self.world.fail_next(fault)

    @rule()
    def hold_commits(self) -> None:
        self.world.hold()

    @rule()
    def release_commits(self) -> None:
        self.world.release()
        self.run(self._settle())

    @rule()
    def work(self) -> None:
        self.run(self._settle())

    @rule(seconds=st.sampled_from([0.5, 3.0, 20.0]))
    def pass_time(self, seconds: float) -> None:
        self.harness.clock.advance(timedelta(seconds=seconds))  # type: ignore[union-attr]
        self.run(self._sweep())

    async def _sweep(self) -> None:
        self.harness.shard.idle.sweep()

    @rule(name=st.sampled_from(IDS))
    def evict(self, name: str) -> None:
        self.run(self._evict(name))

    async def _evict(self, name: str) -> None:
        self.harness.call(Log, name, "$evict", timeout=3600)
        await asyncio.sleep(0)

    @rule()
    def crash(self) -> None:
        """The process dies: nothing in flight of it reaches the store later, callers hear nothing."""
        self.run(self._crash())

    async def _crash(self) -> None:
        self.world.release()
        await self.harness.shard.close()
        self._forget_unanswered()
        await self._start_another()

    @rule()
    def take_over(self) -> None:
        """The process is stopped, another takes over, and the first wakes up later: it may do no harm."""
        self.run(self._take_over())

    async def _take_over(self) -> None:
        self.zombies.append(self.harness)
        # Whoever takes over a process that may be alive waits out its lease for reads.
        self.harness.clock.advance(timedelta(seconds=LEASE_SECONDS))  # type: ignore[union-attr]
        await self._start_another()

    async def _start_another(self) -> None:
        another = Harness([Log], world=self.world, clock=self.harness.clock)
        another.store = MemoryStore(self.world)
        self.harness = another
        await another.shard.start(claim())

    def _forget_unanswered(self) -> None:
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

        for asked, future in self.ghosts:
            if future.done() and future.exception() is None:
                assert future.result()[: len(asked)] == asked, "a replaced shard told what was true before"

    def _told(self, name: str, told: list[int], stored: dict[str, list[int]]) -> None:
        """Whatever anybody was told is a prefix of what the store holds: told means durable."""
        assert stored.get(name, [])[: len(told)] == told, f"{told} was told, the store has {stored.get(name)}"

    def teardown(self) -> None:
        if hasattr(self, "loop"):
            self.run(self._finish())
            self.loop.close()

    async def _finish(self) -> None:
        """After the last fault everything works again, and memory agrees with the store."""
        self.world.release()
        await self._settle()
        for name in IDS:
            told = await asyncio.wait_for(self.harness.call(Log, name, "read", timeout=3600), 5)
            row = next((row for address, row in self.world.objects.items() if address.object_id == name), None)
            assert told == (json.loads(row.state)["tokens"] if row else [])
        self.nothing_told_is_lost_or_doubled()
        for zombie in self.zombies:
            await zombie.shard.close()
        await self.harness.shard.close()


TestShardMachine = ShardMachine.TestCase
TestShardMachine.settings = settings(max_examples=150, stateful_step_count=40, deadline=None)
