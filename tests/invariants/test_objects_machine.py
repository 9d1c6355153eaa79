"""Objects that call, tell, load, delete and arm alarms, under crashes and faults, driven by hypothesis.

The world looks at every version that is committed: an effect appears once, lists only grow, and the alarms are those
that the state speaks of. The model knows of each call what its caller was told, and compares.
"""

from __future__ import annotations

import asyncio
import itertools
import json
from collections import Counter, defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import initialize, invariant, rule

from durable_engine import DurableError, HandlerFailed
from durable_storage.address import Address
from durable_storage.memory import MemoryWorld
from durable_storage.store import Change
from tests.invariants.actors import CALLS, KINDS, TELLING, doors
from tests.invariants.world_machine import EXAMPLES_FACTOR, WorldMachine
from tests.shards.harness import Harness, settle

NAMES = st.sampled_from(sorted(KINDS))
WITHOUT_TOKEN = ("read", "$evict", "$delete")
TIMEOUT = 10.0
NEW: dict[str, Any] = {"tokens": [], "armed": [], "loads": 0}


class Witness(MemoryWorld):
    """A world that sees each committed version of each object."""

    def __init__(self, *, now: Callable[[], datetime] | None = None) -> None:
        super().__init__(now=now)
        self.versions: defaultdict[str, list[list[int]]] = defaultdict(lambda: [[]])
        """The tokens of every version there was."""
        self.effects: Counter[tuple[str, int]] = Counter()
        """How often each token came to each object."""
        self.deletes: Counter[str] = Counter()

    def tokens(self, name: str) -> list[int]:
        return list(self.versions[name][-1])

    def state(self, address: Address) -> dict[str, Any]:
        row = self.objects.get(address)
        return json.loads(row.state) if row else NEW

    def _store(self, change: Change) -> None:
        name = change.address.object_id
        before = NEW if change.delete else self.state(change.address)
        self.deletes[name] += change.delete
        super()._store(change)
        after = self.state(change.address)
        known = len(before["tokens"])
        assert after["tokens"][:known] == before["tokens"], f"{name} lost {before['tokens']}: {after['tokens']}"
        assert after["loads"] >= before["loads"]
        assert after["armed"] == sorted(self.alarms.get(change.address, ())), "state and alarms tell different stories"
        self.versions[name].append(after["tokens"])
        self.effects.update((name, token) for token in after["tokens"][known:])


@dataclass
class Asked:
    """A call that was made, and the world as it was then."""

    name: str
    how: str
    token: int
    other: str
    key: str | None
    future: asyncio.Future[Any]
    harness: Harness
    tokens: list[int]
    deletes: Counter[str]


