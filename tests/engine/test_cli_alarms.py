"""`durable-engine alarms` against a client that only remembers what it was asked."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest

from durable_engine.views import AlarmView
from durable_shards.alarms import PendingAlarm
from durable_shards.errors import HandlerFailed, InvalidArguments
from durable_storage.errors import Unavailable
from tests.support.fake_client import FakeClient, Run

AT = datetime(2031, 5, 1, 9, tzinfo=UTC)
ONCE = {"after": None, "at": None, "every": None, "cron": None, "tz": None, "missed": "coalesce", "payload": None}


def view(object_id: str, name: str = "reset", **more: Any) -> AlarmView:
    """An alarm of a Counter."""
    options = {"prefix": "", "at": AT, "attempt": 0, **more}
    return AlarmView(object_type="Counter", object_id=object_id, name=name, **options)


@pytest.mark.parametrize(
    ("words", "asked"),
    [
        (["--after", "1m30s"], {"after": timedelta(seconds=90)}),
        (["--after", "0s"], {"after": timedelta(0)}),
        (["--after", "36500d"], {"after": timedelta(days=36500)}),
        (["--at", "2031-05-01T09:00:00Z"], {"at": AT}),
        (["--at", "2031-05-01T11:00+02:00"], {"at": AT.astimezone(timezone(timedelta(hours=2)))}),
        (["--every", "250ms"], {"every": timedelta(milliseconds=250)}),
        (["--every", "1h", "--after", "1s"], {"every": timedelta(hours=1), "after": timedelta(seconds=1)}),
        (["--every", "1h", "--at", "2031-05-01T09:00:00Z"], {"every": timedelta(hours=1), "at": AT}),
        (["--cron", "0 9 * * *"], {"cron": "0 9 * * *"}),
        (
            ["--cron", "0 9 * * 1", "--tz", "Europe/Berlin", "--missed", "skip"],
            {"cron": "0 9 * * 1", "tz": "Europe/Berlin", "missed": "skip"},
        ),
        (["--after", "1s", "--payload", '{"a": [1]}'], {"after": timedelta(seconds=1), "payload": {"a": [1]}}),
        (["--after", "1s", "--payload", "red"], {"after": timedelta(seconds=1), "payload": "red"}),
    ],
)
def test_schedule_asks_for_just_that(run: Run, fake: FakeClient, words: list[str], asked: dict[str, Any]) -> None:
    """parity 76, 77: after a time or at one, again and again, with whatever the method is to get."""
    fake.replies["pending"] = [PendingAlarm("other", AT.replace(year=2030)), PendingAlarm("reset", AT)]
    result = run("alarms", "schedule", "Counter", "c", "reset", *words, "--prefix", "acme", "--json")
    assert (result.exit_code, result.stderr) == (0, "")
    assert json.loads(result.stdout) == {"name": "reset", "at": "2031-05-01T09:00:00+00:00"}
    assert fake.asked == [("schedule", "Counter", "c", "acme", "reset", ONCE | asked)]


def test_schedule_tells_when_it_will_fire(run: Run, fake: FakeClient) -> None:
    """One that has been fired by the time it is looked for was due at once."""
    schedule = ["alarms", "schedule", "Counter", "c", "reset", "--after", "0s"]
    assert run(*schedule).stdout == "alarm reset of Counter 'c' fires at once\n"
    fake.replies["pending"] = [PendingAlarm("reset", AT)]
    shown = run(*schedule, "--prefix", "acme").stdout
    assert shown == "alarm reset of Counter 'c' of tenant acme fires at 2031-05-01 09:00:00+00:00\n"


@pytest.mark.parametrize(
    ("words", "says"),
    [
        ([], "say when: by --after, --at, --every or --cron"),
        (["--payload", "5"], "say when"),
        (["--after", "1s", "--at", "2031-05-01T09:00:00Z"], "--after and --at do not go together"),
        (["--every", "1s", "--cron", "* * * * *"], "--every and --cron do not go together"),
        (["--after", "1s", "--cron", "* * * * *"], "--after and --cron do not go together"),
        (["--after=-5s"], "'-5s' is not a duration"),
        (["--after", "nan"], "'nan' is not a duration"),
        (["--after", "5"], "'5' has no unit: write 5s"),
        (["--after", "99999999999d"], "is longer than a duration can be"),
        (["--every", "0s"], "'0s' must be longer than nothing"),
        (["--every=-1h"], "'-1h' is not a duration"),
        (["--at", "tomorrow"], "--at 'tomorrow' is no time: write it like 2031-05-01T09:00:00Z"),
        (["--at", "NaN"], "--at 'NaN' is no time"),
        (["--at", "2031-02-30T09:00:00Z"], "is no time"),
        (["--at", "99999-01-01T00:00:00Z"], "is no time"),
        (["--at", "2031-05-01T09:00:00"], "has no time zone: write it like 2031-05-01T09:00:00Z"),
        (["--at", "2031-05-01"], "has no time zone"),
        (["--every", "1h", "--missed", "never"], "is not one of"),
        (["--after", "1s", "--payload", "{1"], "begins like JSON but is none"),
    ],
)
def test_a_time_that_is_none_is_a_wrong_usage(run: Run, fake: FakeClient, words: list[str], says: str) -> None:
    """parity 76: negative, not a number, without a zone, absurd: one line, and nobody is asked anything."""
    result = run("alarms", "schedule", "Counter", "c", "reset", *words)
    assert (result.exit_code, result.stdout, fake.asked) == (2, "", [])
    first, *rest = result.stderr.splitlines()
    assert first.startswith("error: ")
    assert says in first
    assert all(line.startswith("hint: ") for line in rest)


def test_cancel_of_one_and_of_all(run: Run, fake: FakeClient) -> None:
    """parity 79, 80: one that is not armed is no error; all are cancelled only on a clear yes."""
    fake.replies |= {"cancel": True, "cancel_all": 3}
    assert json.loads(run("alarms", "cancel", "Counter", "c", "reset", "--json").stdout) == {"cancelled": 1}
    assert run("alarms", "cancel", "Counter", "c", "--yes").stdout == "3 cancelled\n"
    fake.replies["cancel"] = False
    absent = run("alarms", "cancel", "Counter", "c", "reset", "--prefix", "acme")
    assert (absent.exit_code, absent.stdout) == (0, "Counter 'c' of tenant acme had no such alarm\n")
    assert fake.asked == [
        ("cancel", "Counter", "c", "", "reset"),
        ("cancel_all", "Counter", "c", ""),
        ("cancel", "Counter", "c", "acme", "reset"),
    ]
    refused = run("alarms", "cancel", "Counter", "c")
    assert (refused.exit_code, refused.stdout, len(fake.asked)) == (2, "", 3)
    assert "hint: add --yes" in refused.stderr


def test_fire_and_retry_act_on_one_object(run: Run, fake: FakeClient) -> None:
    """parity 87, 108: now; without a name, everything of the object that failed is armed again."""
    fake.replies["retry"] = 2
    assert run("alarms", "fire", "Counter", "c", "reset").stdout == "alarm reset of Counter 'c' was fired\n"
    assert json.loads(run("alarms", "fire", "Counter", "c", "reset", "--json").stdout) == {"fired": "reset"}
    assert run("alarms", "retry", "Counter", "c").stdout == "2 armed again\n"
    assert json.loads(run("alarms", "retry", "Counter", "c", "reset", "--json").stdout) == {"retried": 2}
    fake.replies["retry"] = 0
    assert run("alarms", "retry", "Counter", "c", "--prefix", "acme").stdout == (
        "no alarm of Counter 'c' of tenant acme has failed\n"
    )
    assert [words for words in fake.asked if words[0] == "retry"] == [
        ("retry", "Counter", "c", "", None),
        ("retry", "Counter", "c", "", "reset"),
        ("retry", "Counter", "c", "acme", None),
    ]


def test_list_shows_all_there_is_to_an_alarm(run: Run, fake: FakeClient) -> None:
    """parity 81: a table for people, the whole for programs."""
    repeated = view("b", payload={"x": 1}, recurrence="every 1:00:00", attempt=2, problem="it broke\n  in line 5")
    fake.replies["all_alarms"] = [[view("a"), repeated]]
    heading, first, second = run("alarms", "list").stdout.splitlines()
    assert heading.split() == ["CLASS", "ID", "NAME", "AT", "ATTEMPT", "RECURRENCE", "PAYLOAD", "ORPHANED"]
    assert first.split() == ["Counter", "a", "reset", "2031-05-01", "09:00:00+00:00", "0", "-", "-", "-"]
    assert second.split("  ")[-3:] == ["every 1:00:00", '{"x":1}', "-"]
    fake.replies["all_alarms"] = [[repeated]]
    (shown,) = json.loads(run("alarms", "list", "--json").stdout)
    assert shown == {
        "class": "Counter", "id": "b", "prefix": "", "name": "reset", "at": "2031-05-01T09:00:00+00:00", "attempt": 2,
        "payload": {"x": 1}, "recurrence": "every 1:00:00", "orphaned": None, "problem": "it broke\n  in line 5",
    }  # fmt: skip


def test_orphaned_shows_why_and_the_first_line_of_the_problem(run: Run, fake: FakeClient) -> None:
    """parity 87, 88: what cannot fire is told apart."""
    failed = view("a", attempt=10, problem="ValueError: no\nTraceback ...", orphaned="failed")
    fake.replies["all_alarms"] = [[failed, view("b", orphaned="unknown class")]]
    heading, first, second = run("alarms", "orphaned", "--prefix", "acme").stdout.splitlines()
    assert heading.split() == ["CLASS", "ID", "NAME", "AT", "ATTEMPT", "ORPHANED", "PROBLEM"]
    assert first.split()[-4:] == ["10", "failed", "ValueError:", "no"]
    assert second.split()[-3:] == ["unknown", "class", "-"]
    options = {"orphaned": True, "after": None, "limit": 100, "prefix": "acme"}
    assert fake.asked == [("all_alarms", options)]


def test_a_list_of_one_class_or_object_asks_for_no_others(run: Run, fake: FakeClient) -> None:
    """It begins at the first that may be meant, and ends with the first that is not."""

    def ids(*words: str) -> list[str]:
        fake.asked.clear()
        fake.replies["all_alarms"] = [[view("a"), view("b"), view("b", "tell"), replace(view("c"), object_type="D")]]
        shown = json.loads(run("alarms", *words, "--json").stdout)
        return [f"{each['id']} {each['name']}" for each in shown]

    assert ids("list", "Counter") == ["a reset", "b reset", "b tell"]
    assert ids("orphaned", "Counter", "b") == ["b reset", "b tell"]
    ((_, options),) = fake.asked
    after = options["after"]
    assert (after.object_type, after.object_id, after.name, options["orphaned"]) == ("Counter", "b", "", True)


def test_a_long_list_is_asked_for_in_pages(run: Run, fake: FakeClient) -> None:
    """Each page begins behind the last alarm of the one before; --limit ends it."""
    pages = [[view(f"{number:05}") for number in range(start, start + 1000)] for start in (0, 1000)]
    fake.replies["all_alarms"] = [*pages, [view("x")]]
    result = run("alarms", "list", "--limit", "2001", "--json")
    assert len(json.loads(result.stdout)) == 2001
    assert [(options["after"], options["limit"]) for _, options in fake.asked] == [
        (None, 1000), (pages[0][-1], 1000), (pages[1][-1], 1),
    ]  # fmt: skip
    fake.replies["all_alarms"] = [[view("a"), view("b")]]
    full = run("alarms", "list", "--limit", "2")
    assert (full.stdout.count("\n"), full.stderr) == (3, "There may be more: raise --limit.\n")


@pytest.mark.parametrize("command", ["list", "orphaned"])
def test_no_alarms_are_no_error(run: Run, command: str) -> None:
    """An empty list, and a word for people."""
    assert json.loads(run("alarms", command, "--json").stdout) == []
    assert run("alarms", command).stderr == "There are none.\n"


@pytest.mark.parametrize(
    ("words", "name"),
    [
        (["schedule", "Counter", "c", "reset", "--after", "1s"], "schedule"),
        (["cancel", "Counter", "c", "reset"], "cancel"),
        (["fire", "Counter", "c", "reset"], "fire"),
        (["retry", "Counter", "c", "reset"], "retry"),
        (["list"], "all_alarms"),
        (["orphaned"], "all_alarms"),
    ],
)
@pytest.mark.parametrize(
    ("error", "code"),
    [
        (InvalidArguments("Counter has no alarm 'reset'"), 1),
        (HandlerFailed(remote_type="ValueError", remote_message="no", traceback="..."), 1),
        (Unavailable("no server answers"), 3),
    ],
)
def test_errors_have_exit_codes_and_a_json_form(
    run: Run, fake: FakeClient, words: list[str], name: str, error: Exception, code: int
) -> None:
    """Refused or failed is 1, not reachable is 3; stdout stays empty."""
    fake.replies[name] = error
    result = run("alarms", *words, "--json")
    assert (result.exit_code, result.stdout) == (code, "")
    assert json.loads(result.stderr)["error"]["type"] == type(error).__name__
