"""Handlers and alarms without an engine: methods of an instance, as any others."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from durable_engine import InvalidArguments
from durable_engine.testing import AlarmNotArmed, perform_alarm
from tests.engine.tested_objects import Counter, Listener, TooMuch


async def test_a_handler_runs_on_an_instance() -> None:
    """parity 102: sync and async ones are awaited, the reply is what they return, the state is the instance."""
    counter = Counter(count=3)
    assert await counter.increment(2) == 5
    assert counter.count == 5
    assert await counter.get() == 5
    assert await Counter().increment() == 1


async def test_a_handler_that_says_no_raises_its_error() -> None:
    """parity 102: with its fields; an unknown handler is an attribute that there is not."""
    with pytest.raises(TooMuch) as caught:
        await Counter(count=100).increment()
    assert caught.value.most == 100
    with pytest.raises(AttributeError):
        await Counter().decrement()  # type: ignore[attr-defined]


async def test_what_a_handler_schedules_is_remembered() -> None:
    """parity 102: on the instance."""
    counter = Counter()
    before = datetime.now(UTC)
    await counter.plan("reset", 60, {"why": "test"})
    after = datetime.now(UTC)
    [armed] = counter.alarms.pending()
    assert (armed.name, armed.payload) == ("reset", {"why": "test"})
    assert before <= armed.at - timedelta(seconds=60) <= after


async def test_an_alarm_runs_on_an_instance() -> None:
    """parity 103: it is armed no more then, unless it arms itself again."""
    counter = Counter(count=3)
    await counter.plan("reset", 60)
    await perform_alarm(counter, Counter.reset)
    assert counter.count == 0
    assert counter.alarms.pending() == []
    await perform_alarm(counter, "again", payload=2)
    assert [(each.name, each.payload) for each in counter.alarms.pending()] == [("again", 1)]
    counter.reset()
    assert len(counter.fired_at) == 2


async def test_an_alarm_gets_what_it_takes() -> None:
    """parity 103: the attempt, the payload, and the time it was armed for."""
    at = datetime(2031, 5, 1, 9, tzinfo=UTC)
    counter = Counter()
    await perform_alarm(counter, Counter.stumble, attempt=2)
    await perform_alarm(counter, Counter.tick, at=at)
    assert (counter.heard, counter.fired_at) == (["2"], [at])
    with pytest.raises(RuntimeError, match="stumbled at attempt 1"):
        await perform_alarm(counter, Counter.stumble, attempt=1)


async def test_alarms_of_any_name_go_to_the_method_for_them() -> None:
    """parity 103: `handle_alarm`, also an async one."""
    listener = Listener()
    await perform_alarm(listener, "anything", attempt=1, payload=["x"])
    assert listener.heard == ["anything 1 ['x']"]


async def test_an_alarm_that_the_class_does_not_have_is_refused() -> None:
    """parity 103: the error names those that it has."""
    with pytest.raises(AlarmNotArmed, match=r"Counter has no alarm 'rest', and no handle_alarm.*its alarms are: reset"):
        await perform_alarm(Counter(), "rest")
    with pytest.raises(InvalidArguments, match="expected a method under @alarm"):
        await perform_alarm(Counter(), Counter.get)  # type: ignore[arg-type]
