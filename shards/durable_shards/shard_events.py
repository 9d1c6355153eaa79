"""The events of a shard, of its objects and of their alarms, each emitted by one line where it happens.

What they carry is written down in `docs/guide/telemetry.md`. Nothing is built unless somebody listens.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping, Sequence
from datetime import datetime
from time import time
from typing import Any, Final, Literal, NamedTuple, Protocol

from durable_shards.errors import HandlerFailed
from durable_storage import telemetry
from durable_storage.address import Address
from durable_storage.errors import Fenced
from durable_storage.store import AlarmRow

Eviction = Literal["idle", "memory", "asked", "empty"]
"""Why an object left memory: nobody called it, room was needed, somebody asked; or nothing is stored of it."""

_log = logging.getLogger("durable_engine.shard")

_ACTIVATED: Final = "object.activated"
_HIBERNATED: Final = "object.hibernated"
_EVICTED: Final = "object.evicted"


class OfShard(Protocol):
    """What belongs to a shard, and knows its number."""

    @property
    def shard(self) -> int: ...


class InMemory(Protocol):
    """What is told of an object in memory."""

    @property
    def address(self) -> Address: ...
    @property
    def home(self) -> OfShard: ...
    @property
    def durable(self) -> tuple[Any, Any, Mapping[str, AlarmRow]]: ...
    def now(self) -> datetime:
        """Wall time."""


class Telling(Protocol):
    """What is told of a shard."""

    @property
    def settings(self) -> OfShard: ...
    @property
    def epoch(self) -> int: ...


# Objects.


def activated(act: InMemory, source: Literal["store", "hibernation"]) -> None:
    """An object is in memory: it was loaded, or it woke."""
    if telemetry.wanted(_ACTIVATED):
        telemetry.emit(_ACTIVATED, {"system_time": time()}, _about(act.address, act.home.shard) | {"source": source})


def hibernated(act: InMemory) -> None:
    """Of an idle object only its bytes are kept."""
    if telemetry.wanted(_HIBERNATED):
        telemetry.emit(_HIBERNATED, {"system_time": time()}, _about(act.address, act.home.shard))


def evicted(address: Address, shard: int, reason: Eviction) -> None:
    """An object left memory, bytes and all."""
    if telemetry.wanted(_EVICTED):
        telemetry.emit(_EVICTED, {"system_time": time()}, _about(address, shard) | {"reason": reason})


# Alarms.


class Fired(NamedTuple):
    """A firing whose turn ended well."""

    name: str
    lateness: float
    """Seconds from when it was due to its turn."""
    duration: float
    """Seconds of the turn."""


def alarms_committed(act: InMemory, before: Mapping[str, AlarmRow], fired: Sequence[Fired] = ()) -> None:
    """An object's durable alarms were `before`, and became what they are by this commit: all that happened to them.

    Called behind the commit, since what was undone never happened. Rows that stayed are the same rows.
    """
    if not telemetry.wanted_of("alarm"):
        return
    after = act.durable[2]
    for name, lateness, duration in fired:
        _emit_of_alarm("fired", act, name, {"lateness": lateness, "duration": duration})
    for name, row in after.items():
        old = before.get(name)
        if row is old:
            continue
        if row.attempts > (old.attempts if old is not None else 0):
            _emit_of_alarm("failed", act, name, {"attempt": row.attempts}, row.problem)
            if row.is_parked:
                _emit_of_alarm("parked", act, name, {"attempt": row.attempts}, row.problem)
        else:
            due_in = (row.at - act.now()).total_seconds()
            _emit_of_alarm("scheduled", act, name, {"system_time": time(), "due_in": due_in})
    for name in before.keys() - after.keys() - {each.name for each in fired}:
        _emit_of_alarm("cancelled", act, name, {"system_time": time()})


def problem_of(error: BaseException) -> str:
    """What is kept of a failure in an alarm's row: a line "kind: reason", and the traceback below it."""
    failure = _failure(error)
    return f"{failure['kind']}: {' '.join(failure['reason'].splitlines())}\n{failure['traceback']}"


def _emit_of_alarm(
    what: str, act: InMemory, name: str, measurements: dict[str, float], problem: str | None = None
) -> None:
    event = f"alarm.{what}"
    if telemetry.wanted(event):
        metadata = _about(act.address, act.home.shard) | {"alarm_name": name}
        if problem is not None:
            line, _, stack = problem.partition("\n")
            kind, _, reason = line.partition(": ")
            metadata |= {"kind": kind, "reason": reason, "traceback": stack}
        telemetry.emit(event, measurements, metadata)


# The shard itself.


def shard_started(shard: Telling, duration: float) -> None:
    """The ownership is taken; `duration` is what opening the store took, in seconds."""
    _emit_of_shard("shard.started", shard, {"duration": duration})


def shard_drained(shard: Telling) -> None:
    """All that was taken in is done and durable."""
    _emit_of_shard("shard.drained", shard)


def shard_stopped(shard: Telling) -> None:
    """The store was let go; no news when it never was ours."""
    if shard.epoch:
        _emit_of_shard("shard.stopped", shard)


def shard_lost(shard: Telling, error: Exception) -> None:
    """Nothing may leave the shard any more: it was fenced, or its store failed. Also says so in the log."""
    is_fenced = isinstance(error, Fenced)
    _log.log(logging.WARNING if is_fenced else logging.ERROR, "shard %s stops: %s", shard.settings.shard, error)
    _emit_of_shard("shard.fenced" if is_fenced else "shard.failed", shard, error=error)


def _emit_of_shard(
    name: str, shard: Telling, measurements: dict[str, float] | None = None, error: Exception | None = None
) -> None:
    if telemetry.wanted(name):
        metadata: dict[str, Any] = {"shard": shard.settings.shard, "epoch": shard.epoch, "pid": os.getpid()}
        if error is not None:
            metadata |= _failure(error)
        telemetry.emit(name, {"system_time": time()} | (measurements or {}), metadata)


def _about(address: Address, shard: int) -> dict[str, Any]:
    prefix, object_type, object_id = address
    return {"object_type": object_type, "object_id": object_id, "prefix": prefix, "shard": shard}


def _failure(error: BaseException) -> dict[str, str]:
    """Of an exception in a user's code, that exception, and not the error in which it travels."""
    if isinstance(error, HandlerFailed) and error.remote_type:
        return {"kind": error.remote_type, "reason": error.remote_message, "traceback": error.traceback}
    return telemetry.failure(error)
