"""Alarms fire: when, in which order, with one effect."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from datetime import timedelta

import pytest

from durable_engine import DurableObject, alarm
from durable_shards.clock import ManualClock
from durable_shards.errors import HandlerFailed, InvalidArguments
from durable_shards.wire import Call
from durable_storage.address import Address
from durable_storage.memory import MemoryStore, MemoryWorld
from durable_storage.store import AlarmRow, Change
from tests.shards.alarm_objects import GATES, Bell, Catcher, Nested, Opened
from tests.shards.harness import Harness, answered, claim, settle

NOW = ManualClock().now()
BELL = Address("", "Bell", "a")


async def rung(h: Harness, object_id: str = "a") -> list[str]:
    """What has rung."""
    found: list[str] = await answered(h.call(Bell, object_id, "get", timeout=1e6))
    return found


def rows(h: Harness, address: Address = BELL) -> dict[str, AlarmRow]:
    """The alarms in the store."""
    return h.world.alarms.get(address, {})


async def test_an_alarm_fires_when_it_is_due_and_not_before() -> None:
    """parity 74, 76, 82, 86: its method runs at its time, and then it is gone."""
    async with Harness([Bell]) as h:
        await h.call(Bell, "a", "arm", ["ring", 10])
        await h.pass_time(9.999)
        assert await rung(h) == []
        await h.pass_time(0.001)
        assert await rung(h) == ["ring"]
        assert rows(h) == {}
        await h.pass_time(3600)
        assert await rung(h) == ["ring"]


class Early(DurableObject):
    """Tells by its state when code of it has run."""

    loads: int = 0

    def after_load(self) -> None:
        self.loads += 1

    @alarm
    def ring(self) -> None: ...


async def test_alarms_are_set_and_cancelled_from_outside_without_running_the_object() -> None:
    """parity 77: neither `after_load` nor anything else of its code, until an alarm fires."""
    async with Harness([Early]) as h:
        for at in (10, 20):
            await h.call(Early, "a", "$schedule", ["ring", {"after": at}, None])
            await h.call(Early, "b", "$schedule", ["ring", {"after": at}, None])
        assert len(await h.call(Early, "a", "$pending")) == 1
        assert await h.call(Early, "b", "$cancel", ["ring"])
        assert h.world.objects == {}
        await h.pass_time(20)
        assert list(h.world.objects) == [Address("", "Early", "a")]


async def test_many_alarms_of_an_object_fire_in_the_order_of_their_times() -> None:
    """parity 74, 76: each by its name; zero means at once."""
    async with Harness([Bell]) as h:
        for name, seconds in (("ring", 2), ("tell", 1), ("look", 0)):
            await h.call(Bell, "a", "arm", [name, seconds])
        await settle()
        await h.pass_time(1)
        await h.pass_time(1)
        assert await rung(h) == ["tell,ring", "None 0 00:00:01", "ring"]


async def test_state_and_removal_are_one_commit() -> None:
    """parity 78, 84: the effect of a firing and the removal of its alarm are in one statement, so both or none."""
    async with Harness([Bell]) as h:
        await h.call(Bell, "a", "arm", ["ring", 10])
        h.world.hold()
        before = h.world.statements
        await h.pass_time(10)
        assert h.world.commits_held == 1
        assert rows(h).keys() == {"ring"}
        h.world.release()
        await settle()
        assert h.world.statements == before + 1
        assert rows(h) == {}
        assert b"ring" in h.world.objects[BELL].state


async def test_an_alarm_of_an_undone_turn_never_was() -> None:
    """parity 78: what a failed handler scheduled is undone with its state."""
    async with Harness([Bell]) as h:
        with pytest.raises(Exception, match="no"):
            await h.call(Bell, "a", "arm_and_fail", ["ring"])
        await h.pass_time(100)
        assert await rung(h) == []


async def test_scheduling_a_name_again_replaces_it() -> None:
    """parity 75: only the newest time counts, earlier or later."""
    async with Harness([Bell]) as h:
        await h.call(Bell, "a", "arm", ["tell", 10, "first"])
        await h.call(Bell, "a", "arm", ["tell", 20, "second"])
        await h.pass_time(10)
        assert await rung(h) == []
        await h.call(Bell, "a", "arm", ["tell", 5, "third"], timeout=1e6)
        await h.pass_time(5)
        assert await rung(h) == ["third 0 00:00:15"]
        await h.pass_time(100)
        assert len(await rung(h)) == 1


async def test_a_cancelled_alarm_does_not_fire() -> None:
    """parity 79: cancelling says whether there was one, and one that is absent is no error."""
    async with Harness([Bell]) as h:
        await h.call(Bell, "a", "arm", ["ring", 10])
        assert await h.call(Bell, "a", "disarm", ["ring"]) is True
        assert await h.call(Bell, "a", "disarm", ["ring"]) is False
        await h.pass_time(20)
        assert await rung(h) == []


async def test_an_alarm_that_arms_itself_again_goes_on() -> None:
    """fault C6: parity 83, 89: an arming inside of the firing survives it."""
    async with Harness([Bell]) as h:
        await h.call(Bell, "a", "arm", ["chain", 10])
        for _ in range(7):
            await h.pass_time(10)
        assert await rung(h) == ["chain"] * 5
        assert rows(h) == {}


async def test_an_arming_by_a_call_during_the_firing_survives_it() -> None:
    """fault C6: parity 89: the order of turns decides, so the newer arming stays."""
    async with Harness([Bell]) as h:
        GATES["wait"] = asyncio.Event()
        await h.call(Bell, "a", "arm", ["wait", 1])
        await h.pass_time(1)
        armed = h.call(Bell, "a", "arm", ["wait", 2], timeout=1e6)
        await settle()
        GATES["wait"].set()
        await armed
        assert rows(h)["wait"].at == NOW + timedelta(seconds=3)
        await h.pass_time(2)
        assert await rung(h) == ["waited"] * 2


async def test_an_arming_by_an_inner_turn_survives_the_firing() -> None:
    """fault C6: parity 89: a reentrant object that arms the alarm anew while it fires keeps the new one."""
    async with Harness([Nested]) as h:
        await h.call(Nested, "a", "arm", [1])
        await h.pass_time(1)
        assert await answered(h.call(Nested, "a", "get", timeout=1e6)) == 1
        assert rows(h, Address("", "Nested", "a"))["ring"].at == NOW + timedelta(seconds=61)
        act = h.shard.directory.default["Nested"].live["a"]
        assert act.alarms_now == rows(h, Address("", "Nested", "a"))


async def test_alarms_set_while_loading_fire() -> None:
    """parity 67: `after_load` may schedule."""
    async with Harness([Opened]) as h:
        await h.call(Opened, "a", "get")
        await h.pass_time(60)
        assert await answered(h.call(Opened, "a", "get", timeout=1e6)) == 1


async def test_a_new_owner_fires_what_it_finds() -> None:
    """parity 72, 84, 85: after a crash the alarms of the store fire, without anybody calling their objects."""
    async with Harness([Bell]) as h:
        await h.call(Bell, "a", "arm", ["ring", 10])
        await h.call(Bell, "b", "arm", ["ring", 500])
    clock = h.clock
    clock.advance(timedelta(seconds=20))  # type: ignore[union-attr]
    async with Harness([Bell], world=h.world, clock=clock) as again:
        await settle()
        assert await rung(again) == ["ring"]
        await again.pass_time(480)
        assert await rung(again, "b") == ["ring"]


async def test_a_firing_that_was_cut_off_before_its_commit_happens_once() -> None:
    """fault C7: parity 84: the handler ran twice, and its effect is there once."""
    async with Harness([Bell]) as h:
        await h.call(Bell, "a", "arm", ["ring", 10])
        h.world.hold()
        await h.pass_time(10)
        assert h.world.commits_held == 1
        async with Harness([Bell], world=h.world, clock=h.clock) as again:  # takes the shard over
            h.world.release()
            await settle()
            assert h.stops
            assert await rung(again) == ["ring"]
            assert rows(h) == {}


@pytest.mark.parametrize("fault", ["before", "after", "late"])
async def test_an_unknown_outcome_of_a_firing_is_resolved(fault: str) -> None:
    """fault C7: parity 84: a connection that breaks under the commit doubles nothing and loses nothing."""
    async with Harness([Bell]) as h:
        await h.call(Bell, "a", "arm", ["ring", 10])
        h.world.fail_next(fault)  # type: ignore[arg-type]
        await h.pass_time(10)
        assert h.world.faults_fired == 1
        assert await rung(h) == ["ring"]
        assert rows(h) == {}


async def test_an_alarm_of_an_unknown_class_waits_for_it() -> None:
    """fault C5, F7: parity 46, 88: nothing is deleted; a process that serves the class fires it."""
    async with Harness([Bell]) as h:
        await h.call(Bell, "a", "arm", ["ring", 1])
        row = rows(h)["ring"]
    async with Harness([Catcher], world=h.world, clock=h.clock) as without:
        await without.pass_time(100)
        assert rows(h) == {"ring": row}
        (listed,) = await without.shard.request("alarms", {"orphaned": True})
        assert (listed["class"], listed["id"], listed["orphaned"]) == ("Bell", "a", "unknown class")
    async with Harness([Bell], world=h.world, clock=h.clock) as again:
        await settle()
        assert await rung(again) == ["ring"]


async def test_an_alarm_without_a_method_waits_for_one() -> None:
    """fault C5, F7: parity 46, 88: a name that the class has lost is kept and shown, and nothing fires it."""
    async with Harness([Bell]) as h:
        h.world.alarms[BELL] = {"lost": AlarmRow("lost", NOW)}
        await h.pass_time(100)
        assert rows(h).keys() == {"lost"}
        (listed,) = await h.shard.request("alarms", {"orphaned": True})
        assert listed["orphaned"] == "unknown alarm"
        assert await h.call(Bell, "a", "$fire", ["lost", NOW.isoformat()], timeout=1e6) is False
        assert rows(h).keys() == {"lost"}
        with pytest.raises(InvalidArguments, match="has no method"):
            await h.call(Bell, "a", "$fire", ["lost", None], timeout=1e6)
        h.world.alarms[BELL] = {"lost": AlarmRow("lost", NOW, attempts=1)}
        await h.call(Bell, "a", "$evict", timeout=1e6)
        with pytest.raises(InvalidArguments, match="has no method"):
            await h.call(Bell, "a", "$retry", ["lost"], timeout=1e6)


async def test_a_class_can_take_alarms_of_any_name() -> None:
    """parity 82, 103: `handle_alarm` gets those that have no method of their own."""
    async with Harness([Catcher]) as h:
        await h.call(Catcher, "a", "arm", ["whatever"])
        await h.pass_time(0)
        assert await answered(h.call(Catcher, "a", "get")) == ["whatever"]


async def test_firing_by_hand() -> None:
    """parity 108: now, whatever its time; absent is an error; a failure is the caller's, and changes nothing."""
    async with Harness([Bell]) as h:
        await h.call(Bell, "a", "arm", ["ring", 1000])
        assert await h.call(Bell, "a", "$fire", ["ring", None]) is True
        assert await rung(h) == ["ring"]
        with pytest.raises(InvalidArguments, match="is not armed"):
            await h.call(Bell, "a", "$fire", ["ring", None])
        await h.call(Bell, "a", "arm", ["fail", 1000])
        row = rows(h)["fail"]
        with pytest.raises(HandlerFailed, match="attempt 0"):
            await h.call(Bell, "a", "$fire", ["fail", None])
        assert rows(h) == {"fail": row}


