"""The checker passes what is right, and names what is wrong: one spoilt history for each way to break a promise."""

from __future__ import annotations

import msgspec
import pytest

from tests.chaos import spoilt_runs  # noqa: F401 - its cases are among those of `spoilt`
from tests.chaos.checker import check
from tests.chaos.final import Final
from tests.chaos.honest import Honest
from tests.chaos.limits import ALWAYS
from tests.chaos.objects import moment
from tests.chaos.spoilt import BANK, CASES, LOG, NOW, OTHER, TIMERS, edit_event, lose_message


def honest() -> Honest:
    """A history with everything in it, all right."""
    world = Honest()
    world.do(LOG, "append")  # token 1
    world.do(LOG, "append", client=1)
    world.do(LOG, "read", client=1)
    world.do(LOG, "append", outcome="unknown")
    world.do(LOG, "append", outcome="not_applied")  # token 4
    world.epoch = 2
    world.do(LOG, "append", client=1)  # token 5
    world.do(LOG, "read")
    world.do(LOG, "relay", OTHER)  # token 6
    world.do(LOG, "send", OTHER, client=1)  # token 7
    world.do(BANK, "transfer", 0, 1, 60)  # token 8
    world.do(BANK, "transfer", 0, 1, 60)  # token 9, rejected
    world.do(BANK, "audit")
    world.do(TIMERS, "arm", "once", NOW - 50, 0, 0.0, 0)  # token 10
    world.do(TIMERS, "arm", "chained", NOW - 50, 1, 0.0, 0)
    world.do(TIMERS, "arm", "repeated", NOW - 50, 1, 0.5, 0)
    world.do(TIMERS, "arm", "far", NOW + 5000, 0, 0.0, 0)  # token 13
    world.do(TIMERS, "arm", "away", NOW + 5000, 0, 0.0, 0)
    world.do(TIMERS, "arm", "hopeless", NOW - 50, 0, 0.0, ALWAYS)
    for _ in range(2):
        world.fire(TIMERS, "repeated")
    world.fire(TIMERS, "once")
    world.fire(TIMERS, "chained")
    edit_event(world, -1, -1, NOW - 1)  # that was a while ago
    world.rows[TIMERS]["chained"] = world.rows[TIMERS]["chained"]._replace(at=moment(NOW - 1))
    world.fire(TIMERS, "chained")
    world.do(TIMERS, "cancel", "away")
    world.rows[TIMERS]["hopeless"] = world.rows[TIMERS]["hopeless"]._replace(is_parked=True, attempts=4)
    world.do(TIMERS, "look", client=1)
    return world


def test_a_history_that_is_right_passes() -> None:
    """Whatever it has in it: unknown outcomes, rejections, incarnations, alarms of all kinds."""
    world = honest()

    assert check(world.ops, world.final()) == []


def test_nothing_passes_unseen() -> None:
    """Of no history there is nothing to say, and of an object that nobody called its own journal."""
    assert check([], Final()) == []
    assert {violation.invariant for violation in check([], honest().final())} == {"I2"}


def test_every_invariant_has_a_history_that_breaks_it() -> None:
    """None of the twelve is without one."""
    assert {name.split()[0] for name in CASES} == {f"I{number}" for number in range(1, 13)}


@pytest.mark.parametrize("name", CASES)
def test_what_is_wrong_is_named(name: str) -> None:
    """By the invariant that it breaks, and by no other."""
    ops, final = CASES[name]()

    assert {violation.invariant for violation in check(ops, final)} == {name.split(maxsplit=1)[0]}


@pytest.mark.parametrize(("source", "target"), [(3, 2), (1, 3)])
def test_a_message_may_go_down_with_either_shard(source: int, target: int) -> None:
    """Another incarnation than the one that sent it, or was to get it, is heard of afterwards."""
    world = Honest()
    sent = lose_message(world, source, target).invoked
    final = world.final()
    final.calm_since = sent + 1

    assert check(world.ops, final) == []


@pytest.mark.parametrize(
    ("begun", "ended", "may_be_lost"), [(-9, -1, False), (-9, 1, True), (3, 9, True), (4, 9, False)]
)
def test_a_message_may_be_lost_in_a_storm(begun: float, ended: float, may_be_lost: bool) -> None:
    """While it was under way, and not before or afterwards."""
    world = Honest()
    sent = lose_message(world).invoked
    final = world.final()
    final.storms = [(sent + begun, sent + ended)]

    assert (check(world.ops, final) == []) is may_be_lost


def test_a_client_that_is_shown_less_than_before_hears_a_stale_reply() -> None:
    """No order of effects explains it either."""
    world = Honest()
    world.do(LOG, "append")
    world.do(LOG, "append")
    read = world.do(LOG, "read")
    stale = msgspec.structs.replace(read, value=world.ops[0].value, version=1, invoked=9.0, answered=9.1)

    assert {violation.invariant for violation in check([*world.ops, stale], world.final())} == {"I4", "I10"}
