"""Turns: commit before reply, exact rollback, the output gate, and what handlers may raise."""

from __future__ import annotations

import asyncio
import json
from datetime import timedelta

import pytest

from durable_engine import (
    CallTimeout,
    HandlerFailed,
    InvalidArguments,
    Overloaded,
    PersistenceFailed,
    StateUnreadable,
    UnknownClass,
    UnknownHandler,
)
from durable_shards.wire import FLAG_ONE_WAY
from durable_storage.address import Address
from durable_storage.errors import Fenced
from durable_storage.memory import MemoryStore
from tests.shards.harness import Harness, answered, claim, settle
from tests.shards.objects import GATES, BadStart, Counter, Loaded, LoadedLater, Refused, Sleeper, Waiter


async def test_a_reply_leaves_only_after_its_commit() -> None:
    """parity 35, 50: while the commit is held the caller hears nothing; then the value that is in the store."""
    async with Harness([Counter]) as h:
        h.world.hold()
        reply = h.call(Counter, "a", "increment", [5])
        await settle()
        assert not reply.done()
        assert h.world.objects == {}
        h.world.release()
        assert await reply == 5
        assert h.world.objects[Address("", "Counter", "a")].version == 1


async def test_a_hot_object_runs_ahead_of_the_disk_and_folds_into_one_row() -> None:
    """A hundred turns during one commit cost one more commit, and the replies tell each its own value."""
    async with Harness([Counter]) as h:
        assert await h.call(Counter, "a", "increment") == 1
        statements = h.world.statements
        replies = [h.call(Counter, "a", "increment") for _ in range(100)]
        assert await asyncio.gather(*replies) == list(range(2, 102))
        assert h.world.statements - statements <= 2


async def test_a_read_of_uncommitted_state_waits_for_the_commit() -> None:
    """Neither a readonly handler, nor one that changed nothing, nor an error may tell what is not durable."""
    async with Harness([Counter]) as h:
        await h.call(Counter, "a", "get")
        h.world.hold()
        h.call(Counter, "a", "increment")
        read = h.call(Counter, "a", "get")
        peek = h.call(Counter, "a", "peek")
        rejected = h.call(Counter, "a", "reject", ["x"])
        await settle()
        assert not any(call.done() for call in (read, peek, rejected))
        h.world.release()
        assert await read == 1
        assert await peek == 1
        with pytest.raises(Refused):
            await rejected


async def test_a_read_writes_nothing_and_creates_nothing() -> None:
    """parity 37, 51, 53: a mistyped id that is only read leaves no row behind, in the store or in memory."""
    async with Harness([Counter]) as h:
        assert await h.call(Counter, "typo", "peek") == 0
        assert await h.call(Counter, "typo", "$state") is None
        assert h.world.objects == {}
        assert h.world.statements == 0


@pytest.mark.parametrize("bad", ["reject", "crash", "interrupt", "unsendable", "unstorable"])
async def test_a_failed_turn_leaves_no_trace(bad: str) -> None:
    """parity 5, 41, 47, fault D1, D2: whatever a turn dies of, all is as before and the next call works."""
    async with Harness([Counter]) as h:
        await h.call(Counter, "a", "increment", [7])
        with pytest.raises((Refused, HandlerFailed, PersistenceFailed)) as failure:
            await h.call(Counter, "a", bad, ["because"] if bad == "reject" else [])
        assert failure.value.outcome == "not_applied"
        assert await h.call(Counter, "a", "get") == 7
        assert await h.call(Counter, "a", "increment") == 8
        assert await h.call(Counter, "a", "note", ["x"]) == 1


