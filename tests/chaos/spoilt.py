"""Histories that are wrong in one way each, for the tests of the checker. Here: objects, and what they answered."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from copy import deepcopy
from typing import Any

import msgspec

from tests.chaos.final import AtRest, Final
from tests.chaos.honest import Honest
from tests.chaos.journal import START, link
from tests.chaos.records import Op

LOG, OTHER, BANK, TIMERS = "Log/a", "Log/b", "Bank/a", "Timers/a"
NOW = round(time.time(), 3)
FAR = NOW + 5000
Spoilt = tuple[list[Op], Final]
CASES: dict[str, Callable[[], Spoilt]] = {}
"""By what is wrong; the invariant comes first."""


def case(name: str) -> Callable[[Callable[[Honest], Spoilt]], Callable[[Honest], Spoilt]]:
    """Remember a case; it is given a new world."""

    def keep(spoil: Callable[[Honest], Spoilt]) -> Callable[[Honest], Spoilt]:
        CASES[name] = lambda: spoil(Honest())
        return spoil

    return keep


def changed(op: Op, **changes: Any) -> Op:
    """An operation that was told otherwise."""
    return msgspec.structs.replace(op, **changes)


def failed(op: Op) -> Op:
    """An operation that was told that it was not applied."""
    return changed(op, outcome="not_applied", value=None, epoch=0, version=-1)


def edit(final: Final, name: str, **fields: Any) -> None:
    """Other fields of an object's state, in the store as in memory."""
    state = json.dumps({**json.loads(final.store[name].state), **fields}).encode()
    final.store[name] = final.store[name]._replace(state=state)
    assert final.memory is not None
    final.memory[name] = state


def edit_event(world: Honest, number: int, place: int, value: Any) -> None:
    """Another entry in the journal of alarms, and the chain that fits."""
    timers = world.object(TIMERS)
    timers.events[number][place] = value
    timers.chain = START
    for token, event in zip(timers.tokens, timers.events, strict=True):
        timers.chain = link(timers.chain, token, *event)


@case("I1 an acknowledged entry is gone")
def lost(world: Honest) -> Spoilt:
    world.do(LOG, "append")
    final = world.final()
    world.do(LOG, "append")
    return world.ops, final


@case("I1 an applied entry is gone")
def applied_and_lost(world: Honest) -> Spoilt:
    return [changed(world.do(LOG, "append", outcome="not_applied"), outcome="applied")], world.final()


@case("I1 a token that was handed on has not arrived")
def not_handed_on(world: Honest) -> Spoilt:
    world.do(LOG, "relay", OTHER)
    del world.objects[OTHER]
    return world.ops, world.final()


def lose_message(world: Honest, source: int = 1, target: int = 2) -> Op:
    """A token leaves incarnation 1 for 2, and does not arrive. These serve its source and its target for long then."""
    world.epoch = 2
    world.do(OTHER, "append")
    there = deepcopy(world.objects[OTHER])
    world.epoch = 1
    world.do(LOG, "append")
    lost = world.do(LOG, "send", OTHER)
    world.objects[OTHER] = there
    for _ in range(4):
        world.epoch = source
        world.do(LOG, "append")
        world.epoch = target
        world.do(OTHER, "append")
    return lost


@case("I1 a message did not arrive, and both shards lived on")
def message_is_lost(world: Honest) -> Spoilt:
    lose_message(world)
    return world.ops, world.final()


@case("I1 a message did not arrive, and all faults were over")
def message_is_lost_in_peace(world: Honest) -> Spoilt:
    lost = lose_message(world, source=3)
    final = world.final()
    final.calm_since = lost.invoked
    return world.ops, final


@case("I1 a message did not arrive, and nothing ever struck")
def message_is_lost_in_calm(world: Honest) -> Spoilt:
    world.do(LOG, "send", OTHER)
    del world.objects[OTHER]
    final = world.final()
    final.faults = {}
    return world.ops, final


@case("I2 an entry is there twice")
def twice(world: Honest) -> Spoilt:
    op = world.do(LOG, "append")
    world.object(LOG).note(op.token)
    return world.ops, world.final()


@case("I2 a call of unknown outcome took effect twice")
def unknown_twice(world: Honest) -> Spoilt:
    op = world.do(LOG, "append", outcome="unknown")
    world.object(LOG).note(op.token)
    return world.ops, world.final()


@case("I2 a token arrived twice")
def arrived_twice(world: Honest) -> Spoilt:
    op = world.do(LOG, "relay", OTHER)
    world.object(OTHER).note(op.token)
    return world.ops, world.final()


@case("I2 an entry is there that nobody asked for")
def stranger(world: Honest) -> Spoilt:
    world.do(LOG, "append")
    world.object(LOG).note(99)
    return world.ops, world.final()


@case("I3 what failed is there")
def failed_and_there(world: Honest) -> Spoilt:
    return [failed(world.do(LOG, "append"))], world.final()


@case("I3 a message left a turn that was undone")
def left_too_early(world: Honest) -> Spoilt:
    op = world.do(LOG, "send", OTHER, outcome="not_applied")
    world.object(OTHER).note(op.token)
    return world.ops, world.final()


@case("I3 a turn that killed its shard is stored")
def damage(world: Honest) -> Spoilt:
    final = world.final()
    final.store["Saboteur/a"] = AtRest(b'{"damage": 1}', 1, {})
    final.memory = None
    return world.ops, final


@case("I4 what was answered earlier took effect later")
def order(world: Honest) -> Spoilt:
    first = world.do(LOG, "append")
    second = world.do(LOG, "append", client=1)
    return [changed(first, invoked=second.invoked + 1, answered=second.invoked + 2), second], world.final()


