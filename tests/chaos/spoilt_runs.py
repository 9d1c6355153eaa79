"""More histories that are wrong in one way each: alarms, and runs as a whole. Imported, they are among `CASES`."""

from __future__ import annotations

from tests.chaos.final import Probe
from tests.chaos.honest import Honest
from tests.chaos.objects import moment
from tests.chaos.spoilt import FAR, LOG, NOW, TIMERS, Spoilt, case, changed, edit, edit_event


@case("I6 an alarm fired twice")
def fired_twice(world: Honest) -> Spoilt:
    world.do(TIMERS, "arm", "x", NOW - 50, 0, 0.0, 0)
    row = world.rows[TIMERS]["x"]
    world.fire(TIMERS, "x")
    world.rows[TIMERS]["x"] = row
    world.fire(TIMERS, "x")
    return world.ops, world.final()


@case("I6 a repeated alarm fired twice for one tick")
def tick_twice(world: Honest) -> Spoilt:
    world.do(TIMERS, "arm", "x", NOW - 50, 3, 0.5, 0)
    for _ in range(2):
        world.rows[TIMERS]["x"] = world.rows[TIMERS]["x"]._replace(at=moment(NOW - 50))
        world.fire(TIMERS, "x")
    return world.ops, world.final()


@case("I6 an alarm fired early")
def early(world: Honest) -> Spoilt:
    world.do(TIMERS, "arm", "x", FAR, 0, 0.0, 0)
    world.fire(TIMERS, "x")
    return world.ops, world.final()


@case("I6 an alarm fired for another time than it was armed for")
def other_time(world: Honest) -> Spoilt:
    world.do(TIMERS, "arm", "x", NOW - 50, 0, 0.0, 0)
    world.rows[TIMERS]["x"] = world.rows[TIMERS]["x"]._replace(at=moment(NOW - 51))
    world.fire(TIMERS, "x")
    return world.ops, world.final()


@case("I6 an alarm fired after it was cancelled")
def fired_after_cancelling(world: Honest) -> Spoilt:
    world.do(TIMERS, "arm", "x", NOW - 50, 0, 0.0, 0)
    row = world.rows[TIMERS]["x"]
    world.do(TIMERS, "cancel", "x")
    world.rows[TIMERS]["x"] = row
    world.fire(TIMERS, "x")
    return world.ops, world.final()


@case("I6 an alarm is gone from state and rows")
def gone(world: Honest) -> Spoilt:
    world.do(TIMERS, "arm", "x", FAR, 0, 0.0, 0)
    world.rows[TIMERS].clear()
    final = world.final()
    edit(final, TIMERS, armed={})
    return world.ops, final


@case("I6 an alarm was given up that fails no more")
def given_up(world: Honest) -> Spoilt:
    world.do(TIMERS, "arm", "x", NOW - 50, 0, 0.0, 1)
    world.rows[TIMERS]["x"] = world.rows[TIMERS]["x"]._replace(is_parked=True, attempts=4)
    return world.ops, world.final()


@case("I6 a firing that failed left its effect")
def failed_effect(world: Honest) -> Spoilt:
    world.do(TIMERS, "arm", "x", NOW - 50, 0, 0.0, 1)
    world.fire(TIMERS, "x")
    edit_event(world, 1, 5, 0)
    return world.ops, world.final()


@case("I7 an alarm that the state has armed has no row")
def no_row(world: Honest) -> Spoilt:
    world.do(TIMERS, "arm", "x", FAR, 0, 0.0, 0)
    world.rows[TIMERS].clear()
    return world.ops, world.final()


@case("I7 a row is left of an alarm that was cancelled")
def row_is_left(world: Honest) -> Spoilt:
    world.do(TIMERS, "arm", "x", FAR, 0, 0.0, 0)
    row = world.rows[TIMERS]["x"]
    world.do(TIMERS, "cancel", "x")
    world.rows[TIMERS]["x"] = row
    return world.ops, world.final()


@case("I7 a row has another time")
def other_row(world: Honest) -> Spoilt:
    world.do(TIMERS, "arm", "x", FAR, 0, 0.0, 0)
    world.rows[TIMERS]["x"] = world.rows[TIMERS]["x"]._replace(at=moment(FAR + 1))
    return world.ops, world.final()


@case("I7 state and alarms were seen to disagree")
def disagreed(world: Honest) -> Spoilt:
    world.do(TIMERS, "arm", "x", FAR, 0, 0.0, 0)
    look = world.do(TIMERS, "look")
    return [world.ops[0], changed(look, value=[*look.value[:2], ["x"]])], world.final()


@case("I9 a client did not get through")
def no_service(world: Honest) -> Spoilt:
    final = world.final()
    final.probes.append(Probe(2, 0, 4, 0.1))
    return world.ops, final


@case("I9 a client got through late")
def late_service(world: Honest) -> Spoilt:
    final = world.final()
    final.probes.append(Probe(2, 0, 5, 11.0))
    return world.ops, final


@case("I9 a client did not try a shard")
def not_tried(world: Honest) -> Spoilt:
    final = world.final()
    final.healed_at = NOW
    del final.probes[-1]
    return world.ops, final


@case("I9 nobody tried anything")
def nobody_tried(world: Honest) -> Spoilt:
    final = world.final()
    final.healed_at = NOW
    final.probes = []
    return world.ops, final


@case("I9 a call was repeated under its key for ever")
def never_told(world: Honest) -> Spoilt:
    unknown = world.do(LOG, "append", outcome="unknown")
    final = world.final()
    final.healed_at = NOW
    return [changed(unknown, keyed=True)], final


@case("I9 an alarm fired late")
def late_alarm(world: Honest) -> Spoilt:
    world.do(TIMERS, "arm", "x", NOW - 50, 0, 0.0, 0)
    world.fire(TIMERS, "x")
    final = world.final()
    final.healed_at = NOW - 60
    return world.ops, final


@case("I9 an alarm never fired")
def never_fired(world: Honest) -> Spoilt:
    world.do(TIMERS, "arm", "x", NOW - 50, 0, 0.0, 0)
    final = world.final()
    final.healed_at, final.ended_at = NOW - 60, NOW
    return world.ops, final


@case("I11 a call was neither answered nor given up")
def unaccounted(world: Honest) -> Spoilt:
    final = world.final()
    final.accounts.calls += 1
    return world.ops, final


@case("I11 an engine made more calls than it was asked for")
def engine_made_more(world: Honest) -> Spoilt:
    final = world.final()
    final.accounts.engine_calls = final.accounts.calls + 1
    return world.ops, final


@case("I11 an engine failed a call that nobody heard of")
def engine_failed_more(world: Honest) -> Spoilt:
    final = world.final()
    final.accounts.engine_errors += 1
    return world.ops, final


@case("I11 a client still waits for a call")
def still_waiting(world: Honest) -> Spoilt:
    final = world.final()
    final.accounts.engine_in_flight = 1
    return world.ops, final


@case("I11 a queue is not empty")
def queue(world: Honest) -> Spoilt:
    final = world.final()
    final.accounts.queues["shard 1 gated"] = 1
    return world.ops, final


@case("I11 a process is left")
def leak(world: Honest) -> Spoilt:
    final = world.final()
    final.accounts.leaks.append("process 4711")
    return world.ops, final


@case("I12 a fault never struck")
def no_fault(world: Honest) -> Spoilt:
    final = world.final()
    final.faults["cut"] = 0
    return world.ops, final


@case("I12 no client that leaves keys to its engine had a success")
def no_automatic_keys(world: Honest) -> Spoilt:
    final = world.final()
    final.acknowledged["automatic keys"] = 0
    return world.ops, final