async def test_a_rejection_arrives_as_itself_and_a_bug_as_handler_failed() -> None:
    """parity 40, 47: the caller gets the same Rejected class with its fields; of a bug the type, message, traceback."""
    async with Harness([Counter]) as h:
        with pytest.raises(Refused) as refused:
            await h.call(Counter, "a", "reject", ["why not"])
        assert refused.value.why == "why not"
        with pytest.raises(HandlerFailed) as failed:
            await h.call(Counter, "a", "crash")
        assert failed.value.remote_type == "ZeroDivisionError"
        assert "a bug" in failed.value.remote_message
        assert "in crash" in failed.value.traceback


async def test_a_refused_row_undoes_every_turn_built_on_it() -> None:
    """parity 43, 52: poison in one object fails its calls of that commit and of later ones; neighbours commit."""
    async with Harness([Counter]) as h:
        await asyncio.gather(h.call(Counter, "a", "increment"), h.call(Counter, "b", "increment"))
        h.world.refuse(lambda change: change.state is not None and b"-666" in change.state)
        h.world.hold()
        poison = h.call(Counter, "a", "poison")
        neighbour = h.call(Counter, "b", "increment")
        await settle()
        later = h.call(Counter, "a", "increment", [5])
        await settle()
        h.world.release()
        assert await neighbour == 2
        for call in (poison, later):
            with pytest.raises(PersistenceFailed) as failure:
                await call
            assert failure.value.outcome == "not_applied"
        assert await h.call(Counter, "a", "get") == 1
        assert await h.call(Counter, "a", "increment") == 2


@pytest.mark.parametrize("fault", ["before", "after", "late"])
async def test_an_unknown_outcome_is_resolved_before_anybody_hears_of_it(fault: str) -> None:
    """Whether the statement was lost, executed or delayed, each increment counts exactly once."""
    async with Harness([Counter]) as h:
        await h.call(Counter, "a", "increment")
        h.world.fail_next(fault)  # type: ignore[arg-type]
        assert await h.call(Counter, "a", "increment") == 2
        assert h.world.faults_fired == 1
        async with Harness([Counter], world=h.world) as again:
            assert await again.call(Counter, "a", "get") == 2


async def test_a_fenced_shard_neither_writes_nor_answers() -> None:
    """parity 2, fault A6: after a takeover the old activation's commit is refused and its caller hears nothing."""
    async with Harness([Counter]) as old:
        await old.call(Counter, "a", "increment")
        await MemoryStore(old.world).open(claim())
        ghost = old.call(Counter, "a", "increment")
        await settle()
        assert not ghost.done()
        assert old.stops, "the shard was told to stop"
        assert old.world.objects[Address("", "Counter", "a")].version == 1


async def test_reads_stop_when_the_lease_runs_out_unconfirmed() -> None:
    """A shard that slept through a takeover holds its reads, asks the store, and then stops."""
    async with Harness([Counter]) as old:
        await old.call(Counter, "a", "increment")
        assert await old.call(Counter, "a", "get") == 1
        await MemoryStore(old.world).open(claim())
        old.clock.advance(timedelta(seconds=30))  # type: ignore[union-attr]
        ghost = old.call(Counter, "a", "get")
        await settle()
        assert not ghost.done()
        assert old.stops


async def test_reads_go_on_once_the_lease_is_renewed() -> None:
    """An owner that merely slept confirms its ownership and then answers."""
    clock_step = timedelta(seconds=30)
    async with Harness([Counter]) as h:
        await h.call(Counter, "a", "increment")
        h.clock.advance(clock_step)  # type: ignore[union-attr]
        assert await h.call(Counter, "a", "get", timeout=60) == 1
        assert h.shard.gate.lease.holds == 1