@case("I4 an unknown outcome took effect before it began")
def order_of_unknown(world: Honest) -> Spoilt:
    first = world.do(LOG, "append", outcome="unknown")
    second = world.do(LOG, "append", client=1)
    return [changed(first, invoked=second.invoked + 1), second], world.final()


@case("I4 a read misses what was answered before")
def stale_read(world: Honest) -> Spoilt:
    world.do(LOG, "append")
    read = world.do(LOG, "read", client=1)
    last = world.do(LOG, "append")
    return [*world.ops[:1], last, changed(read, invoked=9.0, answered=9.1)], world.final()


@case("I4 a rejection misses what was answered before")
def stale_rejection(world: Honest) -> Spoilt:
    world.do(BANK, "transfer", 0, 1, 60)
    rejected = world.do(BANK, "transfer", 0, 1, 60, client=1)
    last = world.do(BANK, "transfer", 1, 0, 60)
    return [*world.ops[:1], last, changed(rejected, invoked=9.0, answered=9.1)], world.final()


@case("I4 a read shows what never was")
def dirty_read(world: Honest) -> Spoilt:
    world.do(LOG, "append")
    return [*world.ops, changed(world.do(LOG, "read"), value=[1, 4711])], world.final()


@case("I4 a read shows more than there ever was")
def read_of_the_undone(world: Honest) -> Spoilt:
    final = world.final()
    world.do(LOG, "append", outcome="unknown")
    return [*world.ops, world.do(LOG, "read")], final


@case("I4 two calls got each other's answers")
def swapped(world: Honest) -> Spoilt:
    first, second = world.do(LOG, "append"), world.do(LOG, "append", client=1)
    return [
        changed(first, answered=9.0, value=second.value, version=second.version),
        changed(second, value=first.value, version=first.version),
    ], world.final()


@case("I4 another transfer was made than was asked for")
def other_transfer(world: Honest) -> Spoilt:
    return [changed(world.do(BANK, "transfer", 0, 1, 60), asked=[0, 1, 50])], world.final()


@case("I4 money is missing")
def money_is_missing(world: Honest) -> Spoilt:
    world.do(BANK, "transfer", 0, 1, 60)
    world.object(BANK).balances[1] -= 1
    return [*world.ops, world.do(BANK, "audit")], world.final()


@case("I4 a transfer was rejected that was covered")
def was_covered(world: Honest) -> Spoilt:
    world.do(BANK, "transfer", 0, 1, 60)
    return [*world.ops, changed(world.do(BANK, "transfer", 0, 1, 60), asked=[0, 1, 40])], world.final()


@case("I4 a journal was full that was not")
def was_not_full(world: Honest) -> Spoilt:
    op = world.do(LOG, "append")
    rejected = changed(op, token=2, outcome="not_applied", value=["full", *op.value], invoked=2.0, answered=2.1)
    return [op, rejected], world.final()


@case("I5 two incarnations took turns")
def took_turns(world: Honest) -> Spoilt:
    for client, epoch in enumerate((1, 2, 1)):
        world.epoch = epoch
        world.do(LOG, "append", client=client)
    return world.ops, world.final()


@case("I5 an earlier incarnation answered after its successor had written")
def zombie_answers(world: Honest) -> Spoilt:
    world.epoch = 2
    world.do(LOG, "append")
    world.epoch = 1
    world.do(LOG, "read", client=1)
    return world.ops, world.final()


@case("I5 an answer is of another incarnation than its entry")
def answer_of_another(world: Honest) -> Spoilt:
    first = world.do(LOG, "append")
    return [first, changed(world.do(LOG, "append", client=1), epoch=2)], world.final()


@case("I5 a commit is missing")
def missing_commit(world: Honest) -> Spoilt:
    world.do(LOG, "append")
    final = world.final()
    final.store[LOG] = final.store[LOG]._replace(version=2)
    return world.ops, final


@case("I5 the state is mixed from two")
def mixed(world: Honest) -> Spoilt:
    op = world.do(LOG, "append", outcome="unknown")
    final = world.final()
    edit(final, LOG, chain=4711)
    return [op], final


@case("I5 a state has parts of two")
def parts_of_two(world: Honest) -> Spoilt:
    op = world.do(BANK, "transfer", 0, 1, 60, outcome="unknown")
    final = world.final()
    edit(final, BANK, moves=[])
    return [op], final


@case("I8 memory is not the store")
def other_memory(world: Honest) -> Spoilt:
    world.do(LOG, "append")
    final = world.final()
    final.memory = {LOG: b'{"tokens": []}'}
    return world.ops, final


@case("I8 an object is in the store alone")
def not_in_memory(world: Honest) -> Spoilt:
    world.do(LOG, "append")
    final = world.final()
    final.memory = {}
    return world.ops, final


@case("I8 an object is in memory alone")
def in_memory_alone(world: Honest) -> Spoilt:
    world.do(LOG, "append", outcome="not_applied")
    final = world.final()
    final.memory = {LOG: b'{"tokens": []}'}
    return world.ops, final


@case("I8 an object that nobody called is in memory alone")
def stranger_in_memory(world: Honest) -> Spoilt:
    final = world.final()
    final.memory = {OTHER: b'{"tokens": []}'}
    return world.ops, final


@case("I10 a client is answered by an earlier incarnation than before")
def back_to_a_zombie(world: Honest) -> Spoilt:
    world.do(LOG, "append")
    for epoch in (2, 1):
        world.epoch = epoch
        world.do(LOG, "read", client=1)
    return world.ops, world.final()
