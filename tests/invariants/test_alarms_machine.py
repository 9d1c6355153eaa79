"""Alarms under crashes, takeovers, broken commits, refusals and clocks that are set, driven by hypothesis.

The world sees each committed version: no arming vanishes without a fate, none is fired twice or early, and what the
state says of its alarms is what the rows say. In the end, when everything works again, all that is due has fired.
"""

from __future__ import annotations

import asyncio
import itertools
import json
from collections import Counter
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import initialize, invariant, rule

from durable_engine import DurableError
from durable_shards import deadline_scheduler as schedulers
from durable_shards.alarm_settings import AlarmSettings
from durable_shards.loader import RETRY_SECONDS_MAX, RETRY_SECONDS_MIN
from durable_storage.address import Address
from durable_storage.memory import MemoryStore, MemoryWorld
from durable_storage.store import AlarmRow, Change, DueAlarm, Served
from tests.invariants.clockworks import ARMINGS, MISSED, NAMES, OUTSIDE, Clockwork, doors, wind_up
from tests.invariants.world_machine import EXAMPLES_FACTOR, WorldMachine
from tests.shards.harness import Harness, claim, settle

IDS = st.sampled_from(["a", "b"])
SECONDS = st.sampled_from([0, 0, 0.5, 1, 5, 29, 40, 61, 100])
NEW: dict[str, Any] = {"armed": {}, "fired": [], "dropped": []}
ATTEMPTS = 3
BOUNDS = ("WINDOW_MAX", "IN_FLIGHT_MAX", "PER_TICK", "PER_OBJECT_MAX")


def token_of(row: AlarmRow) -> int:
    token: int = json.loads(row.payload or b"")["token"]
    return token


class Witness(MemoryWorld):
    """A world that looks at each committed version of each object, and keeps the books of the alarms."""

    def __init__(self, *, now: Callable[[], datetime] | None = None) -> None:
        super().__init__(now=now)
        self.effects: Counter[tuple[str, int, str]] = Counter()
        """(object, token, tick): how often it was fired."""
        self.last: dict[int, tuple[str, timedelta]] = {}
        self.retried: dict[tuple[int, str], str] = {}
        """(token, tick): the earliest time for which people armed it again, which a clock that was set back since puts
        before the tick."""
        self.cancels: Counter[str] = Counter()
        """Cancellations from outside that were asked of each object, less those that were seen."""
        self.seen: set[int] = set()
        self.refused: set[str] = set()
        self.broken: list[AssertionError] = []
        """Promises that were not kept; a store that raises would only look like one that is broken."""

    def state(self, address: Address) -> dict[str, Any]:
        row = self.objects.get(address)
        return json.loads(row.state) if row else NEW

    def rows(self, address: Address) -> dict[str, AlarmRow]:
        return dict(self.alarms.get(address, {}))

    def _store(self, change: Change) -> None:
        try:
            self._look_on(change)
        except AssertionError as error:
            self.broken.append(error)

    def _look_on(self, change: Change) -> None:
        address, name = change.address, change.address.object_id
        rows_before = self.rows(address)
        assert not {row.name for row in change.alarms_set} & {*change.alarms_cleared}, "set and cleared at once"
        before = NEW if change.delete else self.state(address)
        super()._store(change)
        rows, after = self.rows(address), self.state(address)
        self._note_retries(rows)
        self.seen |= {token_of(row) for row in rows.values()} | {token for _, token, _, _ in after["fired"]}
        inside = {each: token_of(row) for each, row in rows.items() if each not in OUTSIDE}
        assert inside == after["armed"], f"state and rows of {name} tell different stories: {after['armed']}, {inside}"
        new = after["fired"][len(before["fired"]) :]
        assert after["fired"][: len(before["fired"])] == before["fired"], "history was rewritten"
        self._note_effects(name, new)
        if not change.delete:
            fired = {alarm: token for alarm, token, _, _ in new}
            dropped = {*after["dropped"][len(before["dropped"]) :], *(token for _, token, _, _ in new)}
            self._explain(name, rows_before, rows, dropped, fired)

    def _note_retries(self, rows: dict[str, AlarmRow]) -> None:
        """A retry that people ask for is due at once, and the first attempt of its tick again."""
        for row in rows.values():
            if row.tick is not None and not row.attempts:
                arming, at = (token_of(row), row.tick.isoformat()), row.at.isoformat()
                self.retried[arming] = min(at, self.retried.get(arming, at))

    def _note_effects(self, name: str, new: list[list[Any]]) -> None:
        for alarm, token, tick, at in new:
            assert token > 0, "an effect of something that was undone"
            due = min(tick, self.retried.get((token, tick), tick))
            assert at >= due or alarm == "by_hand", f"{alarm} of {name} was fired early: {at} instead of {due}"
            self.effects[name, token, tick] += 1
            assert self.effects[name, token, tick] == 1, f"{alarm} of {name} was fired twice for {tick}"
            if not alarm.startswith("every_"):
                assert token not in self.last, f"{alarm} of {name} was fired twice"
            self.last[token] = (tick, timedelta(0))

    def _explain(
        self,
        name: str,
        before: dict[str, AlarmRow],
        rows: dict[str, AlarmRow],
        explained: set[int],
        fired: dict[str, int],
    ) -> None:
        """Every arming that is gone was fired, cancelled or replaced; what replaced it may itself be fired by now."""
        for each, row in before.items():
            token = token_of(row)
            after = rows.get(each)
            if after is not None and token_of(after) == token:
                self._check_same(name, row, after)
            elif token not in explained and (each not in OUTSIDE or (after is None and each not in fired)):
                assert each in OUTSIDE, f"{each} of {name} ({token}) is lost"
                self.cancels[name] -= 1
                assert self.cancels[name] >= 0, f"{each} of {name} ({token}) is lost"

    def _check_same(self, name: str, row: AlarmRow, after: AlarmRow) -> None:
        """An arming that stayed: another attempt, the next tick, or as it was."""
        assert after.attempts <= ATTEMPTS
        if row.recurrence is None:
            assert (after.tick or after.at) == (row.tick or row.at), f"{row.name} of {name} moved"
        else:
            every = timedelta(microseconds=json.loads(row.recurrence)["every_microseconds"])
            moved = (after.tick or after.at) - (row.tick or row.at)
            assert moved % every == timedelta(0), f"{row.name} of {name} is out of its beat"
        if row.name in {"plain", "by_hand", "chain"} and name not in self.refused:
            assert after.attempts == 0, f"{row.name} of {name} failed: {after.problem}"


