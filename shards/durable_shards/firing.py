"""Firing an alarm: a turn of its object, whose first change is the removal of the alarm.

So the handler's changes, what it schedules and the removal (or the next tick) are one commit, and a handler that fails
leaves the alarm as it was. What failed is then noted in a commit of its own: one attempt more, tried again after a
delay that doubles with each, and in the end parked, where people find it. Nothing is ever dropped.

`$fire` names the alarm and the time it was armed for. One that was armed anew since, or cancelled, is not fired: the
order of the object's turns decides.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from datetime import datetime
from functools import partial
from typing import Any, Final, Literal

from durable_shards.activation import Activation
from durable_shards.alarm_settings import AlarmSettings
from durable_shards.alarms import AlarmBook, AlarmSpec
from durable_shards.clock import Clock
from durable_shards.errors import InvalidArguments
from durable_shards.recurrence import recurrence_of
from durable_shards.turn import Turns
from durable_shards.wire import Call, Peer
from durable_storage import crashpoints
from durable_storage.store import AlarmRow, Store

Verdict = Literal["retry", "count", "park"]
"""What becomes of an alarm whose firing failed: tried again later or parked, as the settings say; left armed as it is,
for a scheduler with retries of its own; or parked at once."""

PROBLEM_CHARS_MAX: Final = 4_000

log = logging.getLogger("durable_engine.shard")


class Firing(Peer):
    """The caller of a `$fire` that a scheduler made."""

    began = False
    """The alarm's method was called, so that a failure is its own."""
    book: AlarmBook | None = None
    """What that method arms and disarms, from when it is called."""


class _AlarmMethod:
    """An alarm's method in the shape of a handler without arguments, whose result is nobody's business."""

    readonly = False
    __slots__ = ("_call", "func", "is_async")

    def __init__(self, spec: AlarmSpec, row: AlarmRow) -> None:
        self._call = partial(_call, spec, row)
        self.is_async = spec.is_async
        self.func: Callable[[Any], Any] = self._run_async if spec.is_async else self._run

    def _run(self, obj: Any) -> bool:
        self._call(obj)
        return True

    async def _run_async(self, obj: Any) -> bool:
        await self._call(obj)
        return True


def _call(spec: AlarmSpec, row: AlarmRow, obj: Any) -> Any:
    return spec.call(obj, row)


class Firings:
    """Fires the alarms of one shard's objects."""

    def __init__(self, turns: Turns, clock: Clock, settings: AlarmSettings, *, store: Store) -> None:
        self._turns = turns
        self._clock = clock
        self._settings = settings
        self._store = store
        self.failures = 0
        self.parked = 0

    def fire(self, act: Activation, call: Call, name: str, at: datetime | None) -> bool | None:
        """Fire an alarm if it is still armed for `at`; `at=None` fires it in any case.

        None: its turn, or what waits before it, answers the call. False: there was nothing to fire, and that is the
        answer. Raises InvalidArguments for one that cannot be fired whatever the time.
        """
        if isinstance(call.peer, Firing):
            call.peer.began, call.peer.book = False, None  # it may have been undone with others since, and put back
        row = act.alarms_now.get(name)
        spec = act.home.spec.alarm(name)
        if at is None and (row is None or spec is None):
            problem = "is not armed" if row is None else f"has no method in {act.home.spec.name}"
            raise InvalidArguments(f"alarm {name!r} of {act.address} {problem}; nothing was run")
        if row is None or spec is None or (at is not None and (row.at != at or row.is_parked)):
            return False
        following, is_missed = self._following(row, by_hand=at is None)
        if is_missed and at is not None:
            act.arm(name, following)
            return False
        if not self._turns.ready(act, call):
            return None
        if act.alarms_now.get(name) is not row:  # `after_load` has been at it
            return self.fire(act, call, name, at)
        if crashpoints.reach("before_fire", self._store):
            return None
        if isinstance(call.peer, Firing):
            call.peer.began, call.peer.book = True, act.alarms
        act.alarms.fire(row, following)
        self._turns.run(act, call, _AlarmMethod(spec, row), ())
        return None

    def _following(self, row: AlarmRow, *, by_hand: bool) -> tuple[AlarmRow | None, bool]:
        if row.recurrence is None:
            return None, False
        rule = recurrence_of(row.recurrence)
        tick, now = row.tick or row.at, self._clock.now()
        # By hand, ahead of its time, the beat stays. A tick that was due is over, even if the clock was set back since.
        following = tick if by_hand and tick > now else rule.next(tick, now)
        fresh = None if following is None else AlarmRow(row.name, following, row.payload, recurrence=row.recurrence)
        return fresh, rule.is_missed(tick, now) and not row.attempts

    def failed(self, act: Activation, name: str, at: datetime, problem: str, verdict: Verdict) -> bool:
        """Note that the alarm armed for `at` failed: as a change of its own, since the firing itself was undone.

        False when it is not armed for `at` any more.
        """
        row = act.alarms_now.get(name)
        if row is None or row.at != at or row.is_parked:
            return False
        self.failures += 1
        attempts = row.attempts + 1
        problem = _storable(problem)
        row = row._replace(attempts=attempts, problem=problem)
        if verdict == "park" or (verdict == "retry" and attempts >= self._settings.attempts):
            self.parked += 1
            log.error(
                "alarm %s of %s failed %d times and is parked until `durable-engine alarms retry`: %s",
                name, act.address, attempts, problem,
            )  # fmt: skip
            row = row._replace(is_parked=True)
        elif verdict == "retry":
            again = self._clock.now() + self._settings.delay(attempts)
            log.warning("alarm %s of %s failed and is tried again at %s: %s", name, act.address, again, problem)
            row = row._replace(at=again, tick=row.tick or row.at)
        act.arm(name, row)
        return True

    def retry(self, act: Activation, name: str | None) -> int:
        """Arm again, from now, what was parked or waits for another attempt (None: all); how many. Raises."""
        if name is not None and name not in act.alarms_now:
            raise InvalidArguments(f"{act.address} has no alarm {name!r}; see `durable-engine alarms list`")
        spec = act.home.spec
        if name is not None and spec.alarm(name) is None:
            said = f"{spec.name} has no method for alarm {name!r}"
            raise InvalidArguments(f"{said}; it fires by itself once a class that has one is served")
        rows = [
            row
            for row in act.alarms_now.values()
            if name in (None, row.name) and (row.is_parked or row.attempts) and spec.alarm(row.name) is not None
        ]
        for row in rows:
            tick = row.tick or row.at
            act.arm(row.name, row._replace(at=self._clock.now(), tick=tick, attempts=0, problem=None, is_parked=False))
        return len(rows)


def _storable(text: str) -> str:
    """Text of users' exceptions, in a form that every store takes."""
    return text[:PROBLEM_CHARS_MAX].replace("\0", "\\0").encode(errors="backslashreplace").decode()
