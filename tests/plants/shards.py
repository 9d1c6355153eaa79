"""Faults of the shard: its gate, its turns, its keys, its alarms, its lease."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from typing import Any

from durable_shards import (
    activation,
    alarms,
    deadline_scheduler,
    firing,
    gate,
    keys,
    loader,
    mailbox,
    readlease,
    shard,
    transport,
    turn,
)
from durable_storage import memory, storage_events, writer
from durable_storage.address import partition_of
from durable_storage.store import Change, Store
from tests.plants.plant import Bed
from tests.plants.surgery import rewrite, rewrite_sql

bed = Bed()

TURNS = "tests/shards/test_turns.py::"
FIRING = "tests/shards/test_firing.py::"
AGAIN = "tests/shards/test_firing_again.py::"


# The output gate.


@bed.plant(
    "replies leave before the commit of what they tell",
    attacks="P2, P3, I1",
    catcher=TURNS + "test_a_reply_leaves_only_after_its_commit",
    reason="Future finished result=5",
)
def reply_before_commit() -> None:
    rewrite(gate.Gate.answer, ("if newest is not None:", "if False:"))


@bed.plant(
    "a turn that wrote nothing tells what it read of uncommitted turns",
    attacks="P3, I4",
    catcher=TURNS + "test_a_read_of_uncommitted_state_waits_for_the_commit",
    reason="assert not True",
)
def read_before_commit() -> None:
    rewrite(
        turn.Turns._finish,
        (
            "self._gate.answer(act, call, encoded)",
            "(self._gate.answer(act, call, encoded) if changed or keyed else self._gate.answer_clean(call, encoded))",
        ),
    )


@bed.plant(
    "one-way calls leave while their turn is not durable",
    attacks="P3",
    catcher="tests/shards/test_chains.py::test_a_one_way_call_leaves_with_its_turn_or_not_at_all",
    reason="the call was never answered",
)
def sends_before_commit() -> None:
    rewrite(turn.Turns._finish, ('self._gate.answer(act, send, b"")', 'send.peer.put(send, b"")'))


# Rollback.


@bed.plant(
    "what a failed handler changed stays in memory, and is stored with the next turn",
    attacks="P4, I3, I8",
    catcher="tests/shards/test_returns.py::test_a_rejection_undoes_state_and_alarms_of_its_turn",
    reason="assert -2 == 3",
)
def no_rollback() -> None:
    rewrite(turn.Turns._undo, ("act.instance = None  # the next turn", "pass  # the next turn"))


@bed.plant(
    "turns built on a refused commit are not undone with it",
    attacks="P4, I3, I8",
    catcher=TURNS + "test_a_refused_row_undoes_every_turn_built_on_it",
    reason="DID NOT RAISE PersistenceFailed",
)
def later_turns_stay() -> None:
    rewrite(
        activation.Activation.rollback,
        ("later, self.entry = self.entry, None", "later, self.newest = None, self.entry"),
    )


@bed.plant(
    "an object that cannot be loaded is taken for one that was never stored",
    attacks="P2, I1",
    catcher="tests/shards/test_loading.py::test_an_object_that_cannot_be_loaded_is_an_error_and_stays_out_of_memory",
    reason="DID NOT RAISE",
)
def failed_load_is_empty() -> None:
    async def load(store: Store, addresses: Sequence[Any], number: int) -> Any:
        try:
            return await storage_events.load(store, addresses, number)
        except Exception:
            return [None] * len(addresses)

    rewrite(loader.Loader._load, ("await storage_events.load(", "await load_or_nothing("), load_or_nothing=load)


# Keys.


@bed.plant(
    "the result of a call with a key is not stored with its state",
    attacks="P7, I2",
    catcher="tests/shards/test_idempotency.py::test_a_retry_hears_the_first_result",
    reason="assert 11 == 5",
)
def result_not_stored() -> None:
    rewrite(activation.PendingEntry.keep_result, ("self.results.append(row)", "pass"))


@bed.plant(
    "results are stored, but nobody looks for them once the object has left memory",
    attacks="P7, I2",
    catcher="tests/shards/test_idempotency.py::test_a_retry_hears_the_first_result",
    reason="assert 11 == 5",
)
def result_not_looked_up() -> None:
    rewrite(loader.Loader._look_up, ("return await self._store.load_results(pairs)", "return [None for _ in pairs]"))
    rewrite(memory.MemoryWorld.apply, ("if stored is not None and stored.expires_at > now:", "if False:"))
    rewrite_sql("postgres", "batch_results", ("WHERE stored.expires_at <= $5", "WHERE TRUE OR stored.expires_at <= $5"))
    rewrite_sql("sqlite", "store_result", ("WHERE durable_results", "WHERE TRUE OR durable_results"))


@bed.plant(
    "a key that was used for another call gets that call's result",
    attacks="P7",
    catcher="tests/shards/test_idempotency.py::test_the_same_key_for_another_call_is_refused",
    reason="DID NOT RAISE",
)
def key_of_another_call() -> None:
    rewrite(keys.Keys._answer_again, ("if memory.fingerprint != call.fingerprint:", "if False:"))


# Order and bounds.


@bed.plant(
    "an object begins a turn while another one of it waits",
    attacks="P1, P8, I4",
    catcher=TURNS + "test_calls_to_a_suspended_object_wait_in_order_and_others_do_not",
    reason=r"assert \(11, 1\) == \(11, 11\)",
)
def two_turns_at_once() -> None:
    rewrite(shard.Shard._dispatch, ("act.paused or act.suspended:", "act.paused:"))
    rewrite(mailbox.take, ("if act.suspended:\n        return None", "pass"))


@bed.plant(
    "calls that run again after a refused key do so in the wrong order",
    attacks="P8",
    catcher="tests/shards/test_keys_hard.py::test_a_look_up_under_way_does_not_overtake_calls_that_run_again",
    reason=r"\['zero', 'two', 'one'\]",
)
def rerun_out_of_order() -> None:
    rewrite(gate.Gate._run_again, ("extendleft(reversed(again))", "extendleft(again)"))


@bed.plant(
    "a mailbox takes in any number of calls",
    attacks="P9",
    catcher=TURNS + "test_a_full_mailbox_refuses_at_once",
    reason="the call was never answered",
)
def unbounded_mailbox() -> None:
    rewrite(mailbox.put, ("if len(queue) >= options.mailbox:", "if False:"))


@bed.plant(
    "a call whose time was up in the mailbox is run, though its caller was told that it was not",
    attacks="P5, I3",
    catcher="tests/shards/test_deadlines.py::test_a_call_whose_time_is_up_when_its_object_is_loaded_is_not_run",
    reason="DID NOT RAISE",
)
def expired_call_runs() -> None:
    rewrite(shard.Shard._go_on, ("if call.deadline < self.gate.now:", "if False:"))


@bed.plant(
    "a call that comes back to the object which waits for it waits as well",
    attacks="P8",
    catcher="tests/shards/test_chains.py::test_a_circle_is_answered_at_once_with_its_chain",
    reason="the call was never answered",
)
def circle_waits() -> None:
    rewrite(mailbox.circle, ("if not call.chain:", "if True:"))


# Tenants.


@bed.plant(
    "the prefix is no part of the address in memory: tenants meet in one object",
    attacks="P11",
    catcher=FIRING + "test_tenants_alarms_fire_in_their_own_objects",
    reason=r"assert \['ring'\] == \[\]",
)
def tenants_meet() -> None:
    rewrite(shard.Shard._dispatch, ("if call.prefix:", "if call.prefix and not self.directory.default:"))


# Ownership.


@bed.plant(
    "reads are answered however long ago the ownership was confirmed",
    attacks="P1, I4, I10",
    catcher=TURNS + "test_reads_stop_when_the_lease_runs_out_unconfirmed",
    reason="Future finished result=1",
)
def no_lease_on_reads() -> None:
    rewrite(gate.Gate.answer_clean, ("if self.now < self.lease.until:", "if True:"))


@bed.plant(
    "a shard that hears that it was replaced goes on answering reads",
    attacks="P1, I4, I5",
    catcher=TURNS + "test_reads_stop_when_the_lease_runs_out_unconfirmed",
    reason="Future finished result=1",
)
def zombie_answers_reads() -> None:
    rewrite(readlease.ReadLease._asked, ("self._lost(error)", "self.confirmed(sent_at)"))


@bed.plant(
    "reads that came while a commit was under way leave with it, however long that took",
    attacks="P1, I4, I10",
    catcher="tests/shards/test_late_answers.py::test_a_read_does_not_leave_with_a_commit_of_before_the_takeover",
    reason="the zombie told 2",
)
def late_reads_leave_with_old_commits() -> None:
    rewrite(gate.Gate.release, ("and not self.holds_lease()", "and False"))


@bed.plant(
    "a commit that was fenced off is answered as if it were durable",
    attacks="P1, P2, I1",
    catcher=TURNS + "test_a_fenced_shard_neither_writes_nor_answers",
    reason="Future finished result=2",
)
def fenced_commit_is_acknowledged() -> None:
    rewrite(writer.Writer._fail, ("self._stopped = True", "self._work_off(self._flying, {})"))


# Sockets.


@bed.plant(
    "the ROUTER drops in silence what it sends to a peer that is gone or full",
    attacks="P9, I11",
    catcher="tests/shards/test_transport.py::test_a_peer_that_is_gone_is_told_apart_from_a_slow_one",
    reason="the queue towards a slow reader must be bounded",
)
def router_without_mandatory() -> None:
    rewrite(transport.RouterTransport.__init__, ("zmq.ROUTER_MANDATORY, 1", "zmq.ROUTER_MANDATORY, 0"))


# Alarms.


def _part(change: Change, *names: str) -> Change:
    """A change of which some parts are left."""
    return Change(
        change.address, change.partition, version=change.version, **{name: getattr(change, name) for name in names}
    )


def _in_two_commits(*, late: str) -> None:
    """Commit the part of each change that is called `late` after the rest."""
    early = {"state", "results", "delete", "alarms_set", "alarms_cleared"} - {late}

    async def save_in_two(store: Store, changes: list[Change], number: int) -> dict[int, Exception]:
        first = {i: _part(each, *early) for i, each in enumerate(changes) if any(getattr(each, name) for name in early)}
        refused = {}
        if first:
            answer = await storage_events.save(store, list(first.values()), number)
            refused = {list(first)[place]: error for place, error in answer.items()}
        second = {i: _part(each, late) for i, each in enumerate(changes) if getattr(each, late) and i not in refused}
        if second:
            await storage_events.save(store, list(second.values()), number)
        return refused

    rewrite(writer.Writer._commit_all, ("storage_events.save(", "save_in_two("), save_in_two=save_in_two)


@bed.plant(
    "alarms are armed by a second commit, after the state that speaks of them",
    attacks="P6, I6, I7",
    catcher="tests/invariants/test_alarms_machine.py",
    reason="tell different stories",
)
def alarm_after_state() -> None:
    _in_two_commits(late="alarms_set")


@bed.plant(
    "a fired alarm is removed by a second commit, after the effect of firing it",
    attacks="P6, I6, I7",
    catcher="tests/invariants/test_alarms_machine.py",
    reason="is lost|was fired twice",
)
def fired_alarm_removed_later() -> None:
    _in_two_commits(late="alarms_cleared")


@bed.plant(
    "an older firing removes what was armed under its name meanwhile",
    attacks="P6, I6",
    catcher=FIRING + "test_an_arming_by_an_inner_turn_survives_the_firing",
    reason="KeyError: 'ring'",
)
def older_firing_removes_newer() -> None:
    rewrite(
        alarms.AlarmBook.settle,
        ("if armed.get(row.name) is not row and self.set.get(row.name) is following:", "if False:"),
    )


@bed.plant(
    "an alarm that was armed anew is fired at the time for which it was armed before",
    attacks="P6, I6",
    catcher=FIRING + "test_firing_for_another_time_does_nothing",
    reason="assert True is False",
)
def replaced_alarm_fires() -> None:
    rewrite(firing.Firings.fire, ("(row.at != at or row.is_parked)", "row.is_parked"))


@bed.plant(
    "alarms are fired a second before they are due",
    attacks="P6, I6",
    catcher=FIRING + "test_an_alarm_fires_when_it_is_due_and_not_before",
    reason=r"assert \['ring'\] == \[\]",
)
def early_alarm() -> None:
    rewrite(
        deadline_scheduler.DeadlineScheduler._take_soonest,
        ("self._heap[0][0] > now:", "self._heap[0][0] > now + EARLY:"),
        EARLY=timedelta(seconds=1),
    )


@bed.plant(
    "an alarm that failed as often as it may is dropped instead of parked",
    attacks="P6, I6",
    catcher=AGAIN + "test_an_alarm_that_fails_always_is_parked_and_can_be_armed_again",
    reason="KeyError: 'fail'",
)
def failing_alarm_dropped() -> None:
    rewrite(firing.Firings.failed, ("row = row._replace(is_parked=True)", "row = None"))


@bed.plant(
    "a shard that starts clears away the alarms of classes and methods that it does not know",
    attacks="P6, I6",
    catcher=FIRING + "test_an_alarm_of_an_unknown_class_waits_for_it",
    reason=r"assert \{\} == \{'ring': Alar",
)
def unknown_alarm_dropped() -> None:
    async def tidy(self: shard.Shard) -> None:
        listed = await self.store.list_alarms("", self.registry.served(), None, 1000)
        gone = [
            Change(each.address, partition_of(*each.address), alarms_cleared=[each.row.name])
            for each in listed
            if not each.row.is_parked
        ]
        if gone:
            await self.store.commit(gone)

    rewrite(shard.Shard.start, ("await self.alarms.start()", "await tidy(self); await self.alarms.start()"), tidy=tidy)
