"""Peers in one run: turns, ratios, and what is told of a peer that fails or loses what it acknowledged."""

from __future__ import annotations

import asyncio
import json
import os
import signal
from collections import Counter
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from durable_bench.peers.__main__ import main
from durable_bench.peers.peer import NotAvailable
from durable_bench.peers.results import Key, PeerResult, per_second, ratios
from durable_bench.peers.scenarios import ALL
from durable_bench.peers.turns import Plan, run
from durable_bench.peers.workers.load import Load, Outcome, histogram_us


@dataclass
class FakePeer:
    """Counts in this process; each load is two calls of each id, or one, and takes as long as is said."""

    name: str = "fake"
    seconds: float = 1.0
    loses: int = 0
    """Acknowledged adds that are forgotten at each restart."""
    twice: int = 0
    install_fails: str | None = None
    start_fails_in: int | None = None
    errors: Mapping[str, int] = field(default_factory=dict)
    durability: str = "none: it is a fake"
    packages: Mapping[str, str] = field(default_factory=lambda: {"fake": "1.0"})
    scenarios: frozenset[str] = ALL
    servers: tuple[int, ...] = ()
    counts: Counter[str] = field(default_factory=Counter)
    loads: list[Load] = field(default_factory=list)
    starts: int = 0

    async def install(self, folder: Path) -> None:
        if self.install_fails is not None:
            raise NotAvailable(self.install_fails)

    @asynccontextmanager
    async def start(self, folder: Path, installed: Path) -> AsyncIterator[FakePeer]:
        if self.starts == self.start_fails_in:
            raise OSError("the port is taken")
        if self.starts:
            self.counts["spread-0"] -= self.loses
        self.starts += 1
        yield self

    async def drive(self, load: Load) -> Outcome:
        self.loads.append(load)
        ids = [load.id(number) for number in range(min(load.count, 10))]
        if load.operation == "add":
            self.counts.update(ids)
            self.counts[ids[0]] += self.twice
        return Outcome(len(ids), self.seconds, {1000: len(ids)}, 0.5, dict(self.errors), len(ids))

    async def total(self, prefix: str, count: int) -> int:
        return sum(self.counts[f"{prefix}{number}"] for number in range(count))


async def in_turns(tmp_path: Path, *peers: FakePeer, plan: Plan | None = None) -> list[PeerResult]:
    return await run(peers, plan or Plan(sorted(ALL), repetitions=3), tmp_path, tmp_path, lambda _: None)


async def test_peers_take_turns_and_all_get_the_same_loads(tmp_path: Path) -> None:
    """A B A B: each is started as often as there are turns and once more; ids and callers are the same."""
    order: list[str] = []
    peers = [FakePeer("a"), FakePeer("b")]

    def say(text: str) -> None:
        order.append(text.partition(":")[0])

    await run(peers, Plan(["spread", "alone"], callers=(64, 256), repetitions=2), tmp_path, tmp_path, say)

    assert order == ["a", "b", *["a", "b"] * 3]
    assert peers[0].loads == peers[1].loads
    measured = [(load.prefix, load.callers) for load in peers[0].loads if load.operation == "add"][1:]
    assert measured == [
        *(("spread-", 256), ("spread-", 64), ("spread-", 256), ("alone-", 1)),
        *(("spread-", 256), ("spread-", 64), ("spread-", 256), ("alone-", 1)),
    ]


async def test_all_ids_are_in_memory_before_a_turn_is_measured(tmp_path: Path) -> None:
    """After each restart every id of `spread` is read once, before any load that counts."""
    peer = FakePeer()

    await in_turns(tmp_path, peer, plan=Plan(["spread"], repetitions=2))

    fills = [(load.operation, load.count) for load in peer.loads if load.once]
    assert fills == [("add", 1_000), ("read", 1_000), ("read", 1_000)]
    assert [load.once for load in peer.loads if load.prefix == "spread-"].count(True) == peer.starts


