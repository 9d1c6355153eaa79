"""`durable-engine alarms` for real: a server in a process of its own fires, retries and parks."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from tests.support.eventually import eventually
from tests.support.shell import Running, start

pytestmark = pytest.mark.processes

BELL = """\
from typing import Any

from durable_engine import DurableObject, alarm, field, handler


class Bell(DurableObject, name="tower.Bell"):
    rung: list[Any] = field(default_factory=list)
    broken: bool = False

    @handler
    def set_broken(self, broken: bool) -> None:
        self.broken = broken

    @handler(readonly=True)
    def get(self) -> list[Any]:
        return self.rung

    @alarm
    def ring(self, payload: Any) -> None:
        self.rung.append(payload)
        if self.broken:
            raise RuntimeError("the rope is torn")
"""
GONG = """

class Gong(DurableObject, name="tower.Gong"):
    @alarm
    def strike(self) -> None:
        pass
"""
SERVE = ("run", "tower.py", "--shards", "2", "--alarm-attempts", "2", "--alarm-backoff", "50ms")


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """A server that gives an alarm up after two attempts."""
    folder = tmp_path_factory.mktemp("alarms")
    (folder / "tower.py").write_text(BELL)
    running = start(folder, *SERVE)
    yield running
    assert running.stop() == 0


def test_alarms_are_scheduled_listed_and_cancelled(server: Running) -> None:
    """parity 75, 76, 77, 79, 80, 81: from a shell, without the object being woken; a name again replaces."""

    def ask(*words: str) -> Any:
        return server.ask(*words, "--prefix", "list")

    def ring(object_id: str, *words: str) -> datetime:
        return datetime.fromisoformat(ask("alarms", "schedule", "tower.Bell", object_id, "ring", *words)["at"])

    before = datetime.now(UTC)
    assert ring("after", "--after", "2h") >= before + timedelta(hours=2)
    assert ring("after", "--after", "1h", "--payload", '{"loud": true}') < before + timedelta(hours=2)
    assert ring("at", "--at", "2131-05-01T11:00:00+02:00") == datetime(2131, 5, 1, 9, tzinfo=UTC)
    assert ring("every", "--every", "90m", "--missed", "all") > before + timedelta(hours=1)
    assert ring("cron", "--cron", "30 2 29 2 *", "--tz", "Europe/Berlin").strftime("%m-%d %H:%M") == "02-29 01:30"
    listed = {alarm["id"]: alarm for alarm in ask("alarms", "list")}
    assert list(listed) == ["after", "at", "cron", "every"]
    assert {alarm["name"] for alarm in listed.values()} == {"ring"}
    assert [listed[each]["recurrence"] for each in listed] == [
        None, None, "cron 30 2 29 2 * Europe/Berlin", "every 1:30:00, missed all",
    ]  # fmt: skip
    assert (listed["after"]["payload"], listed["at"]["payload"]) == ({"loud": True}, None)
    assert ask("alarms", "orphaned") == ask("objects", "list", "tower.Bell") == []
    assert server.cli("alarms", "list", "--prefix", "list").stdout.count("tower.Bell") == 4
    assert ask("alarms", "cancel", "tower.Bell", "at", "ring") == {"cancelled": 1}
    assert ask("alarms", "cancel", "tower.Bell", "at", "ring") == {"cancelled": 0}
    assert ask("alarms", "cancel", "tower.Bell", "cron", "--yes") == {"cancelled": 1}
    assert [alarm["id"] for alarm in ask("alarms", "list")] == ["after", "every"]


def test_an_alarm_fires_by_itself_and_by_hand(server: Running) -> None:
    """parity 84, 108: what is due fires, what is not fires when it is told to; once each, and then it is gone."""
    server.ask("alarms", "schedule", "tower.Bell", "fires", "ring", "--after", "50ms", "--payload", "itself")
    eventually(lambda: server.ask("call", "tower.Bell", "fires", "get") == ["itself"])
    server.ask("alarms", "schedule", "tower.py:Bell", "fires", "ring", "--after", "9h", "--payload", "hand")
    assert server.ask("alarms", "fire", "tower.Bell", "fires", "ring") == {"fired": "ring"}
    assert server.ask("call", "tower.Bell", "fires", "get") == ["itself", "hand"]
    again = server.cli("alarms", "fire", "tower.Bell", "fires", "ring")
    assert (again.returncode, again.stdout) == (1, "")
    assert "alarm 'ring' of tower.Bell/fires is not armed; nothing was run" in again.stderr


def test_an_alarm_that_gave_up_is_shown_and_retried(server: Running) -> None:
    """fault C4: parity 87: parked after its attempts, with the reason; when the cause is mended, retry fires it."""
    server.ask("call", "tower.Bell", "torn", "set_broken", "true")
    server.ask("alarms", "schedule", "tower.Bell", "torn", "ring", "--after", "1h", "--payload", "5")
    by_hand = server.cli("alarms", "fire", "tower.Bell", "torn", "ring", "--json")
    assert (by_hand.returncode, json.loads(by_hand.stderr)["error"]["remote_message"]) == (1, "the rope is torn")
    assert server.ask("alarms", "orphaned") == []
    server.ask("alarms", "schedule", "tower.Bell", "torn", "ring", "--after", "0s", "--payload", "5")
    (parked,) = eventually(lambda: server.ask("alarms", "orphaned"))
    assert (parked["id"], parked["name"], parked["orphaned"], parked["attempt"]) == ("torn", "ring", "failed", 2)
    assert "RuntimeError: the rope is torn" in parked["problem"]
    assert "the rope is torn" in server.cli("alarms", "orphaned").stdout
    assert server.ask("alarms", "list") == [parked]
    server.ask("call", "tower.Bell", "torn", "set_broken", "false")
    assert server.ask("call", "tower.Bell", "torn", "get") == []
    assert server.ask("alarms", "retry", "tower.Bell", "torn") == {"retried": 1}
    eventually(lambda: server.ask("call", "tower.Bell", "torn", "get") == [5])
    assert server.ask("alarms", "retry", "tower.Bell", "torn") == {"retried": 0}
    assert server.ask("alarms", "orphaned") == []


def test_tenants_of_a_shell_never_meet(server: Running) -> None:
    """parity 28, 63: --prefix on every command; what is done to one tenant's object is done to no other's."""

    def ask(prefix: str, *words: str) -> Any:
        return server.ask(*words, "--prefix", prefix)

    for prefix in ("red", "Red"):
        ask(prefix, "alarms", "schedule", "tower.Bell", "same", "ring", "--after", "1h", "--payload", prefix)
        ask(prefix, "call", "tower.Bell", "same", "set_broken", "false")
    assert ask("red", "alarms", "fire", "tower.Bell", "same", "ring") == {"fired": "ring"}
    assert ask("red", "call", "tower.Bell", "same", "get") == ["red"]
    assert ask("red", "objects", "list", "tower.Bell") == ["same"]
    assert ask("red", "alarms", "list") == []
    assert ask("red", "objects", "delete", "tower.Bell", "same", "--yes") == {"deleted": True}
    assert ask("Red", "call", "tower.Bell", "same", "get") == []
    assert [alarm["payload"] for alarm in ask("Red", "alarms", "list")] == ["Red"]
    assert ask("Red", "objects", "evict", "tower.Bell", "same") == {"evicted": True}
    assert len(ask("Red", "objects", "show", "tower.Bell", "same")["alarms"]) == 1
    assert ask("red", "objects", "list", "tower.Bell") == []
    refused = server.cli("objects", "list", "tower.Bell", "--prefix", "x" * 201)
    assert (refused.returncode, "more than the 200 allowed" in refused.stderr) == (1, True)


def test_alarms_of_a_class_that_is_gone_wait_for_it(tmp_path: Path) -> None:
    """fault C5: parity 88: a deploy without the class, or without the method, loses nothing."""
    tower = tmp_path / "tower.py"

    def serve(text: str) -> Running:
        tower.write_text(text)
        return start(tmp_path, *SERVE)

    server = serve(BELL + GONG)
    try:
        server.ask("alarms", "schedule", "tower.Bell", "a", "ring", "--after", "1h")
        server.ask("alarms", "schedule", "tower.Gong", "a", "strike", "--after", "2h")
        before = server.ask("alarms", "list")
        assert server.stop() == 0
        server = serve(BELL.replace("def ring", "def swing"))
        why = [(each["class"], each["name"], each["orphaned"]) for each in server.ask("alarms", "orphaned")]
        assert why == [("tower.Bell", "ring", "unknown alarm"), ("tower.Gong", "strike", "unknown class")]
        assert server.cli("alarms", "retry", "tower.Bell", "a").stdout == "no alarm of tower.Bell 'a' has failed\n"
        for words, says in (("tower.Bell a ring", "has no method"), ("tower.Gong a strike", "no class")):
            refused = server.cli("alarms", "fire", *words.split())
            assert (refused.returncode, says in refused.stderr) == (1, True)
        assert server.stop() == 0
        server = serve(BELL + GONG)
        assert server.ask("alarms", "orphaned") == []
        assert server.ask("alarms", "list") == before
        assert server.stop() == 0
    finally:
        server.end()


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["Bell", "a", "ring", "--after", "1s"], "no class 'Bell' is served here; known are: tower.Bell"),
        (["tower.Bell", "a", "rung", "--after", "1s"], "tower.Bell has no alarm 'rung'; its alarms are: ring"),
        (["tower.Bell", "a", "", "--after", "1s"], "alarm name must not be empty"),
        (["tower.Bell", "a", "x" * 201, "--after", "1s"], "more than the 200 allowed"),
        (["tower.Bell", "", "ring", "--after", "1s"], "object id must not be empty"),
        (["tower.Bell", "a", "ring", "--after", "9999999d"], "outside of the years 1 to 9999"),
        (["tower.Bell", "a", "ring", "--at", "9999-12-31T23:59:59-12:00"], "outside of the years 1 to 9999"),
        (["tower.Bell", "a", "ring", "--every", "99ms"], "every must be at least 0.1 s"),
        (["tower.Bell", "a", "ring", "--cron", "0 0 30 2 *"], "never fires: none of its months has such a day"),
        (["tower.Bell", "a", "ring", "--cron", "0 0 */31 * MON#5"], "never fires"),
        (["tower.Bell", "a", "ring", "--cron", "@daily"], "must have five fields"),
        (["tower.Bell", "a", "ring", "--cron", "* * * * *", "--tz", "Mars/Olympus"], "no time zone 'Mars/Olympus'"),
        (["tower.Bell", "a", "ring", "--after", "1s", "--tz", "UTC"], "tz belongs to cron"),
        (["tower.Bell", "a", "ring", "--after", "1s", "--missed", "all"], "missed belongs to"),
    ],
)
def test_what_could_never_fire_is_refused(server: Running, words: list[str], says: str) -> None:
    """parity 76, 88: unknown names and absurd times are exit code 1 and one line, and nothing is armed."""
    result = server.cli("alarms", "schedule", *words, "--prefix", "refused")
    assert (result.returncode, result.stdout) == (1, "")
    assert says in result.stderr.splitlines()[0]
    assert "Traceback" not in result.stderr
    assert server.ask("alarms", "list", "--prefix", "refused") == []
