"""The fixture `durable`: crashes and refused saves, exactly where a test wants them."""

from __future__ import annotations

import asyncio
import logging
from datetime import timedelta

import pytest

from durable_engine import DurableError, DurableObject, HandlerFailed, PersistenceFailed, Unavailable, handler
from durable_engine.testing import Durable, eventually
from durable_storage.crashpoints import POINTS
from tests.engine.tested_objects import Counter, Listener

every_store = pytest.mark.parametrize(
    "durable_store",
    [
        pytest.param("memory", marks=pytest.mark.durable("memory")),
        pytest.param("sqlite", marks=pytest.mark.durable("sqlite")),
        pytest.param("postgresql", marks=pytest.mark.durable("postgresql")),
    ],
)


@every_store
async def test_a_crash_loses_memory_and_nothing_else(durable: Durable, durable_store: str) -> None:
    """What was committed is there, a turn under way is not, and its caller does not know."""
    listener = durable.at(Listener, "a")
    await listener.pass_on(5)
    await listener.plan("later", 60)
    waiting = asyncio.ensure_future(listener.wait())
    await durable.settled()

    await durable.crash(Listener, "a")

    with pytest.raises(Unavailable) as caught:
        await waiting
    assert caught.value.outcome == "unknown"
    await durable.assert_persisted(Listener, "a", heard=["asked for 5"])
    assert await durable.engine.where(Listener, "a") is None
    await durable.assert_alarm_scheduled(Listener, "a", "later", within=timedelta(seconds=60))
    assert await listener.pass_on(1) == 6
    await durable.advance(timedelta(seconds=60))
    await durable.assert_persisted(Listener, "a", heard=["asked for 5", "asked for 1", "later 0 None"])


async def test_a_crash_that_nobody_awaits_happens_at_once(durable: Durable) -> None:
    """Calls that are made next wait for the new shard."""
    waiting = asyncio.ensure_future(durable.at(Listener, "a").wait())
    await durable.settled()
    durable.crash()
    results = await asyncio.gather(*(durable.at(Counter, "a").increment() for _ in range(3)))
    assert results == [1, 2, 3]
    with pytest.raises(Unavailable):
        await waiting


async def test_crashes_may_follow_one_another(durable: Durable) -> None:
    """However quickly."""
    for count in range(1, 6):
        durable.crash()
        durable.crash()
        assert await durable.at(Counter, "a").increment() == count
    await durable.crash()
    await durable.crash()
    [shard] = (await durable.engine.statistics()).shards
    assert shard.epoch > 7


async def test_a_dead_shard_does_nothing_more(durable: Durable, caplog: pytest.LogCaptureFixture) -> None:
    """Not even what its handlers do when they are cancelled."""

    class Stubborn(DurableObject):
        @handler
        async def wait(self) -> None:
            try:
                await asyncio.Event().wait()
            finally:
                self.engine.send(Counter.increment, "victim")
                await self.engine.at(Counter, "victim").increment()

    waiting = asyncio.ensure_future(durable.at(Stubborn, "a").wait())
    await durable.at(Counter, "victim").get()
    await durable.settled()
    await durable.crash()
    await durable.settled()
    with pytest.raises(Unavailable):
        await waiting
    await durable.assert_persisted(Counter, "victim", None)
    assert not [record for record in caplog.records if record.levelno >= logging.ERROR]


@every_store
async def test_a_crash_before_the_commit_leaves_nothing(durable: Durable, durable_store: str) -> None:
    """fault A2: the caller does not know, the store does."""
    await durable.at(Counter, "a").increment()
    crash = durable.crash_at("before_commit")
    with pytest.raises(Unavailable) as caught:
        await durable.at(Counter, "a").increment()
    assert crash.fired
    assert (caught.value.outcome, caught.value.retryable) == ("unknown", True)
    await durable.assert_persisted(Counter, "a", count=1)
    assert await durable.at(Counter, "a").get() == 1


@every_store
async def test_a_crash_after_the_commit_leaves_all_of_it(durable: Durable, durable_store: str) -> None:
    """fault A4: though the caller was not told."""
    crash = await durable.crash_at("after_commit")
    with pytest.raises(Unavailable) as caught:
        await durable.at(Counter, "a").increment()
    assert crash.fired
    assert caught.value.outcome == "unknown"
    await durable.assert_persisted(Counter, "a", count=1)
    assert await durable.at(Counter, "a").get() == 1


@pytest.mark.parametrize("point", [point for point in POINTS if point != "before_resolve"])
async def test_a_key_hides_a_crash(durable: Durable, point: str) -> None:
    """fault A2, A4: wherever it strikes: the call is sent again, and has one effect."""
    await durable.at(Counter, "a").plan("reset", 0)
    await durable.engine.evict(Counter, "a")
    crash = durable.crash_at(point)
    result = await durable.call(Counter.increment, "a", 3, idempotency_key="once")
    await durable.advance(timedelta(0))
    assert crash.fired
    assert result == 3
    assert await durable.call(Counter.increment, "a", 3, idempotency_key="once") == 3
    await durable.assert_persisted(Counter, "a", count=0)


@pytest.mark.parametrize("point", ["before_fire", "before_commit", "after_commit"])
@every_store
async def test_an_alarm_has_one_effect_whatever_crashes(durable: Durable, durable_store: str, point: str) -> None:
    """fault A5, C7: it is fired again if its commit was not made, and not if it was."""
    start = durable.now()
    await durable.at(Counter, "a").plan("reset", 60)
    crash = durable.crash_at(point)
    await durable.advance(timedelta(seconds=90))
    assert crash.fired
    await durable.assert_persisted(Counter, "a", fired_at=[start + timedelta(seconds=60)])
    await durable.refute_alarm_scheduled(Counter, "a")


