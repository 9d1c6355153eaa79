"""The command line against a client that only remembers what it was asked."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any, get_type_hints

import msgspec
import pytest

from durable_engine.views import ClientStatistics, EngineStatistics, ShardView
from durable_shards.statistics import SchedulerStatistics, ShardStatistics
from durable_shards.system_alarms import described
from durable_storage.errors import PersistenceFailed, Unavailable
from durable_storage.store import AlarmRow
from durable_storage.writer import WriterStatistics
from tests.support.fake_client import FakeClient, Run

COUNTS = msgspec.convert(
    dict.fromkeys(get_type_hints(ShardStatistics), 0)
    | {"live": 10, "hibernated": 2, "turns": 11}
    | {"writer": dict.fromkeys(get_type_hints(WriterStatistics), 0)}
    | {"alarms": dict.fromkeys(get_type_hints(SchedulerStatistics), 0)},
    ShardStatistics,
)


def test_arguments_are_json_and_bare_words_are_strings(run: Run, fake: FakeClient) -> None:
    """Each ARG is read as JSON where it is JSON."""
    words = [
        "5",
        '"5"',
        "true",
        "null",
        "red",
        "1.5",
        "[1, 2]",
        '{"a": 1}',
        "-3",
        "NaN",
        "18446744073709551616",
        "",
    ]
    result = run("call", "Counter", "c", "poke", *words)
    assert result.exit_code == 0, result.output
    expected = [5, "5", True, None, "red", 1.5, [1, 2], {"a": 1}, -3, "NaN", 18446744073709551616, ""]
    assert [(type(value), value) for value in expected] == [(type(value), value) for value in fake.asked[0][3]]


def test_call_passes_all_its_options(run: Run, fake: FakeClient) -> None:
    """Keyword arguments, tenant, key and timeout reach the client, which is closed in the end."""
    result = run(
        "call", "Counter", "c", "poke", "--kwarg", "by=2", "--kwarg", "why=because", "--key", "k1",
        "--prefix", "acme", "--timeout", "1m30s", "--connect", "ipc:///run/x",
    )  # fmt: skip
    assert result.exit_code == 0, result.output
    options = {"prefix": "acme", "timeout": 90.0, "idempotency_key": "k1"}
    assert fake.asked == [("Counter", "c", "poke", [], {"by": 2, "why": "because"}, options)]
    assert (fake.address, fake.timeout, fake.closed) == ("ipc:///run/x", 90.0, True)


@pytest.mark.parametrize(
    ("reply", "printed"),
    [
        (5, "5"),
        (None, "null"),
        ("é", '"é"'),
        ({"a": [1, None]}, '{"a":[1,null]}'),
        ({1: b"\x00\xff"}, '{"1":"AP8="}'),
        (datetime(2013, 1, 1, tzinfo=UTC), '"2013-01-01T00:00:00+00:00"'),
    ],
)
def test_the_reply_is_printed_as_one_line_of_json(run: Run, fake: FakeClient, reply: Any, printed: str) -> None:
    """Whatever a reply can hold has a JSON form."""
    fake.replies["get"] = reply
    assert printed + "\n" == run("call", "Counter", "c", "get").stdout


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["call", "Counter", "c"], "Missing argument 'HANDLER'"),
        (["call", "Counter", "c", "get", "--frob"], "No such option"),
        (["call", "Counter", "-x", "get"], "No such option"),
        (["call", "Counter", "c", "get", "{1"], "begins like JSON but is none"),
        (["call", "Counter", "c", "get", "--kwarg", "five"], "is not of the form name=value"),
        (["call", "Counter", "c", "get", "--kwarg", "a=1", "--kwarg", "a=2"], "given twice"),
        (["call", "Counter", "c", "get", "--timeout", "5"], "has no unit: write 5s"),
        (["call", "Counter", "c", "$delete"], "not a handler but part of the engine"),
        (["call", "no.such.module:Counter", "c", "get"], "cannot be loaded"),
        (["objects", "list", "Counter", "--limit", "0"], "Invalid value for '--limit'"),
        (["objects", "frobnicate"], "No such command 'frobnicate'"),
        (["completion", "tcsh"], "is not one of"),
        (["run"], "Missing argument"),
        (["run", "x.py", "--shards", "0"], "Invalid value for '--shards'"),
        (["run", "x.py", "--bind", "nowhere"], "bind must be tcp://HOST:PORT"),
        (["--config", "absent.toml", "status"], "absent.toml"),
    ],
)
def test_a_wrong_usage_is_one_line_and_exit_code_2(run: Run, fake: FakeClient, words: list[str], says: str) -> None:
    """Nothing is asked of a server, nothing is printed as a result."""
    result = run(*words)
    assert result.exit_code == 2, result.output
    first, *rest = result.stderr.splitlines()
    assert first.startswith("error: ")
    assert says in first
    assert all(line.startswith("hint: ") for line in rest)
    assert (result.stdout, fake.asked) == ("", [])


def test_what_follows_two_dashes_is_never_an_option(run: Run, fake: FakeClient) -> None:
    """`--` lets an id or an argument begin with dashes."""
    assert run("call", "--", "Counter", "-x", "set", "--loud").exit_code == 0
    assert fake.asked[0][:4] == ("Counter", "-x", "set", ["--loud"])


def test_a_server_that_cannot_be_reached_is_exit_code_3(run: Run, fake: FakeClient) -> None:
    """The hint says how to start one."""
    fake.replies["get"] = Unavailable("no server answers at tcp://127.0.0.1:7400")
    result = run("call", "Counter", "c", "get")
    assert result.exit_code == 3
    assert result.stderr.startswith("error: no server answers at tcp://127.0.0.1:7400\nhint: start a server with")


def test_an_error_of_the_engine_is_exit_code_1_and_has_a_json_form(run: Run, fake: FakeClient) -> None:
    """With --json the error is an object on stderr, and stdout stays empty."""
    fake.replies["get"] = PersistenceFailed("state.x: NaN", outcome="not_applied")
    result = run("call", "Counter", "c", "get", "--json")
    assert (result.stdout, result.exit_code) == ("", 1)
    expected = {
        "type": "PersistenceFailed",
        "message": "state.x: NaN",
        "retryable": False,
        "outcome": "not_applied",
    }
    assert {"error": expected} == json.loads(result.stderr)


def test_even_a_wrong_usage_has_a_json_form(run: Run) -> None:
    """--json counts wherever it stands, also behind the mistake."""
    result = run("status", "--frob", "--json")
    assert result.exit_code == 2
    assert json.loads(result.stderr)["error"]["type"] == "Usage"


def test_interrupting_is_exit_code_130(run: Run, fake: FakeClient) -> None:
    """Ctrl-C ends with one line as well."""
    fake.replies["get"] = KeyboardInterrupt()
    result = run("call", "Counter", "c", "get")
    assert (result.exit_code, result.stderr.strip()) == (130, "error: interrupted")


def test_an_unforeseen_error_keeps_its_traceback(run: Run, fake: FakeClient) -> None:
    """A bug is not dressed up as a refusal."""
    fake.replies["get"] = ZeroDivisionError()
    assert isinstance(run("call", "Counter", "c", "get").exception, ZeroDivisionError)


def test_objects_list_prints_a_page_and_how_to_get_the_next(run: Run, fake: FakeClient) -> None:
    """Ids are lines; the hint about more goes to stderr."""
    fake.replies["objects"] = ["a", "b c"]
    result = run("objects", "list", "Counter", "--limit", "2", "--after", "0", "--prefix", "acme")
    assert fake.asked == [("Counter", {"after": "0", "limit": 2, "prefix": "acme"})]
    assert (result.stdout, result.stderr) == ("a\nb c\n", "There may be more: --after 'b c'\n")
    assert json.loads(run("objects", "list", "Counter", "--limit", "2", "--json").stdout) == ["a", "b c"]


RESET = described(AlarmRow("reset", datetime(2013, 1, 1, tzinfo=UTC), attempts=1, is_parked=True))
SHOWN = {"state": {"count": 3, "tags": ["x"]}, "version": 7, "live": True}


def test_objects_show_prints_state_alarms_and_where(run: Run, fake: FakeClient) -> None:
    """What is known of an object is one JSON object."""
    fake.replies |= {"$state": SHOWN, "$alarms": [RESET], "where": 5}
    shown = json.loads(run("objects", "show", "Counter", "c", "--json").stdout)
    assert {name: shown[name] for name in SHOWN} == SHOWN
    assert shown["alarms"] == [RESET]
    text = run("objects", "show", "Counter", "c").stdout
    assert all(word in text for word in ("Counter 'c'", "version 7", "memory of shard 5", "count", "3", "reset"))
    assert text.splitlines()[-1].endswith("parked")


def test_an_object_of_alarms_only_can_be_shown(run: Run, fake: FakeClient) -> None:
    """It has no state, but it is there."""
    fake.replies["$alarms"] = [RESET]
    shown = json.loads(run("objects", "show", "Counter", "c", "--json").stdout)
    assert (shown["state"], shown["version"], len(shown["alarms"])) == (None, 0, 1)
    assert "no state was ever stored" in run("objects", "show", "Counter", "c").stdout


def test_showing_an_object_that_never_was_is_refused(run: Run) -> None:
    """Its absence is exit code 1, in either form."""
    result = run("objects", "show", "Counter", "c")
    assert (result.exit_code, result.stderr.splitlines()[0]) == (1, "error: there is no Counter 'c'")


@pytest.mark.parametrize(
    ("words", "reply", "printed"),
    [
        (["wake"], None, {"awake": True}),
        (["evict"], True, {"evicted": True}),
        (["evict"], False, {"evicted": False}),
        (["delete", "--yes"], True, {"deleted": True}),
        (["delete", "--yes"], False, {"deleted": False}),
        (["unpark"], True, {"unparked": True}),
        (["unpark"], False, {"unparked": False}),
    ],
)
def test_acting_on_an_object_asks_for_just_that(
    run: Run, fake: FakeClient, words: list[str], reply: Any, printed: dict[str, Any]
) -> None:
    """Each command is one request, for one object of one tenant."""
    fake.replies[words[0]] = reply
    result = run("objects", *words, "Counter", "c", "--prefix", "acme", "--json")
    assert (result.exit_code, json.loads(result.stdout)) == (0, printed)
    assert fake.asked == [(words[0], "Counter", "c", "acme")]
    assert run("objects", *words, "Counter", "c").stdout.count("\n") == 1


def test_deleting_without_a_terminal_wants_yes(run: Run, fake: FakeClient) -> None:
    """Nobody can be asked, so nothing is done."""
    result = run("objects", "delete", "Counter", "c", input="y\n")
    assert (result.exit_code, fake.asked) == (2, [])
    assert "hint: add --yes" in result.stderr


@pytest.mark.parametrize(("answer", "code", "calls"), [("y\n", 0, 1), ("n\n", 1, 0), ("\n", 1, 0)])
def test_deleting_at_a_terminal_asks(
    run: Run, fake: FakeClient, monkeypatch: pytest.MonkeyPatch, *, answer: str, code: int, calls: int
) -> None:
    """Only a clear yes deletes."""
    monkeypatch.setattr("durable_engine.output.at_terminal", lambda: True)
    result = run("objects", "delete", "Counter", "c", input=answer)
    assert (code, calls) == (result.exit_code, len(fake.asked))
    assert "Delete the state and alarms of Counter 'c' for ever?" in result.stderr


SHARD = {
    "shard": 0,
    "pid": 7,
    "state": "up",
    "endpoint": "tcp://127.0.0.1:1",
    "partitions": [0, 1024],
    "epoch": 3,
    "restarts": 0,
}


def test_shards_list_is_exactly_the_list_of_shards(run: Run, fake: FakeClient) -> None:
    """As JSON nothing is around it, as text it is a table."""
    fake.replies["shards"] = [SHARD]
    assert json.loads(run("shards", "list", "--json").stdout) == [SHARD]
    heading, line = run("shards", "list").stdout.splitlines()
    assert heading.split() == ["SHARD", "PID", "STATE", "ENDPOINT", "PARTITIONS", "EPOCH", "RESTARTS"]
    assert line.split() == ["0", "7", "up", "tcp://127.0.0.1:1", "0..1024", "3", "0"]


def test_status_shows_each_shard_what_is_parked_and_what_went_wrong(run: Run, fake: FakeClient) -> None:
    """A shard that does not answer is shown without counts."""
    up = ShardView(shard=0, pid=7, state="up", endpoint="x", partitions=(0, 512), epoch=3, statistics=COUNTS)
    down = ShardView(shard=1, pid=0, state="down", endpoint="", partitions=(512, 1024), epoch=3, last_error="it died")
    fake.replies["statistics"] = EngineStatistics(
        server="s", release="1.2.3", client=ClientStatistics(), shards=(up, down), parked=("Counter/bad",)
    )
    found = json.loads(run("status", "--json").stdout)
    assert [shard["state"] for shard in found["shards"]] == ["up", "down"]
    assert found["shards"][0]["statistics"]["turns"] == 11
    text = run("status").stdout
    assert "durable-engine 1.2.3 at tcp://127.0.0.1:7400: 2 shards, 12 objects in memory" in text
    assert "shard 1: it died" in text
    assert "Counter/bad" in text


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_prints_the_script_of_a_shell(run: Run, shell: str) -> None:
    """The script calls us back under our name."""
    script = run("completion", shell).stdout
    assert "_DURABLE_ENGINE_COMPLETE" in script
    assert "durable-engine" in script


def test_completion_completes_commands_and_options(run: Run) -> None:
    """What the script asks for is answered."""
    env = {
        "_DURABLE_ENGINE_COMPLETE": "bash_complete",
        "COMP_WORDS": "durable-engine objects ",
        "COMP_CWORD": "2",
    }
    names = {line.partition(",")[2] for line in run(env=env).stdout.splitlines()}
    assert {"list", "show", "wake", "evict", "delete", "park", "unpark", "check"} == names


def test_text_is_coloured_on_a_terminal_only_and_never_with_no_color(run: Run, fake: FakeClient) -> None:
    """CliRunner's `color` stands for a terminal."""
    fake.replies["shards"] = [SHARD]
    assert "\x1b[" not in run("shards", "list").stdout
    assert "\x1b[" in run("shards", "list", color=True).stdout
    assert "\x1b[" not in run("shards", "list", color=True, env={"NO_COLOR": "1"}).stdout