async def test_cold_reads_the_ids_that_were_new_before_the_restart(tmp_path: Path) -> None:
    """Each turn's `cold` has the ids of the last turn's `new`, each once; the first turn makes the first of them."""
    peer = FakePeer()

    [result] = await in_turns(tmp_path, peer, plan=Plan(["cold", "new"], repetitions=2))

    once = [(load.operation, load.prefix) for load in peer.loads if load.once and load.prefix != "spread-"]
    assert once == [
        ("add", "new-0-64-"),
        ("read", "new-0-64-"),
        ("add", "new-1-64-"),
        ("read", "new-1-64-"),
        ("add", "new-2-64-"),
    ]
    assert result.unavailable is None
    assert len(result.series[Key("cold", 64)]) == 2


async def test_cold_brings_its_new_ids_along(tmp_path: Path) -> None:
    """Whoever asks for `cold` alone is not told that nothing was answered."""
    peer = FakePeer()

    [result] = await in_turns(tmp_path, peer, plan=Plan(["cold"], repetitions=3))

    assert result.unavailable is None
    assert {key.scenario: len(turns) for key, turns in result.series.items()} == {"cold": 3, "new": 3}


async def test_a_turn_that_breaks_off_accuses_nobody_of_a_loss(tmp_path: Path) -> None:
    """What was added since the last look has not been looked for."""

    class Breaking(FakePeer):
        async def drive(self, load: Load) -> Outcome:
            if load.prefix == "hot-" and self.starts == 3:
                raise ConnectionError("gone")
            return await super().drive(load)

    [result] = await in_turns(tmp_path, Breaking())

    assert result.unavailable is not None
    assert result.books.acknowledged["spread-"]
    assert "spread-" not in result.books.found
    assert (result.books.lost, result.books.surplus) == (0, 0)


async def test_a_ratio_is_the_median_of_those_turn_by_turn(tmp_path: Path) -> None:
    """A peer that takes four times as long answers a quarter."""
    ours, other = await in_turns(tmp_path, FakePeer("ours"), FakePeer("other", seconds=4.0))

    ratio = ratios(ours, other, Key("spread", 64))

    assert ratio is not None
    assert (ratio.median, ratio.lowest, ratio.highest) == (4.0, 4.0, 4.0)
    rate = other.spread(Key("spread", 64), per_second)
    assert rate is not None
    assert (rate.median, rate.half) == (2.5, 0.0)


async def test_a_peer_that_cannot_be_installed_is_told_and_the_run_goes_on(tmp_path: Path) -> None:
    """The reason stands with it, and the others are measured."""
    missing, there = await in_turns(tmp_path, FakePeer("a", install_fails="no such package"), FakePeer("b"))

    assert missing.unavailable == "no such package"
    assert missing.series == {}
    assert there.unavailable is None
    assert len(there.series[Key("hot", 64)]) == 3


async def test_a_peer_that_stops_keeps_what_was_measured(tmp_path: Path) -> None:
    """Whatever it fails with; it gets no further turn."""
    failing, there = await in_turns(tmp_path, FakePeer("a", start_fails_in=2), FakePeer("b"))

    assert failing.unavailable == "OSError: the port is taken"
    assert len(failing.series[Key("hot", 64)]) == 1
    assert len(there.series[Key("hot", 64)]) == 3


async def test_acknowledged_adds_that_a_restart_loses_are_counted(tmp_path: Path) -> None:
    """Three restarts that each forget two."""
    [result] = await in_turns(tmp_path, FakePeer(loses=2))

    assert result.books.lost == 6
    assert result.books.surplus == 0


async def test_a_peer_that_keeps_everything_lost_nothing(tmp_path: Path) -> None:
    """All that was acknowledged is among the verified."""
    peer = FakePeer()

    [result] = await in_turns(tmp_path, peer)

    assert (result.books.lost, result.books.surplus) == (0, 0)
    assert result.books.verified == sum(peer.counts.values())


async def test_adds_done_twice_are_told_from_those_in_doubt(tmp_path: Path) -> None:
    """One more than acknowledged is a surplus, unless a call failed that may have had an effect."""
    [doubled] = await in_turns(tmp_path, FakePeer(twice=1))
    [doubtful] = await in_turns(tmp_path, FakePeer(twice=1, errors={"timeout": 1}))

    assert doubled.books.surplus > 0
    assert doubtful.books.surplus == 0