class SlowStore(MemoryStore):
    """A store whose answers to sweeps are on their way for a while, and as long as commits are held."""

    async def due_alarms(self, served: Served, before: datetime, limit: int) -> list[DueAlarm]:
        """Read at once, told later: by then other commits may be through."""
        found = await super().due_alarms(served, before, limit)
        await self.world._flowing.wait()
        await settle(10)
        return found


class AlarmsMachine(WorldMachine):
    """Rules are what clients do and what time does; invariants are the promises."""

    classes = (Clockwork,)
    world: Witness

    @initialize(bounds=st.sampled_from([(20_000, 512, 64, 32), (4, 3, 2, 1), (4, 3, 4, 2), (2, 2, 1, 1)]))
    def begin(self, bounds: tuple[int, ...]) -> None:
        self.bounds = {name: getattr(schedulers, name) for name in BOUNDS}
        for name, bound in zip(BOUNDS, bounds, strict=True):
            setattr(schedulers, name, bound)
        self.tokens = itertools.count(1)
        self.open: list[tuple[int, str, str, asyncio.Future[Any]]] = []
        """(token, object, alarm) of armings that were asked for, and what their callers hear."""
        self.latest: dict[tuple[str, str], int] = {}
        self.meddled: Counter[str] = Counter()
        self.set_back = 0.0
        self.open_world(Witness)
        wind_up(self.clock)

    async def start_shard(self) -> None:
        alarms = AlarmSettings(attempts=ATTEMPTS, backoff=1)
        store = SlowStore(self.world)
        self.harness = Harness(self.classes, world=self.world, clock=self.clock, store=store, alarms=alarms)
        await self.harness.shard.start(claim())

    # What clients do.

    @rule(
        name=IDS,
        how=st.sampled_from(ARMINGS),
        alarm=st.sampled_from(NAMES),
        seconds=SECONDS,
        fails=st.integers(0, 4),
        then=st.sampled_from(["", "", "cancel", "arm", "$delete"]),
    )
    def arm(self, name: str, how: str, alarm: str, seconds: float, fails: int, then: str) -> None:
        """Set an alarm; and perhaps do something else with it or its object, in the same step of the loop."""
        token = next(self.tokens)
        if how == "poison":
            self.world.refused.add(name)
        fails = fails if alarm == "bad" else 0
        self.run(self._arm(name, alarm, token, how, [alarm, token, seconds, fails], then))

    @rule(name=IDS, missed=st.sampled_from(MISSED), seconds=st.sampled_from([7.0, 40.0, 200.0]))
    def repeat(self, name: str, missed: str, seconds: float) -> None:
        token = next(self.tokens)
        self.run(self._arm(name, f"every_{missed}", token, "repeat", [token, seconds, missed]))

    @rule(name=IDS, alarm=st.sampled_from(OUTSIDE), seconds=SECONDS)
    def arm_from_outside(self, name: str, alarm: str, seconds: float) -> None:
        token = next(self.tokens)
        arguments = [alarm, {"after": seconds}, {"token": token, "fails": 0}]
        self.run(self._arm(name, alarm, token, "$schedule", arguments))

    async def _arm(self, name: str, alarm: str, token: int, how: str, arguments: list[Any], then: str = "") -> None:
        future = self._call(name, how, arguments)
        self.latest[name, alarm] = token
        if how not in {"reject", "poison"}:
            self.open.append((token, name, alarm, future))
        if then:
            self.meddled[name] += 1
            what = {"cancel": [alarm], "arm": [alarm, next(self.tokens), 61], "$delete": []}
            self._call(name, then, what[then])
        await asyncio.sleep(0)

    def _call(self, name: str, how: str, arguments: list[Any]) -> asyncio.Future[Any]:
        future = self.harness.call(Clockwork, name, how, arguments, timeout=1e6)
        future.add_done_callback(lambda done: done.cancelled() or done.exception())
        return future

    @rule(name=IDS, alarm=st.sampled_from(NAMES + tuple(f"every_{missed}" for missed in MISSED)))
    def cancel(self, name: str, alarm: str) -> None:
        self.run(self._meddle(name, "cancel", [alarm]))

    @rule(name=IDS, alarm=st.sampled_from(OUTSIDE))
    def cancel_from_outside(self, name: str, alarm: str) -> None:
        self.world.cancels[name] += 1
        self.run(self._meddle(name, "$cancel", [alarm]))

    @rule(name=IDS, how=st.sampled_from(["cancel_all", "$delete", "$evict", "$pending"]))
    def meddle(self, name: str, how: str) -> None:
        self.run(self._meddle(name, how, []))

    @rule(name=IDS)
    def fire_by_hand(self, name: str) -> None:
        self.run(self._meddle(name, "$fire", ["by_hand", None]))

    @rule(name=IDS)
    def retry(self, name: str) -> None:
        self.run(self._meddle(name, "$retry", [None]))

    async def _meddle(self, name: str, how: str, arguments: list[Any]) -> None:
        if how not in {"$evict", "$pending", "$retry", "$fire"}:
            self.meddled[name] += 1
        self._call(name, how, arguments)
        await asyncio.sleep(0)

    @rule()
    def open_the_door(self) -> None:
        """Slow alarms come to their end; later ones wait for another door."""
        self._open_doors()
        self.run(settle(30))

    def _open_doors(self) -> None:
        doors[-1].set()
        doors.append(asyncio.Event())

    # What time and the world do.

    @rule(seconds=st.sampled_from([0, 0.5, 1, 3, 6, 20, 30, 100]))
    def pass_time(self, seconds: float) -> None:
        self.run(self._pass_time(seconds))

    async def _pass_time(self, seconds: float) -> None:
        await self.harness.pass_time(seconds)
        self.harness.shard.idle.sweep()
        await settle(40)

    @rule(seconds=st.sampled_from([0.5, 6, 30]))
    def lose_the_store(self, seconds: float) -> None:
        """For a while it answers nobody."""
        self.world.go_away()
        self.run(self._pass_time(seconds))
        self.world.come_back()
        self.run(self._until_retried())

    async def _until_retried(self) -> None:
        """Loads that failed are tried again by the loop's own clock."""
        await asyncio.sleep(RETRY_SECONDS_MIN)
        await settle(30)

    @rule(seconds=st.sampled_from([0, 0.5, 10]))
    def wake_a_zombie(self, seconds: float) -> None:
        """A shard that was replaced goes on, with all its alarms overdue."""
        if self.zombies:
            self.run(self.zombies[-1].pass_time(seconds))

    @rule(seconds=st.sampled_from([1, 40, 3600]))
    def set_the_clock_back(self, seconds: float) -> None:
        """While nothing is being fired: what is, was due by the clock as it was."""
        if not self.harness.scheduler.statistics().in_flight:
            self.clock._now -= timedelta(seconds=seconds)
            self.set_back += seconds

    async def close_shard(self, harness: Harness) -> None:
        closing = asyncio.ensure_future(harness.shard.close())
        await asyncio.sleep(0)
        self._open_doors()
        await closing

    def shard_is_gone(self, crashed: Harness | None) -> None:
        self.judge()
        self.open.clear()

    # What must hold.

    @invariant()
    def what_was_acknowledged_was_stored(self) -> None:
        self.judge()

    def judge(self) -> None:
        """An arming that was acknowledged has been in the store, unless something later took its place at once."""
        if self.world.broken:
            raise self.world.broken[0]
        for entry in [each for each in self.open if each[3].done()]:
            self.open.remove(entry)
            token, name, alarm, future = entry
            error = future.exception()
            if error is not None:
                assert isinstance(error, DurableError)
            elif self.latest[name, alarm] == token and not self.meddled[name]:
                assert token in self.world.seen, f"{alarm} of {name} ({token}) was acknowledged and is lost"

    @invariant()
    def what_comes_near_is_known(self) -> None:
        """In a quiet moment each alarm before the horizon is in the scheduler's memory, for the time in its row."""
        scheduler = self.harness.scheduler
        writer = self.harness.shard.writer.statistics()
        if writer.waiting or writer.in_flight or scheduler._sweeping is not None or self.harness.shard.stopped:
            return
        if scheduler._sweep_at <= self.clock.monotonic() + schedulers.RETRY_SECONDS:
            return  # a sweep is due; or it has failed, and is tried again
        for address, rows in self.world.alarms.items():
            for row in rows.values():
                key = (address, row.name)
                if row.is_parked or row.at >= scheduler._horizon or key in scheduler._flights:
                    continue
                armed = scheduler._armed.get(key)
                assert armed is not None, f"{key} is due at {row.at}, before {scheduler._horizon}, and unknown"
                assert armed.at == row.at, f"{key} is due at {row.at}, not at {armed.at}"

    async def finish(self) -> None:
        """Everything works again: what is due fires, memory agrees with the store."""
        scheduler = self.harness.scheduler
        for seconds in (*[20.0] * 6, self.set_back, *[20.0] * 9):
            await self._pass_time(seconds)
            await asyncio.sleep(RETRY_SECONDS_MAX)  # a load or a lease that failed waits by the loop's clock
            self._open_doors()
            for _ in range(400):
                await settle()
                due = scheduler.next_due()
                idle = not scheduler.statistics().in_flight and scheduler._sweeping is None
                if idle and (due is None or due > self.clock.now()):
                    break
        self.judge()
        assert not self.harness.stops
        for address, rows in self.world.alarms.items():
            for row in rows.values():
                assert row.is_parked or row.at > self.clock.now(), f"{address}: {row} never fired"
        for name in ("a", "b"):
            listed = self._call(name, "$alarms", [])
            await asyncio.wait_for(asyncio.shield(listed), 5)
            address = Address("", "Clockwork", name)
            assert {row["name"]: row["at"] for row in listed.result()} == {
                row.name: row.at.isoformat() for row in self.world.rows(address).values()
            }

    def teardown(self) -> None:
        try:
            super().teardown()
        finally:
            if hasattr(self, "loop"):
                self.loop.close()
            for name, bound in getattr(self, "bounds", {}).items():
                setattr(schedulers, name, bound)


TestAlarmsMachine = AlarmsMachine.TestCase
TestAlarmsMachine.settings = settings(max_examples=int(250 * EXAMPLES_FACTOR), stateful_step_count=40, deadline=None)
