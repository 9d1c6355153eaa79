"""`shards drain|restart`, `reload` and `objects park`: what they ask of the server, and what they print."""

from __future__ import annotations

import json
from typing import Any

import pytest

from durable_storage.errors import DurableError
from tests.support.fake_client import FakeClient, Run

CHANGED = {"shard": 1, "before": 7, "after": 8, "seconds": 0.25}


def reloaded(state: str, **changes: Any) -> dict[str, Any]:
    """What a server tells of a reload."""
    return {"state": state, "seconds": 1.5, "shards": [CHANGED], "problem": "", "traceback": "", **changes}


@pytest.mark.parametrize(
    ("words", "asked"),
    [
        (["drain", "1"], ("drain_shard", {"shard": 1})),
        (["restart", "1"], ("restart_shard", {"shard": 1, "now": False})),
        (["restart", "1", "--now"], ("restart_shard", {"shard": 1, "now": True})),
    ],
)
def test_a_change_of_a_shard_is_one_request(
    run: Run, fake: FakeClient, words: list[str], asked: tuple[str, dict[str, Any]]
) -> None:
    """The answer is printed as it is, or as a line."""
    fake.replies[asked[0]] = CHANGED
    assert json.loads(run("shards", *words, "--json").stdout) == CHANGED
    assert fake.asked == [asked]
    assert run("shards", *words).stdout == "shard 1: pid 7 -> pid 8, in 0.250 s\n"


def test_a_shard_that_was_down_had_no_process(run: Run, fake: FakeClient) -> None:
    """That is said, and not pid 0."""
    fake.replies["restart_shard"] = {**CHANGED, "before": 0}
    assert run("shards", "restart", "1").stdout == "shard 1: no process -> pid 8, in 0.250 s\n"


def test_a_refusal_is_one_line_and_exit_code_1(run: Run, fake: FakeClient) -> None:
    """Such as that of a shard that there is not."""
    fake.replies["drain_shard"] = DurableError("no shard 9: they are numbered 0 to 1")
    result = run("shards", "drain", "9")
    assert (result.exit_code, result.stderr) == (1, "error: no shard 9: they are numbered 0 to 1\n")
    assert run("shards", "drain", "one").exit_code == 2


def test_a_reload_tells_how_it_gets_on_and_what_came_of_it(run: Run, fake: FakeClient) -> None:
    """Progress goes to stderr, the result to stdout."""
    fake.replies["reload"] = reloaded("rolling")
    fake.replies["reload_status"] = reloaded("done")
    result = run("reload")
    assert (result.exit_code, result.stdout) == (0, "1 shard runs the new code, after 1.50 s\n")
    assert result.stderr.splitlines() == [
        "importing the objects anew",
        "shard 1: pid 7 -> pid 8, in 0.250 s",
    ]
    assert json.loads(run("reload", "--json").stdout) == reloaded("done")
    run("reload", "--allow-missing")
    assert [asked for _, asked in fake.asked] == [{"allow_missing": missing} for missing in (False, False, True)]


@pytest.mark.parametrize(
    ("state", "says", "kind"),
    [("refused", "nothing was changed: no", "ReloadRefused"), ("failed", "the reload has stopped: no", "ReloadFailed")],
)
def test_a_reload_that_did_not_come_off_is_exit_code_1(
    run: Run, fake: FakeClient, *, state: str, says: str, kind: str
) -> None:
    """The traceback of an import stands above the line that says what happened, and is a field of the JSON."""
    fake.replies["reload"] = reloaded(state, problem="no", traceback="Traceback: here\n")
    result = run("reload")
    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr.splitlines()[-2:] == ["Traceback: here", f"error: {says}"]
    error = json.loads(run("reload", "--json").stderr)["error"]
    assert (error["type"], error["message"], error["traceback"]) == (kind, says, "Traceback: here\n")
    assert error["shards"] == [CHANGED]


def test_an_object_is_parked_by_its_address(run: Run, fake: FakeClient) -> None:
    """Its tenant is part of it."""
    fake.replies["park"] = True
    result = run("objects", "park", "Counter", "c", "--prefix", "acme", "--json")
    assert json.loads(result.stdout) == {"parked": True}
    assert fake.asked == [("park", {"address": "acme:Counter/c"})]
    assert run("objects", "park", "Counter", "c").stdout == "Counter 'c' is parked\n"
    fake.replies["park"] = False
    assert run("objects", "park", "Counter", "c").stdout == "Counter 'c' was parked already\n"
    assert run("objects", "park", "Counter", "").exit_code == 1
