"""What a shard tells whoever watches it: events of storage, of objects and of itself, and lines in the log."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from durable_engine import PersistenceFailed, StoreUnavailable
from durable_engine.errors import SchemaMismatch
from durable_shards import shard_events
from durable_shards.errors import HandlerFailed
from durable_storage import storage_events, telemetry
from durable_storage.address import Address
from durable_storage.errors import Fenced
from durable_storage.memory import MemoryStore
from durable_storage.store import AlarmRow, Change
from tests.shards.harness import Harness, answered, claim, settle
from tests.shards.objects import BadStart, Counter, Sleeper
from tests.support.hearing import Ear, hearing


@pytest.fixture
def ear() -> Iterator[Ear]:
    """Hears of everything."""
    with hearing() as ear:
        yield ear


def pass_time(h: Harness, seconds: float) -> None:
    """Let idle objects grow idler."""
    h.clock.advance(timedelta(seconds=seconds))  # type: ignore[union-attr]
    h.shard.idle.sweep()


def is_poisoned(change: Change) -> bool:
    return b"-666" in (change.state or b"")


# Storage.


async def test_a_call_loads_and_saves_its_object(ear: Ear) -> None:
    """parity 111, 112: each with a start and a stop, in seconds, and with what it is about."""
    before = time.time()
    async with Harness([Counter], shard=3) as h:
        ear.take()
        await h.call(Counter, "a", "increment", prefix="acme")
        assert ear.names == [
            "storage.load.start", "storage.load.stop", "object.activated", "storage.save.start", "storage.save.stop",
        ]  # fmt: skip
        for operation in ("storage.load", "storage.save"):
            start, stop = ear.one(f"{operation}.start"), ear.one(f"{operation}.stop")
            assert start.measurements.keys() == {"system_time", "rows"}
            assert before <= start.measurements["system_time"] <= time.time()
            assert stop.measurements.keys() == {"duration", "rows"}
            assert 0 <= stop.measurements["duration"] <= time.time() - before
            assert start.measurements["rows"] == stop.measurements["rows"] == 1
            about = {
                "object_type": "Counter", "object_id": "a", "prefix": "acme", "shard": 3,
                "addresses": (Address("acme", "Counter", "a"),),
            }  # fmt: skip
            assert start.metadata == stop.metadata == about


async def test_a_batch_names_what_its_objects_have_in_common(ear: Ear) -> None:
    """parity 112: the class if there is one, no id, and all addresses."""
    async with Harness([Counter, Sleeper]) as h:
        ear.take()
        await asyncio.gather(h.call(Counter, "a", "increment"), h.call(Counter, "b", "increment"))
        stop = ear.one("storage.save.stop")
        assert stop.measurements["rows"] == 2
        assert (stop.metadata["object_type"], stop.metadata["object_id"]) == ("Counter", None)
        assert stop.metadata["addresses"] == (Address("", "Counter", "a"), Address("", "Counter", "b"))
        ear.take()
        await asyncio.gather(h.call(Counter, "c", "increment"), h.call(Sleeper, "s", "arm", ["x"], prefix="t"))
        load = ear.one("storage.load.stop")
        assert load.measurements["rows"] == 2
        assert [load.metadata[key] for key in ("object_type", "object_id", "prefix")] == [None, None, None]
        assert set(load.metadata["addresses"]) == {Address("", "Counter", "c"), Address("t", "Sleeper", "s")}


async def test_a_removal_is_a_delete_as_well(ear: Ear) -> None:
    """parity 111: of the objects that are removed; their neighbours in the commit are only saved."""
    async with Harness([Counter]) as h:
        await asyncio.gather(h.call(Counter, "a", "increment"), h.call(Counter, "b", "increment"))
        ear.take()
        await asyncio.gather(h.call(Counter, "a", "$delete"), h.call(Counter, "b", "increment"))
        assert ear.one("storage.save.stop").measurements["rows"] == 2
        for step in ("start", "stop"):
            event = ear.one(f"storage.delete.{step}")
            assert (event.measurements["rows"], event.metadata["object_id"]) == (1, "a")


async def test_a_refused_change_is_an_exception_of_its_own(ear: Ear, caplog: pytest.LogCaptureFixture) -> None:
    """parity 112, 113: with kind, reason and traceback, and a line in the log; the rest of the batch is a stop."""
    async with Harness([Counter]) as h:
        await asyncio.gather(*(h.call(Counter, name, "increment") for name in "abc"))
        h.world.refuse(is_poisoned)
        ear.take()
        good, bad, other = (
            h.call(Counter, "a", "increment"),
            h.call(Counter, "b", "poison"),
            h.call(Counter, "c", "note", ["x"]),
        )
        with pytest.raises(PersistenceFailed):
            await answered(bad)
        assert (await good, await other) == (2, 1)
        failed = ear.one("storage.save.exception")
        assert (failed.measurements["rows"], failed.metadata["object_id"]) == (1, "b")
        assert failed.measurements.keys() == {"duration", "rows"}
        assert failed.metadata["kind"] == "PersistenceFailed"
        assert "on order of a test" in failed.metadata["reason"]
        assert failed.metadata["reason"] in failed.metadata["traceback"]
        stop = ear.one("storage.save.stop")
        assert [address.object_id for address in stop.metadata["addresses"]] == ["a", "c"]
    [record] = [record for record in caplog.records if record.levelno == logging.ERROR]
    assert "Counter/b" in record.getMessage()
    assert "on order of a test" in record.getMessage()


async def test_a_batch_of_which_nothing_is_stored_has_no_stop(ear: Ear) -> None:
    """A start is followed by what really happened."""
    async with Harness([Counter]) as h:
        await h.call(Counter, "a", "increment")
        h.world.fail_next(PersistenceFailed("the disk is odd"))
        ear.take()
        with pytest.raises(PersistenceFailed):
            await answered(h.call(Counter, "a", "$delete"))
        assert [name for name in ear.names if name.startswith("storage.")] == [
            "storage.save.start", "storage.delete.start", "storage.save.exception", "storage.delete.exception",
        ]  # fmt: skip


async def test_an_unknown_outcome_that_is_resolved_is_one_save(ear: Ear) -> None:
    """The store tried several times; that is its own business."""
    async with Harness([Counter]) as h:
        await h.call(Counter, "a", "increment")
        ear.take()
        h.world.fail_next("before")
        h.world.fail_next("after")
        assert await h.call(Counter, "a", "increment") == 2
        assert ear.take() == ["storage.save.start", "storage.save.stop"]


async def test_a_failed_load_is_an_exception_and_a_line_in_the_log(ear: Ear, caplog: pytest.LogCaptureFixture) -> None:
    """parity 111, 113: and the object, which was never in memory, does not leave it."""
    async with Harness([Counter]) as h:
        h.world.fail_next_load(SchemaMismatch("this tenant was never set up"))
        ear.take()
        with pytest.raises(SchemaMismatch):
            await answered(h.call(Counter, "a", "get"))
        assert ear.names == ["storage.load.start", "storage.load.exception"]
        assert ear.one("storage.load.exception").metadata["kind"] == "SchemaMismatch"
    [record] = [record for record in caplog.records if record.levelno == logging.ERROR]
    assert record.getMessage() == "1 objects could not be loaded: this tenant was never set up"


async def test_a_load_that_is_tried_again_fails_once_for_each_query(ear: Ear, caplog: pytest.LogCaptureFixture) -> None:
    """parity 111, 113: one event for each query, one line in the log for the whole outage."""
    async with Harness([Counter]) as h:
        for _ in range(3):
            h.world.fail_next_load(StoreUnavailable("gone for a moment"))
        ear.take()
        assert await h.call(Counter, "a", "increment") == 1
        assert ear.names.count("storage.load.exception") == 3
        assert ear.names.count("storage.load.start") == 4
        assert ear.names.count("storage.load.stop") == ear.names.count("object.activated") == 1
    [record] = [record for record in caplog.records if record.levelno == logging.ERROR]
    assert "trying again: gone for a moment" in record.getMessage()


async def test_a_bug_in_a_store_is_logged_with_its_traceback(ear: Ear, caplog: pytest.LogCaptureFixture) -> None:
    """parity 113: whoever has to find it needs to know where it was raised."""
    async with Harness([Counter]) as h:
        h.world.fail_next_load(ZeroDivisionError("a bug"))
        ear.take()
        with pytest.raises(Exception, match="unexpected way"):
            await answered(h.call(Counter, "a", "get"))
        assert "check_load" in ear.one("storage.load.exception").metadata["traceback"]
    [record] = [record for record in caplog.records if record.levelno == logging.ERROR]
    assert record.exc_info is not None


async def test_a_handler_that_raises_breaks_no_call(caplog: pytest.LogCaptureFixture) -> None:
    """parity 111: it is detached at the first event, in the middle of a commit, and the call goes on."""

    def broken(*event: Any) -> None:
        raise ZeroDivisionError("a bug of the handler")

    async with Harness([Counter]) as h:
        telemetry.attach(broken, "storage.save.*")
        assert await h.call(Counter, "a", "increment") == 1
        assert await h.call(Counter, "a", "increment") == 2
    assert telemetry.detach(broken) is False
    assert [record.name for record in caplog.records if record.exc_info] == ["durable_engine.events"]


# Objects.


async def test_an_idle_object_hibernates_wakes_and_leaves(ear: Ear) -> None:
    """Each step is told, with where it came from and why it went."""
    async with Harness([Counter]) as h:
        await h.call(Counter, "a", "increment", prefix="acme")
        activated = ear.one("object.activated")
        about = {"object_type": "Counter", "object_id": "a", "prefix": "acme", "shard": 0}
        assert activated.metadata == about | {"source": "store"}
        ear.take()
        pass_time(h, 12)
        assert ear.one("object.hibernated").metadata == about
        ear.take()
        await h.call(Counter, "a", "get", prefix="acme", timeout=60)
        assert ear.one("object.activated").metadata == about | {"source": "hibernation"}
        pass_time(h, 12)
        pass_time(h, 61)
        assert ear.one("object.evicted").metadata == about | {"reason": "idle"}


async def test_an_object_leaves_for_a_reason(ear: Ear) -> None:
    """Asked to, or because nothing is stored of it: deleted, or only looked at."""
    async with Harness([Counter, BadStart]) as h:
        await h.call(Counter, "a", "increment")
        await h.call(Counter, "a", "$evict")
        await h.call(Counter, "a", "$delete")
        await h.call(Counter, "nobody", "$state")
        await h.call(Counter, "looked-at", "get")
        pass_time(h, 12)
    left = [(event.metadata["object_id"], event.metadata["reason"]) for event in ear.heard if "evicted" in event.name]
    assert left == [("a", "asked"), ("a", "empty"), ("nobody", "empty"), ("looked-at", "empty")]


async def test_above_the_memory_budget_objects_leave_for_want_of_room(ear: Ear) -> None:
    """Hibernated or live, the reason is the same, and there are as many events as the statistics count."""
    async with Harness([Counter], memory_bytes_max=10_000) as h:
        for number in range(20):
            await h.call(Counter, str(number), "increment", timeout=600)
            pass_time(h, 0.9 if number else 12)
        left = [event.metadata["reason"] for event in ear.heard if event.name == "object.evicted"]
        assert set(left) == {"memory"}
        assert len(left) == h.shard.idle.evicted > 0


# Alarms.


async def test_what_a_commit_did_to_alarms_is_told_alarm_by_alarm(ear: Ear) -> None:
    """Armed, fired, cancelled, failed, parked; what stayed as it was is no news."""
    at = datetime(2031, 5, 1, tzinfo=UTC)
    problem = shard_events.problem_of(HandlerFailed(remote_type="KeyError", remote_message="'x'", traceback="Trace"))
    kept, armed = AlarmRow("kept", at), AlarmRow("again", at)
    before = {name: AlarmRow(name, at) for name in ("again", "fired", "taken-back", "failed", "parked")} | {
        "kept": kept
    }
    failed = AlarmRow("failed", at, attempts=1, problem=problem)
    parked = AlarmRow("parked", at, attempts=1, problem=problem, is_parked=True)
    async with Harness([Sleeper], shard=1) as h:
        await h.call(Sleeper, "a", "arm", ["kept"])
        act = h.shard.directory.default["Sleeper"].live["a"]
        act.durable = (None, 0, {row.name: row for row in (kept, armed, failed, parked)})
        ear.take()
        shard_events.alarms_committed(act, before, [shard_events.Fired("fired", 0.25, 0.5)])
    heard = [(name, metadata["alarm_name"]) for name, _, metadata in ear.heard if name.startswith("alarm.")]
    assert heard == [
        ("alarm.fired", "fired"), ("alarm.scheduled", "again"), ("alarm.failed", "failed"),
        ("alarm.failed", "parked"), ("alarm.parked", "parked"), ("alarm.cancelled", "taken-back"),
    ]  # fmt: skip
    about = {"object_type": "Sleeper", "object_id": "a", "prefix": "", "shard": 1, "alarm_name": "fired"}
    assert ear.one("alarm.fired")[1:] == ({"lateness": 0.25, "duration": 0.5}, about)
    assert ear.one("alarm.scheduled").measurements["due_in"] == (at - h.clock.now()).total_seconds()
    failure = {"kind": "KeyError", "reason": "'x'", "traceback": "Trace"}
    assert ear.one("alarm.parked")[1:] == ({"attempt": 1}, about | {"alarm_name": "parked"} | failure)


# The shard.


async def test_a_shard_tells_when_it_starts_drains_and_stops(ear: Ear) -> None:
    """Once each: a server drains in two steps."""
    async with Harness([Counter], shard=2) as h:
        started = ear.one("shard.started")
        assert started.measurements.keys() == {"system_time", "duration"}
        assert started.metadata.keys() == {"shard", "epoch", "pid"}
        assert (started.metadata["shard"], started.metadata["epoch"]) == (2, h.shard.epoch)
        ear.take()
        await h.shard.drain()
        await h.shard.drain()
        assert ear.take() == ["shard.drained"]
    assert ear.take() == ["shard.stopped"]


async def test_a_shard_that_never_started_does_not_stop(ear: Ear) -> None:
    """Its store could not be opened."""
    h = Harness([Counter])
    h.world.go_away()
    with pytest.raises(StoreUnavailable):
        await h.shard.start(claim())
    await h.shard.close()
    assert ear.take() == []


async def test_a_shard_that_lost_its_ownership_is_fenced(ear: Ear) -> None:
    """The commit under way is an exception, and so is what it was about."""
    async with Harness([Counter]) as h:
        await h.call(Counter, "a", "increment")
        other = Harness([Counter], world=h.world)
        await other.store.open(claim())
        ear.take()
        h.call(Counter, "a", "increment")
        await settle()
        assert ear.take() == ["storage.save.start", "storage.save.exception", "shard.fenced"]
        assert isinstance(h.stops[0], Fenced)


async def test_a_shard_whose_store_broke_its_contract_has_failed(ear: Ear) -> None:
    """With the bug's own traceback."""
    async with Harness([Counter]) as h:
        await h.call(Counter, "a", "increment")
        h.world.refuse(lambda change: 1 // 0 == 1)
        ear.take()
        h.call(Counter, "a", "increment")
        await settle()
        failed = ear.one("shard.failed")
        assert failed.metadata["kind"] == "ZeroDivisionError"
        assert "1 // 0" in failed.metadata["traceback"]


async def test_with_nobody_listening_the_store_is_called_as_ever() -> None:
    """No frame of ours stands between a silent shard and its store."""
    store = MemoryStore()
    assert not telemetry.wanted_of("storage")
    for silent, own in (
        (storage_events.save(store, [], 0), store.commit),
        (storage_events.load(store, [], 0), store.load),
    ):
        assert silent.cr_code is own.__func__.__code__  # type: ignore[attr-defined]
        silent.close()
