"""Alarms fire again: those that failed, and those that repeat."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

import pytest

from durable_shards.alarm_settings import AlarmSettings
from durable_shards.clock import ManualClock
from durable_storage.address import Address
from durable_storage.store import AlarmRow, Stored
from tests.shards.alarm_objects import GATES, Bell
from tests.shards.harness import Harness, settle
from tests.shards.test_firing import BELL, NOW, rows, rung


async def test_a_failing_alarm_is_undone_and_tried_again_later() -> None:
    """fault C4: parity 87: nothing of the attempt stays but its count; the handler sees it; delays double."""
    async with Harness([Bell], alarms=AlarmSettings(backoff=10)) as h:
        await h.call(Bell, "a", "arm", ["fail_twice", 1])
        await h.pass_time(1)
        first = rows(h)["fail_twice"]
        assert (first.attempts, first.tick) == (1, NOW + timedelta(seconds=1))
        assert timedelta(seconds=7) < first.at - h.clock.now() < timedelta(seconds=13)
        assert "RuntimeError: not yet" in (first.problem or "")
        await h.pass_time(13)
        second = rows(h)["fail_twice"]
        assert timedelta(seconds=14) < second.at - h.clock.now() < timedelta(seconds=26)
        await h.pass_time(26)
        assert await rung(h) == ["done at 2"]
        assert rows(h) == {}


async def test_an_alarm_that_fails_always_is_parked_and_can_be_armed_again(caplog: pytest.LogCaptureFixture) -> None:
    """fault C4: parity 87, 113: after its attempts it is kept, shown with its problem and not fired, until it is."""
    async with Harness([Bell], alarms=AlarmSettings(attempts=3, backoff=1)) as h:
        await h.call(Bell, "a", "arm", ["fail", 1, {"x": 1}])
        for _ in range(5):
            await h.pass_time(10)
        parked = rows(h)["fail"]
        assert (parked.is_parked, parked.attempts, parked.payload) == (True, 3, b'{"x":1}')
        assert await h.call(Bell, "a", "$fire", ["fail", parked.at.isoformat()], timeout=1e6) is False
        assert rows(h) == {"fail": parked}
        assert "RuntimeError: attempt 2\\0\\ud800" in (parked.problem or "")
        assert "is parked until" in caplog.text
        assert caplog.text.encode()  # whoever writes it down can
        assert await rung(h) == []
        assert rows(h).keys() == {"fail"}
        assert await h.call(Bell, "a", "$pending", timeout=1e6) == []
        (listed,) = await h.shard.request("alarms", {"orphaned": True})
        assert (listed["name"], listed["orphaned"], listed["attempt"]) == ("fail", "failed", 3)
        assert await h.call(Bell, "a", "$retry", [None], timeout=1e6) == 1
        assert rows(h)["fail"].attempts == 0
        await h.pass_time(0)
        assert rows(h)["fail"].attempts == 1


async def test_a_parked_alarm_is_replaced_by_a_new_one_and_can_be_cancelled() -> None:
    """parity 75, 79: a name is one alarm, parked or not."""
    async with Harness([Bell], alarms=AlarmSettings(attempts=1)) as h:
        await h.call(Bell, "a", "arm", ["fail"])
        await settle()
        await h.pass_time(0)
        assert rows(h)["fail"].is_parked
        await h.call(Bell, "a", "arm", ["fail", 5], timeout=1e6)
        assert not rows(h)["fail"].is_parked
        await h.pass_time(5)
        assert rows(h)["fail"].is_parked
        assert await h.call(Bell, "a", "disarm", ["fail"], timeout=1e6) is True
        assert rows(h) == {}


async def test_an_alarm_that_runs_too_long_is_a_failure() -> None:
    """parity 86: it is cancelled at the class's timeout, undone, and tried again."""
    async with Harness([Bell]) as h:
        GATES["wait"] = asyncio.Event()
        await h.call(Bell, "a", "arm", ["wait"])
        await h.pass_time(0)
        await h.pass_time(6)
        assert rows(h)["wait"].attempts == 1
        GATES["wait"].set()
        await h.pass_time(2)
        assert await rung(h) == ["waited"]


