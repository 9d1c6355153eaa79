"""How long objects stay in memory, by options of their own; their last words; and which of them go when it is short."""

from __future__ import annotations

import asyncio
import logging
from datetime import timedelta
from typing import ClassVar

import pytest

from durable_engine import DurableObject, HandlerFailed, InvalidArguments, handler
from durable_shards.idle import ASLEEP_OVERHEAD_BYTES, LIVE_OVERHEAD_BYTES
from tests.shards.harness import Harness
from tests.shards.objects import Counter


class Steady(DurableObject, hibernate_after=None):
    """Stays live for as long as there is memory."""

    count: int = 0

    @handler
    def increment(self) -> int:
        self.count += 1
        return self.count


class Drowsy(DurableObject, hibernate_after=timedelta(seconds=1)):
    """Hibernates at once, and says so."""

    count: int = 0
    _words: list[str] | None = None
    said: ClassVar[list[tuple[str, int]]] = []

    @handler
    def increment(self) -> int:
        self.count += 1
        return self.count

    @handler
    def crash(self) -> None:
        self.count += 1
        raise ZeroDivisionError("a bug")

    @handler
    def peek(self) -> int:
        return self.count

    def on_sleep(self) -> None:
        Drowsy.said.append((self.id, self.count))
        self.count = -1
        self.alarms.schedule("never", after=timedelta(hours=1))
        self.engine.send(Steady.increment, "never")

    def handle_alarm(self, name: str) -> None: ...


class Grumpy(DurableObject):
    count: int = 0

    @handler
    def increment(self) -> int:
        self.count += 1
        return self.count

    def on_sleep(self) -> None:
        raise SystemExit("let me be")


class Eager(DurableObject, create_on_touch=True):
    count: int = 7

    @handler(readonly=True)
    def get(self) -> int:
        return self.count

    @handler
    def crash(self) -> None:
        raise ZeroDivisionError("a bug")


@pytest.fixture(autouse=True)
def nothing_said() -> None:
    """Each test hears its own objects only."""
    Drowsy.said.clear()


def pass_time(h: Harness, seconds: float) -> None:
    """Let idle objects grow idler."""
    h.clock.advance(timedelta(seconds=seconds))  # type: ignore[union-attr]
    h.shard.idle.sweep()


# Options of one object's own.


async def test_an_object_may_be_woken_with_options_of_its_own() -> None:
    """parity 28, 70: what a caller says goes before the class's option, and that before the default."""
    async with Harness([Counter]) as h:
        await h.call(Counter, "general", "increment", timeout=600)
        await h.call(Counter, "longer", "$wake", [{"hibernate_after": 100.0, "shutdown_after": 200.0}], timeout=600)
        await h.call(Counter, "longer", "increment", timeout=600)
        table = h.shard.directory.default["Counter"]
        pass_time(h, 12)
        assert (table.live.keys(), table.asleep.keys()) == ({"longer"}, {"general"})
        pass_time(h, 90)
        assert (table.live.keys(), table.asleep.keys()) == (set(), {"longer"})
        pass_time(h, 90)
        assert table.asleep.keys() == {"longer"}
        pass_time(h, 10)
        assert h.shard.directory.counts() == (0, 0)


async def test_options_of_an_objects_own_end_with_its_stay_in_memory() -> None:
    """They survive hibernation; whoever loads it again gets what the class says."""
    async with Harness([Counter]) as h:
        await h.call(Counter, "a", "increment", timeout=600)
        await h.call(Counter, "a", "$wake", [{"hibernate_after": 5.0, "shutdown_after": None}], timeout=600)
        pass_time(h, 7)
        assert h.shard.directory.counts() == (0, 1)
        pass_time(h, 10_000)
        assert h.shard.directory.counts() == (0, 1), "it was to stay for ever, whatever its class says"
        await h.call(Counter, "a", "increment", timeout=600)
        pass_time(h, 7)
        assert h.shard.directory.counts() == (0, 1), "it fell asleep by its own option again"
        await h.call(Counter, "a", "$wake", timeout=600)
        await h.call(Counter, "a", "$evict", timeout=600)
        await h.call(Counter, "a", "get", timeout=600)
        pass_time(h, 7)
        assert h.shard.directory.counts() == (1, 0)
        assert h.shard.directory.default["Counter"].own_options == {}