async def test_firing_for_another_time_does_nothing() -> None:
    """fault C6: parity 89: a scheduler that is late with its news fires nothing that was armed anew."""
    async with Harness([Bell]) as h:
        await h.call(Bell, "a", "arm", ["ring", 10])
        assert await h.call(Bell, "a", "$fire", ["ring", NOW.isoformat()]) is False
        assert rows(h).keys() == {"ring"}
        assert await h.call(Bell, "a", "$fire", ["gone", NOW.isoformat()]) is False


async def test_alarms_of_a_deleted_object_are_gone() -> None:
    """parity 61, 80: deleting and cancelling all leave nothing that fires."""
    async with Harness([Bell]) as h:
        await h.call(Bell, "a", "arm", ["ring", 1])
        await h.call(Bell, "a", "$delete")
        await h.call(Bell, "b", "arm", ["ring", 1])
        assert await h.call(Bell, "b", "$cancel_all") == 1
        assert h.scheduler.statistics().armed == 0, "what is disarmed is forgotten at once"
        await h.pass_time(10)
        assert await rung(h) == await rung(h, "b") == []


async def test_tenants_alarms_fire_in_their_own_objects() -> None:
    """parity 63: the prefix is part of an alarm's address."""
    async with Harness([Bell]) as h:
        await h.call(Bell, "a", "arm", ["ring", 1], prefix="one")
        await h.pass_time(1)
        assert await answered(h.call(Bell, "a", "get", prefix="one", timeout=1e6)) == ["ring"]
        assert await rung(h) == []