async def test_a_refused_commit_of_a_firing_counts_as_its_failure() -> None:
    """parity 43, 87: the state is rolled back, the alarm stays, and is tried again."""
    async with Harness([Bell]) as h:
        await h.call(Bell, "a", "arm", ["ring", 1])
        h.world.refuse(lambda change: change.state is not None)
        await h.pass_time(1)
        assert rows(h)["ring"].attempts == 1
        h.world.refuse(None)
        await h.pass_time(2)
        assert await rung(h) == ["ring"]


async def test_a_store_that_is_away_costs_no_attempt() -> None:
    """fault B2: parity 45: an object that cannot be loaded has not failed."""
    async with Harness([Bell]) as h:
        await h.call(Bell, "a", "arm", ["ring", 1])
        await h.call(Bell, "a", "$evict")
        h.world.go_away()
        for _ in range(8):
            await h.pass_time(1)
        loaded = asyncio.Event()
        load = h.store.load

        async def observed(addresses: Sequence[Address]) -> list[Stored | None]:
            found = await load(addresses)
            loaded.set()
            return found

        h.store.load = observed  # type: ignore[method-assign]
        h.world.come_back()
        await h.pass_time(1)
        await loaded.wait()
        await settle()
        for _ in range(3):  # its call may have run out of time while the store was away
            await h.pass_time(1)
        assert await rung(h) == ["ring"]
        assert h.shard.firings.failures == 0


async def test_an_alarm_that_repeats_does_not_drift() -> None:
    """parity 83: ticks are counted from the first, however late each is fired, and survive failures and restarts."""
    async with Harness([Bell]) as h:
        await h.call(Bell, "a", "repeat", ["tell", 10])
        await h.pass_time(13)
        await h.pass_time(9)
        await h.pass_time(8)
        assert await rung(h) == ["None 0 00:00:10", "None 0 00:00:20", "None 0 00:00:30"]
        assert rows(h)["tell"].at == NOW + timedelta(seconds=40)
        await h.call(Bell, "a", "disarm", ["tell"], timeout=1e6)
        await h.pass_time(100)
        assert len(await rung(h)) == 3


@pytest.mark.parametrize(
    ("missed", "expected"),
    [
        ("coalesce", ["None 0 00:00:10", "None 0 00:01:20"]),
        ("skip", ["None 0 00:01:20"]),
        ("all", [f"None 0 00:{s // 60:02}:{s % 60:02}" for s in range(10, 81, 10)]),
    ],
)
async def test_missed_ticks(missed: str, expected: list[str]) -> None:
    """fault B2: parity 83: one firing for all that were missed, none, or one for each; then the beat goes on."""
    async with Harness([Bell]) as h:
        await h.call(Bell, "a", "repeat", ["tell", 10, missed])
    h.clock.advance(timedelta(seconds=77))  # type: ignore[union-attr]
    async with Harness([Bell], world=h.world, clock=h.clock) as again:
        await settle(400)
        await again.pass_time(4)
        assert await rung(again) == expected
        assert rows(again)["tell"].at == NOW + timedelta(seconds=90)


async def test_many_missed_ticks_are_fired_one_after_the_other() -> None:
    """parity 83: that is no storm of the object's own making, so nothing slows it down."""
    async with Harness([Bell]) as h:
        await h.call(Bell, "a", "repeat", ["ring", 10, "all"])
        await h.pass_time(505)
        await settle(1500)
        assert await rung(h) == ["ring"] * 50


async def test_a_repeating_alarm_that_fails_keeps_its_beat() -> None:
    """parity 83, 87: retries are counted from the tick, and the next tick is where it would have been."""
    async with Harness([Bell], alarms=AlarmSettings(backoff=1)) as h:
        await h.call(Bell, "a", "repeat", ["fail_twice", 10])
        for _ in range(18):
            await h.pass_time(1)
        assert await rung(h) == ["done at 2"]
        assert rows(h)["fail_twice"].at == NOW + timedelta(seconds=20)
        assert rows(h)["fail_twice"].attempts == 0


async def test_firing_a_repeating_alarm_by_hand_leaves_its_beat() -> None:
    """parity 83, 108: an extra firing ahead of time does not use up the next tick."""
    async with Harness([Bell]) as h:
        await h.call(Bell, "a", "repeat", ["ring", 10])
        assert await h.call(Bell, "a", "$fire", ["ring", None]) is True
        await h.pass_time(10)
        assert await rung(h) == ["ring", "ring"]
        assert rows(h)["ring"].at == NOW + timedelta(seconds=20)