async def test_wrong_calls_are_refused_before_anything_is_touched() -> None:
    """parity 42, fault E2: unknown classes, handlers and arguments are typed errors; nothing is loaded or created."""
    async with Harness([Counter]) as h:
        for error, call in (
            (UnknownClass, h.call("Countre", "a", "increment")),
            (UnknownHandler, h.call(Counter, "a", "incremnet")),
            (UnknownHandler, h.call(Counter, "a", "__init__")),
            (UnknownHandler, h.call(Counter, "a", "$unheard")),
            (InvalidArguments, h.call(Counter, "a", "increment", ["five"])),
            (InvalidArguments, h.call(Counter, "a", "increment", [1, 2])),
            (InvalidArguments, h.call(Counter, "a", "increment", [], {"amuont": 1})),
            (InvalidArguments, h.call(Counter, "", "increment")),
            (InvalidArguments, h.call(Counter, "a\0b", "increment")),
        ):
            with pytest.raises(error):
                await call
        assert h.shard.loader.loads == 0
        assert h.shard.directory.counts() == (0, 0)


async def test_async_handlers_that_do_not_suspend_need_no_task() -> None:
    """The coroutine is driven in place; what needs the current task still finds one."""
    async with Harness([Counter, Waiter]) as h:
        assert await h.call(Counter, "a", "increment_async", [3]) == 3
        assert await h.call(Waiter, "w", "with_timeout") == "timed out"


async def test_calls_to_a_suspended_object_wait_in_order_and_others_do_not() -> None:
    """One turn at a time per object; a neighbour is not held up."""
    GATES["one"] = asyncio.Event()
    async with Harness([Waiter]) as h:
        first = h.call(Waiter, "a", "wait", ["one"])
        second = h.call(Waiter, "a", "get")
        assert await h.call(Waiter, "b", "get") == 0
        assert not second.done()
        GATES["one"].set()
        assert (await first, await second) == (11, 11)


async def test_a_full_mailbox_refuses_at_once() -> None:
    """fault D16: past the bound callers hear Overloaded, and nothing of theirs was run."""
    GATES["full"] = asyncio.Event()
    async with Harness([Waiter]) as h:
        first = h.call(Waiter, "a", "wait", ["full"])
        await settle()
        waiting = [h.call(Waiter, "a", "get") for _ in range(1000)]
        with pytest.raises(Overloaded) as refused:
            await answered(h.call(Waiter, "a", "get"))
        assert refused.value.outcome == "not_applied"
        GATES["full"].set()
        assert await first == 11
        assert set(await asyncio.gather(*waiting)) == {11}


async def test_a_turn_past_its_deadline_is_cancelled_and_undone() -> None:
    """parity 27, fault E11, D6: the caller hears CallTimeout with outcome not_applied, and the state is as before."""
    GATES["late"] = asyncio.Event()
    async with Harness([Waiter]) as h:
        late = h.call(Waiter, "a", "wait", ["late"], timeout=1)
        await settle()
        h.clock.advance(timedelta(seconds=2))  # type: ignore[union-attr]
        h.shard.turns.deadlines.run_due()
        with pytest.raises(CallTimeout) as timeout:
            await late
        assert timeout.value.outcome == "not_applied"
        assert await h.call(Waiter, "a", "get") == 0


async def test_a_handler_that_ignores_its_cancellation_is_left_behind() -> None:
    """fault D6, D11: the object goes on without it, and what the stray handler still does has no effect."""
    GATES["stubborn"] = asyncio.Event()
    seconds = timedelta(seconds=2)
    async with Harness([Waiter]) as h:
        stray = h.call(Waiter, "a", "stubborn", ["stubborn"], timeout=1)
        await settle()
        for _ in range(2):
            h.clock.advance(seconds)  # type: ignore[union-attr]
            h.shard.turns.deadlines.run_due()
            await settle()
        with pytest.raises(CallTimeout):
            await stray
        assert await h.call(Waiter, "a", "get", timeout=60) == 0
        GATES["stubborn"].set()
        await settle()
        assert await h.call(Waiter, "a", "get", timeout=60) == 0


