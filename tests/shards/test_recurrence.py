"""When a repeated alarm is due: drift, missed ticks, and the two nights of the year when clocks change."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from durable_shards.errors import InvalidArguments
from durable_shards.recurrence import Recurrence, recurrence, recurrence_of

NOW = datetime(2026, 1, 1, tzinfo=UTC)
MINUTE = timedelta(minutes=1)


def rule(**options: Any) -> Recurrence:
    """A rule that is right."""
    found = recurrence("alarm", **options)
    assert found is not None
    return found


def times(expression: str, start: str, count: int) -> list[str]:
    """The next ticks of a cron expression in Berlin, as local time with its offset."""
    from zoneinfo import ZoneInfo

    it = rule(cron=expression, tz="Europe/Berlin")
    found = []
    tick = datetime.fromisoformat(start)
    for _ in range(count):
        following = it.first(tick)
        assert following is not None
        tick = following
        found.append(tick.astimezone(ZoneInfo("Europe/Berlin")).strftime("%d %H:%M%z"))
    return found


def test_a_rule_survives_the_store() -> None:
    """parity 83: what is written is what is read."""
    for it in (rule(every=MINUTE, missed="all"), rule(cron="*/5 * * * *", tz="Asia/Tokyo"), rule(every=10**6 * MINUTE)):
        assert recurrence_of(it.text) == it
    assert rule(every=MINUTE).describe() == "every 0:01:00"
    assert rule(cron="0 9 * * *", tz="Asia/Tokyo", missed="skip").describe() == "cron 0 9 * * * Asia/Tokyo, missed skip"


def test_in_spring_an_hour_that_is_left_out_comes_at_the_end_of_the_gap() -> None:
    """fault C2: a daily 02:30 fires at 03:00 on the night without one; every half hour goes on in real time."""
    assert times("30 2 * * *", "2026-03-28T00:00Z", 3) == ["28 02:30+0100", "29 03:00+0200", "30 02:30+0200"]
    assert times("*/30 * * * *", "2026-03-29T00:00Z", 3) == ["29 01:30+0100", "29 03:00+0200", "29 03:30+0200"]


def test_in_autumn_an_hour_that_comes_twice_is_taken_the_first_time() -> None:
    """fault C2: a daily 02:30 fires once on the night with two; every half hour goes on in real time."""
    assert times("30 2 * * *", "2026-10-24T12:00Z", 2) == ["25 02:30+0200", "26 02:30+0100"]
    assert times("*/30 * * * *", "2026-10-25T00:00Z", 4) == [
        "25 02:30+0200", "25 02:00+0100", "25 02:30+0100", "25 03:00+0100",
    ]  # fmt: skip


def test_nine_o_clock_is_nine_o_clock_all_year() -> None:
    """fault C2: the offset moves, the hour does not."""
    assert times("0 9 * * *", "2026-03-28T00:00Z", 2) == ["28 09:00+0100", "29 09:00+0200"]
    assert times("0 9 * * *", "2026-10-24T00:00Z", 2) == ["24 09:00+0200", "25 09:00+0100"]


@given(
    every=st.timedeltas(min_value=timedelta(milliseconds=100), max_value=timedelta(days=400)),
    late=st.timedeltas(min_value=timedelta(0), max_value=timedelta(days=4000)),
)
def test_ticks_never_drift(every: timedelta, late: timedelta) -> None:
    """However late a tick is fired, the next one is a whole number of periods after it, and the first in the future."""
    it = rule(every=every)
    following = it.next(NOW, NOW + late)
    assert following is not None
    assert (following - NOW) % every == timedelta(0)
    assert NOW + late < following <= NOW + late + every
    assert rule(every=every, missed="all").next(NOW, NOW + late) == NOW + every


def test_a_clock_that_was_set_back_moves_no_tick() -> None:
    """fault C1: the tick after one that was fired is later than it."""
    assert rule(every=MINUTE).next(NOW, NOW - 10 * MINUTE) == NOW + MINUTE
    assert rule(cron="* * * * *").next(NOW, NOW - 10 * MINUTE) == NOW + MINUTE


def test_what_counts_as_missed() -> None:
    """With skip: later than half of the period, or than a minute; never with the others."""
    assert not rule(every=timedelta(hours=1), missed="skip").is_missed(NOW, NOW + MINUTE)
    assert rule(every=timedelta(hours=1), missed="skip").is_missed(NOW, NOW + 1.01 * MINUTE)
    assert rule(every=MINUTE, missed="skip").is_missed(NOW, NOW + 0.51 * MINUTE)
    assert not rule(every=MINUTE).is_missed(NOW, NOW + 100 * MINUTE)


def test_a_rule_ends_with_the_calendar() -> None:
    """After the year 9999 there is no next tick."""
    end = datetime(9999, 12, 31, 23, 59, tzinfo=UTC)
    assert rule(every=timedelta(days=1)).next(end, end) is None
    assert rule(every=timedelta.max).first(NOW) is None
    assert rule(cron="0 0 1 1 *").first(end) is None


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"every": timedelta(0)}, "every must be at least 0.1 s"),
        ({"every": -MINUTE}, "every must be at least 0.1 s"),
        ({"every": 60}, "every must be a timedelta"),
        ({"every": MINUTE, "cron": "* * * * *"}, "not both"),
        ({"every": MINUTE, "tz": "UTC"}, "tz belongs to cron"),
        ({"every": MINUTE, "missed": "never"}, "missed must be one of coalesce, skip, all"),
        ({"missed": "all"}, "missed belongs to"),
        ({"tz": "UTC"}, "tz belongs to cron"),
        ({"cron": "* * * *"}, "must have five fields"),
        ({"cron": "* * * * * *"}, "must have five fields"),
        ({"cron": ""}, "must have five fields"),
        ({"cron": "61 * * * *"}, "is not valid: Bad minute"),
        ({"cron": "x * * * *"}, "is not valid"),
        ({"cron": "0 0 30 2 *"}, "never fires: none of its months has such a day"),
        ({"cron": "0 0 */31 * MON#5"}, "never fires"),
        ({"cron": 5}, "cron and tz are texts"),
        ({"cron": "* * * * *", "tz": "Mars/Olympus"}, "no time zone 'Mars/Olympus'"),
        ({"cron": "* * * * *", "tz": "../etc/passwd"}, "no time zone"),
        ({"cron": "* * * * *", "tz": 5}, "cron and tz are texts"),
    ],
)
def test_a_rule_that_cannot_work_is_refused(options: dict[str, Any], message: str) -> None:
    """The message says what to write instead."""
    with pytest.raises(InvalidArguments, match="alarm: ") as wrong:
        recurrence("alarm", **options)
    assert message in str(wrong.value)