async def test_cron_in_a_time_zone() -> None:
    """fault C2: parity 83: nine o'clock in Berlin, winter and summer."""
    clock = ManualClock(datetime(2026, 3, 28, 12, tzinfo=UTC))
    async with Harness([Bell], clock=clock) as h:
        await h.call(Bell, "a", "daily", ["0 9 * * *", "Europe/Berlin"])
        assert rows(h)["ring"].at == datetime(2026, 3, 29, 7, tzinfo=UTC)
        await h.pass_time(19 * 3600)
        assert await rung(h) == ["ring"]
        assert rows(h)["ring"].at == datetime(2026, 3, 30, 7, tzinfo=UTC)


async def test_a_tick_that_waited_while_the_clock_was_set_back_fires_once() -> None:
    """fault C1: parity 83: what was due by the clock of that moment is not due once more."""
    GATES["wait"] = asyncio.Event()
    async with Harness([Bell]) as h:
        await h.call(Bell, "a", "repeat", ["ring", 10], timeout=1e6)
        await h.call(Bell, "a", "arm", ["wait", 9], timeout=1e6)
        await h.pass_time(9)
        await h.pass_time(1)
        h.clock._now -= timedelta(seconds=2)  # type: ignore[attr-defined]
        GATES["wait"].set()
        await settle()
        assert rows(h)["ring"].at == NOW + timedelta(seconds=20)
        await h.pass_time(11)
        assert await rung(h) == ["waited", "ring"]
        await h.pass_time(1)
        assert await rung(h) == ["waited", "ring", "ring"]


async def test_a_retry_is_fired_now_though_the_clock_was_set_back() -> None:
    """fault C1: parity 87: people who ask for another attempt wait neither for its time nor for that of the tick."""
    async with Harness([Bell], alarms=AlarmSettings(backoff=10)) as h:
        await h.call(Bell, "a", "arm", ["fail_twice", 1])
        await h.pass_time(1)
        waiting = rows(h)["fail_twice"]
        h.clock._now -= timedelta(hours=1)  # type: ignore[attr-defined]
        await h.pass_time(20)
        assert (rows(h)["fail_twice"], waiting.attempts) == (waiting, 1)
        assert await h.call(Bell, "a", "$retry", [None]) == 1
        assert rows(h)["fail_twice"].attempts == 0
        await h.pass_time(0)
        tried = rows(h)["fail_twice"]
        assert (tried.attempts, tried.tick) == (1, NOW + timedelta(seconds=1))
        assert tried.at < NOW


async def test_retrying_all_leaves_out_what_has_no_method() -> None:
    """parity 87: one alarm that the class has lost keeps no other from being armed again."""
    async with Harness([Bell], alarms=AlarmSettings(attempts=1)) as h:
        await h.call(Bell, "a", "arm", ["fail"])
        await h.pass_time(0)
        await h.call(Bell, "a", "$evict")
        h.world.alarms[BELL]["lost"] = AlarmRow("lost", NOW, attempts=1, is_parked=True)
        assert await h.call(Bell, "a", "$retry", [None]) == 1
        assert {name: row.attempts for name, row in rows(h).items()} == {"fail": 0, "lost": 1}


async def test_a_firing_for_an_object_that_never_was_leaves_nothing_behind() -> None:
    """parity 89: news that is late wakes nobody."""
    async with Harness([Bell]) as h:
        assert await h.call(Bell, "nobody", "$fire", ["ring", NOW.isoformat()]) is False
        assert h.shard.directory.counts() == (0, 0)


async def test_a_page_of_alarms_shows_the_size_of_large_payloads() -> None:
    """parity 81: a page has to fit into one message, however large the payloads are."""
    async with Harness([Bell]) as h:
        await h.call(Bell, "a", "arm", ["tell", 60, "x" * 100_000])
        (listed,) = await h.shard.request("alarms", {})
        assert listed["payload"] == "(100002 bytes: see `durable-engine objects show`)"
        (whole,) = await h.call(Bell, "a", "$alarms")
        assert len(whole["payload"]) == 100_000