async def test_an_object_that_was_live_already_changes_its_options() -> None:
    """In either direction, and looked at once only, however often it is woken."""
    async with Harness([Steady]) as h:
        await h.call(Steady, "a", "increment", timeout=600)
        for seconds in (3000.0, 30.0, 3.0):
            await h.call(Steady, "a", "$wake", [{"hibernate_after": seconds}], timeout=600)
        assert sum(map(len, h.shard.idle._wheel.values())) == 1
        pass_time(h, 5)
        assert h.shard.directory.counts() == (0, 1)
        await h.call(Steady, "a", "$wake", [{"hibernate_after": None}], timeout=600)
        pass_time(h, 100_000)
        assert h.shard.directory.counts() == (1, 0)


@pytest.mark.parametrize(
    "arguments",
    [[{"hibernate_after": -1.0}], [{"shutdown_after": float("nan")}], [{"mailbox": 3.0}], [{}, {}], [3]],
)
async def test_options_that_make_no_sense_are_refused(arguments: list[object]) -> None:
    """Nothing is loaded to stay."""
    async with Harness([Counter]) as h:
        with pytest.raises(InvalidArguments):
            await h.call(Counter, "a", "$wake", arguments)
        assert h.shard.directory.default["Counter"].own_options == {}


async def test_an_object_that_may_idle_for_a_month_is_no_burden_when_it_is_gone() -> None:
    """Whatever left memory is looked at no more, and nobody is looked at later than within an hour."""
    async with Harness([Counter]) as h:
        for _ in range(3):
            await h.call(Counter, "a", "$wake", [{"hibernate_after": None, "shutdown_after": 30 * 86400.0}])
            assert max(h.shard.idle._wheel) <= h.clock.monotonic() + 3601
            await h.call(Counter, "a", "$evict")
        assert sum(map(len, h.shard.idle._wheel.values())) == 0
        own = {"hibernate_after": 2 * 86400.0, "shutdown_after": None}
        await h.call(Counter, "a", "$wake", [own], timeout=60)
        await h.call(Counter, "a", "increment")
        pass_time(h, 86400)
        assert h.shard.directory.counts() == (1, 0)
        pass_time(h, 86401)
        assert h.shard.directory.counts() == (0, 1)


# Last words.


async def test_an_object_has_a_last_word_before_it_leaves_memory() -> None:
    """parity 73: `on_sleep` runs before hibernation, shutdown, eviction and the end of its shard."""
    async with Harness([Drowsy, Steady]) as h:
        for name in ("hibernates", "evicted", "shut down"):
            await h.call(Drowsy, name, "increment", timeout=600)
        await h.call(Drowsy, "evicted", "$evict")
        await h.call(Drowsy, "shut down", "$wake", [{"hibernate_after": None, "shutdown_after": 1.0}], timeout=600)
        pass_time(h, 3)
        assert sorted(Drowsy.said) == [("evicted", 1), ("hibernates", 1), ("shut down", 1)]
        await h.call(Drowsy, "drained", "increment", timeout=600)
        await h.shard.drain()
        assert Drowsy.said[3:] == [("drained", 1)]


async def test_what_a_last_word_changes_is_dropped() -> None:
    """State, alarms and one-way calls are as if it had not been said, before and after the object is loaded anew."""
    async with Harness([Drowsy, Steady]) as h:
        await h.call(Drowsy, "a", "increment", timeout=600)
        pass_time(h, 3)
        assert await h.call(Drowsy, "a", "peek", timeout=600) == 1
        await h.call(Drowsy, "a", "$evict")
        assert await h.call(Drowsy, "a", "peek", timeout=600) == 1
        assert await h.call(Drowsy, "a", "$pending") == []
        assert await h.call(Steady, "never", "$state") is None
        assert Drowsy.said == [("a", 1), ("a", 1)]


