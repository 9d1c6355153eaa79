"""When an alarm that fires again and again is due next: every so often, or by a cron expression.

The rule travels with the alarm's row, as JSON text. Ticks are computed from the tick before and never from the time at
which it was fired, so that lateness does not add up. Expressions are read by `cronsim`, which follows Debian's
cron, also at the changes of summer time: a fixed hour that is left out comes at the end of the gap, one that comes
twice is taken the first time, and expressions with a `*` for the hour go on in real time (`docs/guide/alarms.md`).
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import Any, Final, Literal, get_args
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import msgspec
from cronsim import CronSim, CronSimError

from durable_shards.errors import InvalidArguments

Missed = Literal["coalesce", "skip", "all"]
"""What happens to ticks that could not be fired in time: one firing for all of them, none, or one for each."""

EVERY_MIN: Final = timedelta(milliseconds=100)
GRACE_MAX: Final = timedelta(minutes=1)
"""With `skip`, a tick is missed when it is later than this, or than half of the time to the tick after it."""
_MICROSECOND: Final = timedelta(microseconds=1)


class Recurrence(msgspec.Struct, frozen=True, omit_defaults=True):
    """A rule: either `every_microseconds`, or `cron` in the time zone `tz`."""

    every_microseconds: int | None = None
    cron: str | None = None
    tz: str = "UTC"
    missed: Missed = "coalesce"

    @property
    def text(self) -> str:
        """The form in which it is stored."""
        return msgspec.json.encode(self).decode()

    def describe(self) -> str:
        """In words, for people."""
        rule = f"cron {self.cron} {self.tz}" if self.cron else f"every {self._every}"
        return rule if self.missed == "coalesce" else f"{rule}, missed {self.missed}"

    @property
    def _every(self) -> timedelta:
        return timedelta(microseconds=self.every_microseconds or 0)

    def first(self, now: datetime) -> datetime | None:
        """The first tick after `now`; None where there is none before the year 10000."""
        return self._following(now)

    def next(self, tick: datetime, now: datetime) -> datetime | None:
        """The tick to arm when `tick` was fired (or left out) at `now`; None when that was the last."""
        if self.missed == "all":
            return self._following(tick)
        if self.every_microseconds is None:
            return self._following(max(tick, now))
        try:
            return tick + (max(now - tick, timedelta(0)) // self._every + 1) * self._every
        except OverflowError:
            return None

    def is_missed(self, tick: datetime, now: datetime) -> bool:
        """Whether `tick` is to be left out, because it could not be fired in time."""
        if self.missed != "skip":
            return False
        following = self._following(tick)
        grace = GRACE_MAX if following is None else min(GRACE_MAX, (following - tick) / 2)
        return now - tick > grace

    def to_catch_up(self, first: datetime, now: datetime) -> int:
        """How many ticks an alarm that begins with `first` has to fire at once."""
        if self.missed != "all" or self.every_microseconds is None:
            return 0
        return max(now - first, timedelta(0)) // self._every

    def _following(self, tick: datetime) -> datetime | None:
        try:
            if self.cron is None:
                return tick + self._every
            return next(CronSim(self.cron, tick.astimezone(ZoneInfo(self.tz)))).astimezone(UTC)
        except (OverflowError, ValueError, StopIteration):
            return None


def recurrence(
    where: str, *, every: Any = None, cron: Any = None, tz: Any = None, missed: Any = "coalesce"
) -> Recurrence | None:
    """The rule that was asked for, None for an alarm that fires once. Raises InvalidArguments, beginning by `where`."""
    if every is not None and cron is not None:
        raise InvalidArguments(f"{where}: pass every=timedelta(...) or cron='...', not both")
    if missed not in get_args(Missed):
        raise InvalidArguments(f"{where}: missed must be one of {', '.join(get_args(Missed))}, not {missed!r}")
    if tz is not None and cron is None:
        raise InvalidArguments(f"{where}: tz belongs to cron='...'; times given by at= carry their own time zone")
    if every is not None:
        return Recurrence(every_microseconds=_microseconds(where, every), missed=missed)
    if cron is not None:
        return _checked_cron(where, Recurrence(cron=cron, tz="UTC" if tz is None else tz, missed=missed))
    if missed != "coalesce":
        raise InvalidArguments(f"{where}: missed belongs to every=timedelta(...) or cron='...'")
    return None


@lru_cache(maxsize=1024)
def recurrence_of(text: str) -> Recurrence:
    """The rule that stands in a row."""
    return msgspec.json.decode(text, type=Recurrence)


def _microseconds(where: str, every: Any) -> int:
    if not isinstance(every, timedelta):
        raise InvalidArguments(f"{where}: every must be a timedelta, such as timedelta(minutes=5), not {every!r}")
    if every < EVERY_MIN:
        raise InvalidArguments(f"{where}: every must be at least {EVERY_MIN.total_seconds():g} s, it is {every}")
    return every // _MICROSECOND


def _checked_cron(where: str, rule: Recurrence) -> Recurrence:
    if not isinstance(rule.cron, str) or not isinstance(rule.tz, str):
        raise InvalidArguments(f"{where}: cron and tz are texts, such as cron='0 9 * * *', tz='Europe/Berlin'")
    if len(rule.cron.split()) != 5:
        raise InvalidArguments(f"{where}: cron {rule.cron!r} must have five fields: minute hour day month weekday")
    try:
        zone = ZoneInfo(rule.tz)
        never = next(CronSim(rule.cron, datetime.now(zone)), None) is None
    except (ZoneInfoNotFoundError, ValueError, OSError) as error:
        said = f"{where}: there is no time zone {rule.tz!r}; write one like 'Europe/Berlin'"
        raise InvalidArguments(f"{said} ({error})") from None
    except CronSimError as error:
        if _is_valid_in_other_months(rule.cron):
            said = "none of its months has such a day; `0 9 L * *` is the last day of each month"
            raise InvalidArguments(f"{where}: cron {rule.cron!r} never fires: {said}") from None
        raise InvalidArguments(f"{where}: cron {rule.cron!r} is not valid: {error}") from None
    if never:
        raise InvalidArguments(f"{where}: cron {rule.cron!r} never fires: no date of the next 50 years matches")
    return rule


def _is_valid_in_other_months(cron: str) -> bool:
    """Whether `cronsim` refuses an expression only for a day that its months do not have."""
    minute, hour, day, month, weekday = cron.split()
    try:
        CronSim(f"{minute} {hour} 1 {month} {weekday}", datetime.now(UTC))
        CronSim(f"{minute} {hour} {day} * {weekday}", datetime.now(UTC))
    except CronSimError:
        return False
    return True