class ObjectsMachine(WorldMachine):
    """Rules are what clients do; invariants are the promises."""

    classes = tuple(set(KINDS.values()))
    world: Witness

    @initialize()
    def begin(self) -> None:
        self.open_world(Witness)
        doors[:] = [asyncio.Event()]
        self.tokens = itertools.count(1)
        self.open: list[Asked] = []
        self.keyed: list[Asked] = []
        self.undone: set[tuple[str, int]] = set()
        """Effects whose callers were told that they never were."""
        self.told: list[Asked] = []
        """Acknowledged calls of the living shard that have told something to another object."""

    # What clients do.

    @rule(name=NAMES, other=NAMES, hows=st.lists(st.sampled_from((*CALLS, "$delete")), min_size=1, max_size=4))
    def call(self, name: str, other: str, hows: list[str]) -> None:
        """Calls of one client to one object, which share a commit if they can."""
        for how in hows:
            self.run(self._call(name, how, next(self.tokens), other))

    @rule(name=NAMES, other=NAMES, fresh=st.booleans())
    def tell_under_a_key(self, name: str, other: str, fresh: bool) -> None:
        token = next(self.tokens)
        self.run(self._call(name, "tell", token, other, f"key-{token}", flags=int(fresh)))
        self.keyed.append(self.open[-1])

    @rule(which=st.integers(0, 1000), lie=st.booleans())
    def retry(self, which: int, lie: bool) -> None:
        """A retry after a reply was lost; it may even claim to be fresh."""
        if self.keyed:
            asked = self.keyed[which % len(self.keyed)]
            self.run(self._call(asked.name, asked.how, asked.token, asked.other, asked.key, flags=int(lie)))
            self.open[-1].deletes = asked.deletes  # it may hear what was told before the object was deleted

    async def _call(self, name: str, how: str, token: int, other: str, key: str | None = None, flags: int = 0) -> None:
        if how in WITHOUT_TOKEN:
            token = 0
        args = [token, other] if token else []
        future = self.harness.call(KINDS[name], name, how, args, key=key, flags=flags, timeout=TIMEOUT)
        tokens, deletes = self.world.tokens(name), self.world.deletes.copy()
        self.open.append(Asked(name, how, token, other, key, future, self.harness, tokens, deletes))
        await asyncio.sleep(0)

    @rule(name=NAMES, how=st.sampled_from(WITHOUT_TOKEN))
    def look_or_manage(self, name: str, how: str) -> None:
        self.run(self._call(name, how, 0, name))

    @rule()
    def open_the_door(self) -> None:
        """Lingering turns end; later ones wait for another door."""
        self._open_doors()
        self.run(settle(30))

    def _open_doors(self) -> None:
        doors[-1].set()
        doors.append(asyncio.Event())

    @rule(seconds=st.sampled_from([0.5, 6.0, 20.0]))
    def pass_time(self, seconds: float) -> None:
        """Turns expire, objects fall asleep and are forgotten."""
        self.run(self._pass_time(seconds))

    async def _pass_time(self, seconds: float) -> None:
        await self.harness.pass_time(seconds)
        self.harness.shard.idle.sweep()

    async def close_shard(self, harness: Harness) -> None:
        closing = asyncio.ensure_future(harness.shard.close())
        await asyncio.sleep(0)
        self._open_doors()  # a dead process waits for no stubborn handler
        await closing

    def shard_is_gone(self, crashed: Harness | None) -> None:
        self.judge()
        self.open = [asked for asked in self.open if asked.harness is not crashed]
        self.told.clear()  # one-way calls need not survive their shard

    # What must hold.

    @invariant()
    def nothing_happens_twice_or_after_all(self) -> None:
        self.judge()
        assert [effect for effect, times in self.world.effects.items() if times > 1] == []
        assert not self.undone & self.world.effects.keys()

    def judge(self) -> None:
        """Compare what each caller was told with what was committed, once."""
        done = [asked for asked in self.open if asked.future.done()]
        self.open = [asked for asked in self.open if not asked.future.done()]
        for asked in done:
            error = asked.future.exception()
            if error is None:
                self._judge_success(asked)
            else:
                self._judge_failure(asked, error)

    def _judge_success(self, asked: Asked) -> None:
        if asked.how[0] != "$":
            self._judge_told(asked, asked.future.result())
        if asked.token:
            assert self._happened(asked, asked.name, asked.token), f"{asked} was acknowledged and is lost"
        if asked.how == "ask":
            assert self._happened(asked, asked.other, asked.token), f"{asked} has called nobody"
        # Under a key, or by a shard that was replaced, the turn may be older than the living shard.
        if asked.how in TELLING and asked.key is None and asked.harness is self.harness:
            self.told.append(asked)

    def _judge_told(self, asked: Asked, told: list[int]) -> None:
        """What was told is durable, and no older than the call."""
        if self._was_deleted(asked, asked.name):
            return
        assert any(version[: len(told)] == told for version in self.world.versions[asked.name]), f"{asked}: {told}"
        assert asked.key or told[: len(asked.tokens)] == asked.tokens, f"{asked} was told what was true before: {told}"

    def _judge_failure(self, asked: Asked, error: BaseException) -> None:
        assert isinstance(error, DurableError)
        assert not isinstance(error, HandlerFailed), "a handler found something wrong"
        assert error.outcome == "not_applied" or asked.how in {"ask", "ask_and_reject"}, error
        if error.outcome == "not_applied" and asked.key is None and asked.token:
            self.undone |= {(asked.name, asked.token), (asked.other, -asked.token)}

    def _happened(self, asked: Asked, name: str, token: int) -> bool:
        return bool(self.world.effects[name, token]) or self._was_deleted(asked, name)

    def _was_deleted(self, asked: Asked, name: str) -> bool:
        """An object that was deleted since the call may have been so in the very commit of its effect."""
        return self.world.deletes[name] > asked.deletes[name]

    async def finish(self) -> None:
        """Every call is answered, every one-way call has arrived or was counted, memory agrees with the store."""
        for _ in range(2):
            await self._pass_time(TIMEOUT + 1)
        self._open_doors()
        for name in KINDS:  # turns that were left behind go on, and must not go along with later ones
            await self._call(name, "append", next(self.tokens), name)
        await settle(100)
        await self._pass_time(TIMEOUT + 1)
        self.nothing_happens_twice_or_after_all()
        assert [asked for asked in self.open if asked.harness is self.harness] == []
        missing = [asked for asked in self.told if not self._happened(asked, asked.other, -asked.token)]
        assert len(missing) <= self.harness.shard.gate.one_way_errors, missing
        for name, kind in KINDS.items():
            assert await self._answer(name, "read") == self.world.tokens(name)
            address = Address("", kind.__name__, name)
            pending = await self._answer(name, "$pending")
            assert sorted(row[0] for row in pending) == sorted(self.world.alarms.get(address, ()))

    async def _answer(self, name: str, how: str) -> Any:
        future = self.harness.call(KINDS[name], name, how, timeout=TIMEOUT)
        await settle(60)
        assert future.done(), f"{name}.{how} was never answered"
        return future.result()


TestObjectsMachine = ObjectsMachine.TestCase
TestObjectsMachine.settings = settings(max_examples=int(150 * EXAMPLES_FACTOR), stateful_step_count=40, deadline=None)