async def test_a_failing_last_word_stops_nothing(caplog: pytest.LogCaptureFixture) -> None:
    """It is logged, and the object goes."""
    async with Harness([Grumpy]) as h:
        await h.call(Grumpy, "a", "increment")
        with caplog.at_level(logging.ERROR, "durable_engine.shard"):
            assert await h.call(Grumpy, "a", "$evict") is True
        assert h.shard.directory.counts() == (0, 0)
        assert "on_sleep of Grumpy/a failed" in caplog.text
        assert "let me be" in caplog.text


async def test_what_ends_without_order_has_no_last_word() -> None:
    """An undone turn, a deletion, a look at what is stored, and a shard that lost its ownership."""
    async with Harness([Drowsy, Steady]) as h:
        with pytest.raises(HandlerFailed):
            await h.call(Drowsy, "a", "crash")
        await h.call(Drowsy, "a", "increment")
        await h.call(Drowsy, "a", "$delete")
        await h.call(Drowsy, "b", "$state")
        await h.call(Drowsy, "c", "increment")
        h.shard.stop(RuntimeError("fenced"))
        await h.shard.drain()
        assert Drowsy.said == []


# New objects.


async def test_a_touch_creates_an_object_only_where_the_class_says_so() -> None:
    """parity 53: a mistyped id that is merely read leaves nothing, unless the class has create_on_touch=True."""
    async with Harness([Counter, Eager]) as h:
        assert await h.call(Counter, "a", "get") == 0
        with pytest.raises(HandlerFailed):
            await h.call(Eager, "a", "crash")
        assert await h.call(Eager, "b", "get") == 7
        await h.call(Eager, "c", "$wake")
        assert await h.call(Eager, "d", "$state") is None
        assert {address.object_id for address in h.world.objects} == {"a", "b", "c"}
        assert await h.call(Eager, "b", "$state") == {"state": {"count": 7}, "version": 1, "live": True}
        await h.call(Eager, "b", "$delete")
        assert await h.call(Eager, "b", "$state") is None


async def test_what_a_touch_created_is_told_when_it_is_stored() -> None:
    """The reader hears nothing before the new object is durable, and is told when it could not be."""
    async with Harness([Eager]) as h:
        h.world.hold()
        reading = h.call(Eager, "a", "get")
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        assert not reading.done()
        h.world.release()
        assert await reading == 7


# Memory.


async def test_the_longest_idle_go_first_whether_they_are_live_or_asleep() -> None:
    """A class that never hibernates is not spared at the cost of what was used a moment ago."""
    budget = 25 * (LIVE_OVERHEAD_BYTES + 100) + 20 * (ASLEEP_OVERHEAD_BYTES + 50)
    async with Harness([Steady, Counter], memory_bytes_max=budget) as h:
        for number in range(20):
            await h.call(Steady, f"old{number}", "increment", timeout=600)
        pass_time(h, 100)
        for number in range(20):
            await h.call(Counter, f"new{number}", "increment", timeout=600)
        pass_time(h, 12)
        assert h.shard.directory.counts() == (20, 20), "they fit"
        for number in range(10):
            await h.call(Steady, f"newest{number}", "increment", timeout=600)
        h.clock.advance(timedelta(milliseconds=1))  # type: ignore[union-attr]
        h.shard.idle.sweep()
        live = h.shard.directory.default["Steady"].live
        assert h.shard.idle.estimate() <= budget
        assert [name for name in live if name.startswith("newest")] == [f"newest{number}" for number in range(10)]
        assert len(h.shard.directory.default["Counter"].asleep) == 20, "younger than all that had to go"
        assert 0 < len(live) - 10 < 20


async def test_more_is_freed_than_has_to_be() -> None:
    """A 64th at once: a shard at its limit does not search all of its objects every second."""
    async with Harness([Steady], memory_bytes_max=150_000) as h:
        while h.shard.idle.estimate() <= 150_000:
            await h.call(Steady, str(h.shard.directory.counts()), "increment", timeout=600)
        h.clock.advance(timedelta(milliseconds=1))  # type: ignore[union-attr]
        h.shard.idle.sweep()
        assert h.shard.idle.estimate() <= 150_000 * 63 / 64