async def test_a_peer_that_answers_nothing_is_left_out(tmp_path: Path) -> None:
    """With what the calls failed with, in place of a rate of zero."""

    class Refusing(FakePeer):
        async def drive(self, load: Load) -> Outcome:
            return Outcome(0, 1.0, {}, 0.1, {"refused": 64}, 0)

    [result] = await in_turns(tmp_path, Refusing())

    assert result.unavailable is not None
    assert "refused" in result.unavailable


def test_a_run_shows_and_writes_everything(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Rates, ratios against durable-engine, losses and reasons are in the tables, and the turns in the JSON."""
    fakes = {
        "durable-sqlite": FakePeer("durable-sqlite"),
        "slow": FakePeer("slow", seconds=5.0, loses=2),
        "missing": FakePeer("missing", install_fails="no [such] package"),
    }
    makes = {name: lambda _, one=one: one for name, one in fakes.items()}
    monkeypatch.setattr("durable_bench.peers.__main__.PEERS", makes)
    path = tmp_path / "peers.json"

    assert main(["--scenarios", "spread,hot", "--repetitions", "2", "--no-watch", "--json", str(path)]) == 0

    shown = capsys.readouterr().out
    assert "5.00 (5.00-5.00)" in shown
    assert "no [such] package" in shown
    document = json.loads(path.read_text())
    written = {one["name"]: one for one in document["peers"]}
    assert document["settings"]["tools"]["postgres"].startswith("postgres (PostgreSQL)")
    assert written["missing"]["unavailable"] == "no [such] package"
    assert (written["slow"]["lost_adds"], written["durable-sqlite"]["lost_adds"]) == (4, 0)
    [spread, hot] = written["slow"]["scenarios"]
    assert spread["ratios"]["durable-sqlite"]["median"] == 5.0
    assert spread["calls_per_second"]["median"] == 2.0
    assert spread["turns"][0]["outcome"]["latency_us"] == {"1000": 10}
    assert (hot["scenario"], hot["p50_ms"]["median"]) == ("hot", 1.0)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["workred"], "there is no peer 'workred'; there are durable-sqlite"),
        (["--scenarios", "spraed"], "there is no scenario 'spraed'; there are cold"),
        (["--callers", "many"], "numbers look like --callers 64,256"),
        (["--callers", "0"], "are more than 0"),
        (["--version", "workerd"], "versions like --version workerd="),
    ],
)
def test_wrong_arguments_are_refused_with_what_would_be_right(
    words: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Exit code 2, before anything is installed."""
    with pytest.raises(SystemExit) as stopped:
        main(words)

    assert stopped.value.code == 2
    assert said in capsys.readouterr().err


def test_the_histogram_of_a_worker_keeps_three_digits_and_every_call() -> None:
    """Each latency within half a percent; percentiles follow."""
    latency = histogram_us(us / 1e6 for us in (1, 999, 1_234, 1_236, 98_765, 98_841))

    assert latency == {1: 1, 999: 1, 1_230: 1, 1_240: 1, 98_800: 2}
    outcome = Outcome(6, 1.0, latency, 0.1)
    assert [outcome.percentile_ms(rank) for rank in (0.0, 0.5, 0.99, 1.0)] == [0.001, 1.23, 98.8, 98.8]


def test_a_run_that_is_told_to_stop_stops_its_servers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """SIGTERM in the middle of a load: the peer's block is left, and the exit code says what ended the run."""
    left: list[str] = []

    class Endless(FakePeer):
        @asynccontextmanager
        async def start(self, folder: Path, installed: Path) -> AsyncIterator[FakePeer]:
            try:
                yield self
            finally:
                left.append("stopped")

        async def drive(self, load: Load) -> Outcome:
            os.kill(os.getpid(), signal.SIGTERM)
            await asyncio.get_running_loop().create_future()
            raise AssertionError("it is cancelled before")

    monkeypatch.setattr("durable_bench.peers.__main__.PEERS", {"endless": lambda _: Endless("endless")})

    assert main(["endless", "--json", str(tmp_path / "never.json")]) == 128 + signal.SIGTERM

    assert left == ["stopped"]
    assert not (tmp_path / "never.json").exists()