async def test_a_parked_object_holds_its_alarms() -> None:
    """parity 88: an object that killed its shard is not fired at, and its alarms wait."""
    async with Harness([Bell]) as h:
        await h.call(Bell, "a", "arm", ["ring", 1])
        h.shard.parked = {"Bell/a"}
        await h.pass_time(1)
        assert rows(h)["ring"].attempts == 0
        h.shard.parked = set()
        await h.pass_time(61)
        assert await rung(h) == ["ring"]


async def test_a_draining_shard_fires_no_more() -> None:
    """parity 92: what is due then is its next owner's."""
    async with Harness([Bell]) as h:
        await h.call(Bell, "a", "arm", ["ring", 1])
        await h.shard.drain()
        await h.pass_time(10)
        assert rows(h).keys() == {"ring"}


async def test_of_two_owners_one_fires() -> None:
    """parity 92: a node that lost its partitions, and does not know it, can fire nothing."""
    async with Harness([Bell]) as old:
        await old.call(Bell, "a", "arm", ["ring", 3])
        async with Harness([Bell], world=old.world, clock=old.clock) as new:
            await old.pass_time(3)  # so long that its ownership has to be confirmed
            await new.pass_time(0)
            assert old.stops
            assert old.shard.turns.count == 1, "its commit would be refused, but the method has effects elsewhere too"
            assert await rung(new) == ["ring"]
            assert claim().host in old.world.hosts


class Recorder(MemoryStore):
    """A store that notes what it is given."""

    def __init__(self, world: MemoryWorld) -> None:
        super().__init__(world)
        self.batches: list[list[Change]] = []

    async def commit(self, changes: Sequence[Change]) -> dict[int, Exception]:
        self.batches.append(list(changes))
        return await super().commit(changes)


async def test_a_thousand_armings_in_one_batch_are_one_row() -> None:
    """fault C8: the last one counts, and nothing is written for those before it."""
    clock = ManualClock()
    store = Recorder(MemoryWorld(now=clock.now))
    async with Harness([Bell], store=store, world=store.world, clock=clock) as h:
        await h.call(Bell, "a", "get")
        calls = [Call(0, "Bell", "a", "arm", ["ring", float(number)], 5000) for number in range(1, 1001)]
        await asyncio.gather(*h.together(*calls))
        [[written]] = store.batches
        assert [*written.alarms_set] == [AlarmRow("ring", NOW + timedelta(seconds=1000))]
        await h.pass_time(999)
        assert await rung(h) == []
        await h.pass_time(1)
        assert await rung(h) == ["ring"]
