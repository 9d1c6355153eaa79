"""Watch what the engine does: functions of yours, called at its events, in the process where they happen.

    from durable_engine import events

    def slow_commits(name, measurements, metadata):
        if measurements["duration"] > 0.1:
            print(name, measurements["duration"], measurements["rows"], metadata["shard"])

    events.attach(slow_commits, "storage.save.stop")

A function is called on the event loop, between two steps of the shard, and everything waits for it: it should count,
or hand over, and return. One that raises is detached, with a line in the log; nothing else happens.

Measurements are numbers: `system_time` is in seconds since the epoch by the wall clock, `duration`, `lateness` and
`due_in` are in seconds, `rows` and `attempt` are counts. The events:

    storage.save.start        system_time, rows      one commit of a shard is about to be asked for
    storage.save.stop         duration, rows         ... and `rows` of its changes are durable
    storage.save.exception    duration, rows         ... or the database refused a change (1 row), or all failed
    storage.load.start        system_time, rows      objects are about to be fetched, those wanted together in one query
    storage.load.stop         duration, rows         ... and the store answered; also for objects that never were
    storage.load.exception    duration, rows         ... or it failed
    storage.delete.start      system_time, rows      a commit removes objects; it is a storage.save as well
    storage.delete.stop       duration, rows
    storage.delete.exception  duration, rows
    object.activated          system_time            an object is in memory; source: "store" or "hibernation"
    object.hibernated         system_time            only its bytes are kept
    object.evicted            system_time            it left memory; reason: "idle", "memory", "asked" or "empty"
    alarm.scheduled           system_time, due_in    an arming is durable, that of a next tick included
    alarm.cancelled           system_time            so is its removal, asked for by a handler or from outside
    alarm.fired               lateness, duration     a firing, and what its handler changed, is durable
    alarm.failed              attempt                its handler failed for the `attempt`th time, and was undone
    alarm.parked              attempt                ... and that was the last one; `alarms retry` arms it again
    shard.started             system_time, duration  a shard took its ownership; opening the store took `duration`
    shard.drained             system_time            it takes no more calls, and has finished those it had
    shard.stopped             system_time            it let go of its store
    shard.fenced              system_time            it lost its ownership, and neither writes nor answers any more
    shard.failed              system_time            its store failed for good, with the same effect

Metadata say what it is about. Of storage: `object_type`, `object_id` and `prefix` (None when it is about several
that differ), `addresses` (a tuple of all (prefix, class, id)) and `shard`. Of objects: `object_type`, `object_id`,
`prefix`, `shard`, and those named above. Of alarms: these and `alarm_name`. Of shards: `shard` (its number), `epoch`
and `pid`. What tells of a failure (`exception`, `alarm.failed`, `alarm.parked`, `shard.fenced`, `shard.failed`) has
`kind` (the name of the exception's class), `reason` (its message) and `traceback` (text) as well.

With `shards=0` attach anywhere. The shards of a server are processes that inherit what was attached while the modules
of your classes were imported: attach there.
"""

from __future__ import annotations

from durable_storage.telemetry import NAMES, Handler, attach, detach

__all__ = ["NAMES", "Handler", "attach", "detach"]