async def test_a_crash_strikes_at_the_nth_time(durable: Durable) -> None:
    """Those before go well; crashes in between do not lose the order."""
    crash = durable.crash_at("before_commit", nth=3)
    assert await durable.at(Counter, "a").increment() == 1
    await durable.crash()
    assert await durable.at(Counter, "a").increment() == 2
    assert not crash.fired
    with pytest.raises(Unavailable):
        await durable.at(Counter, "a").increment()
    assert await durable.at(Counter, "a").increment() == 3


async def test_only_the_engine_of_the_test_crashes(durable: Durable) -> None:
    """Another one in the same process goes on."""
    crash = durable.crash_at("before_commit")
    async with Durable() as other:
        assert await other.at(Counter, "a").increment() == 1
    assert not crash.fired


async def test_crash_points_that_do_not_exist_are_refused(durable: Durable) -> None:
    """The error names those that do."""
    with pytest.raises(
        ValueError, match="'after_comit'; there are: before_load, in_activation, before_commit, in_commit"
    ):
        durable.crash_at("after_comit")
    with pytest.raises(ValueError, match="counts from 1"):
        durable.crash_at("after_commit", nth=0)


@every_store
async def test_a_save_is_refused(durable: Durable, durable_store: str) -> None:
    """Once: the turn is undone, alarms included, and its caller is told."""
    await durable.at(Counter, "a").increment()
    refused = durable.fail_next_save()
    with pytest.raises(PersistenceFailed, match="fail_next_save") as caught:
        await durable.at(Counter, "a").plan("reset", 60)
    assert refused.fired
    assert caught.value.outcome == "not_applied"
    await durable.refute_alarm_scheduled(Counter, "a")
    assert await durable.at(Counter, "a").increment() == 2
    await durable.assert_persisted(Counter, "a", count=2)


async def test_a_save_is_refused_with_the_error_of_the_test(durable: Durable) -> None:
    """One of ours as it is, any other as PersistenceFailed."""
    durable.fail_next_save(PersistenceFailed("the disk is full", retryable=True))
    with pytest.raises(PersistenceFailed, match="disk is full") as caught:
        await durable.at(Counter, "a").increment()
    assert caught.value.retryable
    durable.fail_next_save(OSError("no space left"))
    with pytest.raises(PersistenceFailed, match="no space left"):
        await durable.at(Counter, "a").increment()
    assert await durable.at(Counter, "a").increment() == 1


async def test_a_refused_save_undoes_all_turns_that_were_built_on_it(durable: Durable) -> None:
    """Each of their callers is told, and the object is as it was."""
    await durable.at(Counter, "a").increment(10)
    durable.fail_next_save()
    results = await asyncio.gather(*(durable.at(Counter, "a").increment() for _ in range(3)), return_exceptions=True)
    assert [type(each) for each in results] == [PersistenceFailed] * 3
    assert await durable.at(Counter, "a").get() == 10


async def test_an_alarm_whose_save_is_refused_is_tried_again(durable: Durable) -> None:
    """As any other firing that failed."""
    await durable.at(Counter, "a").plan("reset", 60)
    durable.fail_next_save()
    await durable.advance(timedelta(seconds=60))
    [armed] = await durable.pending(Counter, "a")
    assert armed.attempt == 1
    await durable.advance(timedelta(seconds=5))
    assert len((await durable.assert_persisted(Counter, "a")).fired_at) == 1


async def test_a_call_that_nobody_answers_ends_in_real_time(durable: Durable, monkeypatch: pytest.MonkeyPatch) -> None:
    """Although the clock stands still: a test does not hang for ever."""
    monkeypatch.setattr("durable_engine.testing_backend.HUNG_SECONDS", 0.05)
    with pytest.raises(TimeoutError):
        await durable.at(Listener, "a", timeout=0.01).wait()


async def test_faults_show_as_themselves_to_handlers(durable: Durable) -> None:
    """A refused save of one object fails the object that called it."""
    await durable.at(Counter, "a").increment()
    listening = asyncio.ensure_future(durable.at(Listener, "a").pass_on(1))
    durable.fail_next_save()
    with pytest.raises((HandlerFailed, DurableError), match="refused to save"):
        await listening
    await durable.assert_persisted(Listener, "a", None)


async def test_waiting_for_what_happens_outside() -> None:
    """parity 110: the first true value of a function, sync or async."""
    looks: list[int] = []

    def look() -> int:
        looks.append(1)
        return len(looks) if len(looks) > 2 else 0

    async def look_twice() -> int:
        if len(looks) < 5:
            looks.append(1)
            raise LookupError("not yet")
        return len(looks)

    assert await eventually(look, interval=0.001) == 3
    assert await eventually(look_twice, timeout=timedelta(seconds=5), interval=timedelta(milliseconds=1)) == 5


async def test_waiting_in_vain_says_what_was_seen(durable: Durable) -> None:
    """parity 110: a value, or an exception; it is both a failed assertion and a timeout."""
    with pytest.raises(AssertionError, match=r"not true within 0.01 s; when last looked at, it was 0"):
        await durable.eventually(lambda: 0, timeout=0.01, interval=0.001)
    with pytest.raises(TimeoutError, match="it raised KeyError") as caught:
        await eventually(lambda: {}["a"], timeout=0.01, interval=0.5)
    assert isinstance(caught.value.__cause__, KeyError)