async def test_after_load_runs_once_per_activation_and_commits_with_the_first_turn() -> None:
    """parity 67: its changes are stored, and scratch attributes are made anew after a rollback."""
    async with Harness([Loaded]) as h:
        assert await h.call(Loaded, "a", "get") == [1, 1]
        assert await h.call(Loaded, "a", "get") == [1, 1]
        with pytest.raises(Refused):
            await h.call(Loaded, "a", "spoil")
        assert await h.call(Loaded, "a", "get") == [2, 2]
        async with Harness([Loaded], world=h.world) as again:
            assert await again.call(Loaded, "a", "get") == [3, 3]


async def test_an_async_after_load_holds_the_calls_back() -> None:
    """parity 67: calls wait, in order, until it ended."""
    GATES["load"] = asyncio.Event()
    async with Harness([LoadedLater]) as h:
        calls = [h.call(LoadedLater, "a", "get") for _ in range(3)]
        await settle()
        assert not any(call.done() for call in calls)
        GATES["load"].set()
        assert await asyncio.gather(*calls) == [1, 1, 1]


async def test_a_failing_after_load_fails_the_call_and_not_the_shard() -> None:
    """parity 67: each call tries again and hears why; nothing is stored."""
    async with Harness([BadStart]) as h:
        for _ in range(2):
            with pytest.raises(HandlerFailed, match="not today"):
                await h.call(BadStart, "a", "get")
        assert h.world.objects == {}


async def test_unreadable_state_is_told_and_left_alone() -> None:
    """parity 44, 45, fault F1: the row stays as it is, the error names the path; it can be looked at and deleted."""
    async with Harness([Counter]) as h:
        await h.call(Counter, "a", "increment")
        row = h.world.objects[Address("", "Counter", "a")]
        row.state = b'{"count":"many"}'
    async with Harness([Counter], world=h.world) as again:
        with pytest.raises(StateUnreadable, match="count"):
            await again.call(Counter, "a", "increment")
        assert row.state == b'{"count":"many"}'
        assert (await again.call(Counter, "a", "$state"))["state"] == {"count": "many"}
        assert await again.call(Counter, "a", "$delete") is True
        assert await again.call(Counter, "a", "increment") == 1


async def test_draining_finishes_what_was_begun_and_takes_nothing_new() -> None:
    """Every accepted call is answered, and later ones are told to go elsewhere."""
    GATES["drain"] = asyncio.Event()
    async with Harness([Waiter, Counter]) as h:
        begun = h.call(Waiter, "a", "wait", ["drain"])
        counted = h.call(Counter, "c", "increment")
        await settle(2)
        drained = asyncio.ensure_future(h.shard.drain())
        await settle()
        with pytest.raises(Exception, match="shutting down"):
            await h.call(Counter, "c", "increment")
        assert not drained.done()
        h.call(Counter, "c", "increment", flags=FLAG_ONE_WAY)  # nobody would send it again
        GATES["drain"].set()
        await drained
        assert (await begun, await counted) == (11, 1)
        assert json.loads(h.world.objects[Address("", "Counter", "c")].state)["count"] == 2


async def test_a_commit_that_ends_after_the_stop_opens_no_lease() -> None:
    """A shard that was told to stop answers no read, whatever the store still confirms."""
    async with Harness([Counter]) as h:
        await h.call(Counter, "a", "increment")
        h.world.hold()
        h.call(Counter, "a", "increment")
        await settle()
        h.shard.stop(Fenced())
        h.world.release()
        await settle()
        assert not h.shard.gate.holds_lease()


async def test_a_refused_commit_takes_its_alarms_back() -> None:
    """parity 52: what the refused turn scheduled or cancelled is as it was before, in memory as in the store."""
    async with Harness([Sleeper]) as h:
        await h.call(Sleeper, "a", "arm", ["first"])
        h.world.refuse(lambda change: change.state is not None and b"poison" in change.state)
        with pytest.raises(PersistenceFailed):
            await h.call(Sleeper, "a", "rearm_and_poison")
        assert [name for name, *_ in await h.call(Sleeper, "a", "$pending")] == ["first"]
        assert await h.call(Sleeper, "a", "armed") == ["first"]
