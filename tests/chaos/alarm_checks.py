"""The invariants of alarms: a replay of what a journal says was armed, cancelled and fired."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from tests.chaos.final import AtRest, Final
from tests.chaos.limits import ALARM_ATTEMPTS
from tests.chaos.records import Op
from tests.chaos.replay import Replay
from tests.chaos.violation import Violation

TOLERANCE_SECONDS = 0.002
"""Times of the wall clock pass through microseconds."""


@dataclass
class Armed:
    """An alarm that is to fire."""

    token: int
    due: float
    left: int
    every: float
    fails: int
    step: int = 0

    def is_due(self, due: float) -> bool:
        """Whether it was armed for that time: of one that repeats, now or any number of ticks later."""
        if not self.every:
            return abs(due - self.due) < TOLERANCE_SECONDS
        ticks = (due - self.due) / self.every
        return ticks > -TOLERANCE_SECONDS and abs(ticks - round(ticks)) * self.every < TOLERANCE_SECONDS


class Timeline:
    """What is armed after each entry; problems by invariant."""

    def __init__(self) -> None:
        self.armed: dict[str, Armed] = {}
        self.fails: dict[str, int] = {}
        """Of every alarm that ever was."""
        self.lateness: list[tuple[float, float, str]] = []
        """(due, seconds late, name) of firings that did not fail before."""
        self.problems: list[str] = []

    def take(self, token: int, event: list[Any]) -> None:
        """The next entry."""
        kind, name, *rest = event
        if kind == "arm":
            due, left, every, fails = rest
            self.armed[name] = Armed(token, due, left, every, fails)
            self.fails[name] = fails
        elif kind == "cancel":
            gone = self.armed.pop(name, None)
            if rest[0] != (gone.token if gone else 0):
                self.problems.append(f"{name} was cancelled as {rest[0]}, and armed was {gone}")
        else:
            self._fire(-token, name, *rest)

    def _fire(self, token: int, name: str, step: int, due: float, now: float, attempt: int, following: float) -> None:
        alarm = self.armed.get(name)
        said = f"{name} fired for {due:.3f} at {now:.3f}, step {step}, attempt {attempt}"
        if alarm is None or alarm.token != token:
            self.problems.append(f"{said}; armed was {alarm}")
            return
        if alarm.step != step or not alarm.is_due(due):
            self.problems.append(f"{said}; armed was {alarm}")
        if now < due - TOLERANCE_SECONDS:
            self.problems.append(f"{said}: early")
        if attempt < alarm.fails:
            self.problems.append(f"{said}: that attempt failed")
        if attempt == 0:
            self.lateness.append((due, now - due, name))
        if step >= alarm.left if alarm.every else alarm.left <= 0:
            del self.armed[name]
        elif alarm.every:
            alarm.step, alarm.due = step + 1, due + alarm.every
        else:
            alarm.step, alarm.due, alarm.left = step + 1, following, alarm.left - 1


def violations(name: str, ops: list[Op], rest: AtRest | None, journal: Replay, final: Final) -> Iterator[Violation]:
    """I6, I7, and of I9 what concerns alarms, for one object."""
    timeline = Timeline()
    for token, event in zip(journal.tokens, journal.entries, strict=True):
        timeline.take(token, event)
    for what in (*timeline.problems, *conserved(timeline, journal, rest)):
        yield Violation("I6", name, what)
    for what in (*agreed(timeline, journal, rest), *looks(timeline, ops)):
        yield Violation("I7", name, what)
    for what in late(timeline, rest, final):
        yield Violation("I9", name, what)


def conserved(timeline: Timeline, journal: Replay, rest: AtRest | None) -> Iterator[str]:
    """I6: what was armed, and neither fired nor cancelled, is still armed; only what fails always was given up."""
    armed = {name: alarm.token for name, alarm in timeline.armed.items()}
    if armed != journal.state.get("armed", {}):
        yield f"armed are {journal.state.get('armed')}, by the journal {armed}"
    for name, row in rest.alarms.items() if rest else ():
        if row.is_parked and timeline.fails.get(name, 0) < ALARM_ATTEMPTS:
            yield f"{name} was given up after {row.attempts} failures, and fails {timeline.fails.get(name)} times"


def agreed(timeline: Timeline, journal: Replay, rest: AtRest | None) -> Iterator[str]:
    """I7: what the state says is armed has its row, for that time, and nothing else has."""
    rows = rest.alarms if rest else {}
    armed = journal.state.get("armed", {})
    if armed != {name: row.token for name, row in rows.items()}:
        yield f"the state says {armed}, the rows {rows}"
    for name, alarm in timeline.armed.items():
        row = rows.get(name)
        if row is not None and not alarm.is_due(row.at.timestamp()):
            yield f"{name} is due at {alarm.due:.3f}, and its row says {row.at.timestamp():.3f}"


def looks(timeline: Timeline, ops: list[Op]) -> Iterator[str]:
    """I7 at each look: state and alarms named the same, but for those that were given up."""
    for op in ops:
        if op.kind == "look" and op.outcome == "ok":
            odd = [name for name in op.value[2] if timeline.fails.get(name, 0) < ALARM_ATTEMPTS]
            if odd:
                yield f"{odd} were armed in the state alone, or as alarms alone: {op}"


def late(timeline: Timeline, rest: AtRest | None, final: Final) -> Iterator[str]:
    """I9: after the last heal no alarm is later than the limit, and none waits for ever."""
    if final.healed_at is None:
        return
    limit = final.liveness_seconds
    for due, seconds, name in timeline.lateness:
        if due + seconds - max(due, final.healed_at) > limit:
            yield f"{name}, due at {due:.3f}, was {seconds:.3f} s late; all was healed at {final.healed_at:.3f}"
    for name, row in rest.alarms.items() if rest and final.ended_at else ():
        if not row.is_parked and not row.attempts and row.at.timestamp() < (final.ended_at or 0) - limit:
            yield f"{name}, due at {row.at.timestamp():.3f}, has not fired until {final.ended_at:.3f}"
