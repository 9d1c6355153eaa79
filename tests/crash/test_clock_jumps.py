"""A clock that is set an hour forward or back under running processes, and between one start and the next."""

from __future__ import annotations

import re
from collections import Counter
from datetime import datetime, timedelta
from pathlib import Path

import pytest

from durable_engine import Client
from tests.crash.conftest import MakeServer
from tests.crash.storm import OBJECTS, at_rest, check_agreement
from tests.crash.storm_objects import RUNS_VARIABLE
from tests.support.eventually import eventually
from tests.support.server import Server
from tests.support.wall_clock import WallClock

pytestmark = pytest.mark.processes

HOUR = timedelta(hours=1)
IDS = tuple(f"object-{number}" for number in range(4))


@pytest.fixture
def clock(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> WallClock:
    """What the servers of the test see on the wall."""
    monkeypatch.setenv(RUNS_VARIABLE, str(tmp_path / "runs"))
    (tmp_path / "runs").touch()
    return WallClock(tmp_path, monkeypatch)


def arm(client: Client, clock: WallClock, token: str, after: timedelta, every: float | None = None) -> None:
    """An alarm of this name in each object."""
    for object_id in IDS:
        args = [token, f"{token}-{object_id}", (clock.now() + after).isoformat(), -1 if every else 0, every, None]
        client.call_by_name("Storm", object_id, "arm", args, {}, timeout=20)


def fired(client: Client) -> Counter[str]:
    """How often the alarms of each name fired, in all objects together; none of them early."""
    names: Counter[str] = Counter()
    for object_id in IDS:
        for token, _, at, when, _ in (client.state("Storm", object_id) or {"fired": []})["fired"]:
            names[token.partition("-")[0]] += 1
            assert datetime.fromisoformat(when) >= datetime.fromisoformat(at)
    return names


def until_fired(server: Server, client: Client, expected: dict[str, int]) -> None:
    """Until that is what has fired; more would be told at once by the last look."""
    eventually(lambda: fired(client) == expected, state=lambda: f"{fired(client)}\n{server.log[-2000:]}")


def a_moment_passes(server: Server, client: Client, clock: WallClock, token: str, expected: dict[str, int]) -> None:
    """Alarms that are armed now have fired, so that whatever else is due by this clock would have, too."""
    arm(client, clock, token, timedelta(milliseconds=200))
    expected[token] = len(IDS)
    until_fired(server, client, expected)


def test_a_clock_that_is_set_fires_nothing_twice_and_nothing_early(
    make_server: MakeServer, store: str, clock: WallClock
) -> None:
    """fault C1: forward: what is overdue fires once; back: nothing again; no shard loses its lease for it."""
    server = make_server(store, objects=(str(OBJECTS),)).start()
    shards = [(shard["pid"], shard["restarts"], shard["epoch"]) for shard in server.shards()]
    each, expected = len(IDS), dict[str, int]()
    with server.client() as client:
        arm(client, clock, "soon", HOUR / 2)
        arm(client, clock, "later", 3 * HOUR)
        arm(client, clock, "beat", HOUR / 2, every=(HOUR / 6).total_seconds())
        a_moment_passes(server, client, clock, "before", expected)

        clock.set(HOUR)
        expected |= {"soon": each, "beat": each}  # four ticks of the beat were missed: one firing stands for all
        until_fired(server, client, expected)
        a_moment_passes(server, client, clock, "ahead", expected)

        clock.set(-HOUR)
        a_moment_passes(server, client, clock, "behind", expected)
        clock.set(HOUR)
        a_moment_passes(server, client, clock, "again", expected)

        assert [(shard["pid"], shard["restarts"], shard["epoch"]) for shard in server.shards()] == shards
        assert re.search(r"\bthe lease\b", server.log) is None
        assert server.stop() == 0

        clock.set(-HOUR)
        server.start()
        a_moment_passes(server, client, clock, "restarted", expected)
        assert server.stop() == 0

        clock.set(4 * HOUR)
        server.start()
        expected |= {"later": each, "beat": 2 * each}
        until_fired(server, client, expected)
        a_moment_passes(server, client, clock, "end", expected)
    assert server.stop() == 0
    found = at_rest(store)
    check_agreement(found)
    assert all(set(rows) == {"beat"} for _, rows in found.values())
