"""What experiments make of what they measured, and that each runs from end to end."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from itertools import pairwise
from pathlib import Path

import pytest

from durable_bench.charts import draw
from durable_bench.experiments import fairness, heap, knee, parts, scaling, startup
from durable_bench.experiments.catalogue import EXPERIMENTS
from durable_bench.experiments.filling import count_of, fill, stored_id
from durable_bench.experiments.hot_callers import HotCallers
from durable_bench.experiments.part_client import client_ns
from durable_bench.experiments.part_shard import shard_parts
from durable_bench.experiments.part_socket import socket_ns
from durable_bench.experiments.processor import Cpu
from durable_bench.experiments.sheets import tables
from durable_bench.experiments.stage import ids_of_shard
from durable_bench.histogram import Histogram
from durable_bench.load import Sample
from durable_bench.objects import Counter
from durable_bench.results import Results, read, write_json
from durable_engine import Engine
from durable_shards.spec import spec_of
from durable_storage.address import partition_of, partitions_of_shard

TINY = ("--repetitions", "1", "--seconds", "0.05", "--objects", "40", "--in-flight", "10", "--shards", "2")


def sample(per_second: int, milliseconds: float, *, client_us: float = 5.0) -> Sample:
    """One second of calls that all took the same time."""
    return Sample(per_second, 1.0, Histogram.of([milliseconds / 1e3] * per_second), client_us, 7.0)


def pair(calm_ms: float, loaded_ms: float) -> fairness.Pair:
    """A calm and a loaded second."""
    return fairness.Pair(sample(100, calm_ms), sample(100, loaded_ms), 5_000.0, 3)


def test_fairness_is_the_median_of_the_ratios_of_neighbours() -> None:
    """Each loaded time is compared with the calm one before it; a bad moment of the machine strikes one pair."""
    found = {"writes": [pair(1, 1.5), pair(1, 9), pair(2, 3)], "elsewhere": [pair(1, 3)]}

    result = fairness.outcome("sqlite", found)

    assert result.figures["writes.ratio"] == pytest.approx([1.5, 9, 1.5], rel=0.01)
    assert result.findings[0] == "writes: the p99 loaded is 1.50 times the calm one; at most 2 is asked for: holds"
    assert "takes from the machine" in result.findings[1]
    assert "does not hold" in fairness.outcome("sqlite", {"slow": [pair(1, 3)]}).findings[0]


def test_ids_of_a_shard_belong_to_it() -> None:
    """As many as were asked for, all different."""
    ids = ids_of_shard(spec_of(Counter).name, "x", 20, 1, 3)

    assert len(set(ids)) == 20
    assert all(partition_of("", spec_of(Counter).name, each) in partitions_of_shard(1, 3) for each in ids)


def test_the_knee_is_where_throughput_by_latency_is_greatest() -> None:
    """Not the highest load that was answered, nor the quickest one."""
    samples = {100.0: [sample(100, 1.0)], 200.0: [sample(200, 1.2)], 300.0: [sample(300, 9.0)]}

    assert knee.knee_of(samples) == 200.0
    assert "the knee is at 200 calls/s" in knee.outcome("sqlite", 300.0, samples).findings[0]


def test_a_load_above_one_that_was_not_answered_is_no_knee() -> None:
    """However quick its few answers were; and where none was answered there is none."""
    samples = {100.0: [sample(100, 1.0)], 200.0: [sample(150, 1.0)], 300.0: [sample(300, 0.1)]}

    assert knee.knee_of(samples) == 100.0
    assert knee.knee_of({100.0: [sample(50, 1.0)]}) is None
    assert "overload" in knee.outcome("sqlite", 300.0, samples).sheets[0].rows[1]


@pytest.mark.parametrize(
    ("machine", "busiest", "client_us", "named"),
    [
        (0.95, 0.5, 2.0, "processors, most by the shards"),
        (0.95, 0.5, 20.0, "processors, most by the clients"),
        (0.6, 0.97, 2.0, "the busiest shard"),
        (0.5, 0.4, 2.0, "waiting: disk, locks, switches"),
    ],
)
def test_the_bottleneck_is_what_has_nothing_left(machine: float, busiest: float, client_us: float, named: str) -> None:
    """The machine before a shard, a shard before the disk."""
    point = scaling.Point(sample(100, 1.0, client_us=client_us), 9.0, 1.0, busiest, machine)

    assert point.bottleneck == named
    assert scaling.outcome("sqlite", 2, {4: [point]}).findings == [f"4 shards: the bottleneck is {named}"]


def test_start_up_is_flat_when_the_sizes_do_not_differ() -> None:
    """By the medians of each size; the goal is judged at the largest."""
    starts = {0: [startup.Start(0.4, 0.5)], 1_000: [startup.Start(0.5, 0.6)]}

    assert startup.outcome("sqlite", 8, starts).findings == [
        "the slowest size takes 1.25 times as long as the fastest: flat",
        "with 1,000 objects the first answer comes after 0.50 s; 1 s is asked: holds",
    ]
    slow = startup.outcome("sqlite", 8, starts | {9_000: [startup.Start(1.5, 1.6)]})
    assert [finding.rpartition(": ")[2] for finding in slow.findings] == ["not flat", "does not hold"]


@pytest.mark.parametrize("stored", [0, 3, 1_000])
def test_start_up_asks_each_shard_for_an_object(stored: int) -> None:
    """For stored ones as long as there are enough of them."""
    numbers = startup.one_of_each_shard(4, stored)

    found = [partition_of("", spec_of(Counter).name, stored_id(number)) for number in numbers]
    assert all(partition in partitions_of_shard(shard, 4) for shard, partition in enumerate(found))
    assert stored < 1_000 or all(number < stored for number in numbers)


def test_parts_are_shown_beside_the_whole() -> None:
    """The sum, what all processes took, and how far the one explains the other."""
    whole = parts.Whole(4.0, 15.0, 1.0, 32.0, 1.0, 30.0, 0.06)

    result = parts.outcome("sqlite", 64, [whole], [{"client": 5.0, "store": 10.0}])

    assert result.figures["sum"] == [15.0]
    assert "15.0 µs" in result.findings[0]
    assert "75%" in result.findings[0]
    assert [row[0] for row in result.sheets[0].rows[:3]] == ["client", "store", "sum of the parts"]


def test_a_million_sleeping_objects_are_held_against_a_gigabyte() -> None:
    """Fewer are no answer, and it says how to get one."""
    weighings = {state: [heap.Weighing(250_000_000, 400_000_000)] for state in heap.STATES}

    assert heap.outcome(1_000_000, weighings).findings[0].endswith("less than 1 GB is asked for: holds")
    assert heap.outcome(10, weighings).findings[0].endswith("--objects 1000000 asks for a million")


def test_outcomes_survive_the_file_and_become_tables_and_charts(tmp_path: Path) -> None:
    """Two stores of one experiment stand in one table."""
    found = [fairness.outcome(store, {"writes": [pair(1, 1.5)]}) for store in ("sqlite", "postgres")]
    write_json(tmp_path / "result.json", Results({}, experiments=found).document())

    again = read(tmp_path / "result.json")

    assert again.experiments == found
    shown = list(tables(again.experiments))
    assert [getattr(one, "row_count", one) for one in shown] == [
        2,
        *(f"fairness, {each.store}: {each.findings[0]}" for each in found),
    ]
    assert [path.name for path in draw(again, tmp_path)] == ["fairness-sqlite.svg", "fairness-postgres.svg"]


async def test_each_part_of_a_call_takes_processor_time_of_its_own(tmp_path: Path) -> None:
    """Client, socket and shard, on real inputs; the changes are what a store would get."""
    ids = [f"part-{number}" for number in range(20)]

    found, changes = await shard_parts(ids, 8, 40)

    assert min(found.unpack, found.dispatch, found.turn, found.encode_state, found.encode_reply, found.gate) > 0
    assert {change.address.object_id for change in changes} <= set(ids)
    assert await client_ns(ids, 8, 40) > 0
    assert await socket_ns(tmp_path, 300, 60, 20) > 0


def test_processor_time_of_processes_that_ended_is_kept() -> None:
    """What was seen of them at the last look."""
    child = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    group = Cpu(pids=[os.getpid(), child.pid])
    before = group.seconds()
    child.communicate(b"\n")

    assert group.seconds() >= before > 0


@pytest.mark.processes
async def test_filled_objects_are_there_for_the_engine(tmp_path: Path) -> None:
    """Each in its shard, with what it has counted, and written to afterwards as any other."""
    url = f"sqlite:///{tmp_path / 'store'}"
    await fill(url, range(30), 2)
    await fill(url, range(30, 50), 2)

    async with Engine(url, objects=[Counter], shards=2) as engine:
        counters = [engine.at(Counter, stored_id(number)) for number in range(50)]
        assert await asyncio.gather(*(each.get() for each in counters)) == [count_of(number) for number in range(50)]
        assert await counters[7].increment() == count_of(7) + 1


@pytest.mark.processes
async def test_hot_callers_fill_a_mailbox_and_stop_when_they_are_told(tmp_path: Path) -> None:
    """Those that find no place are refused; after a pause nothing is under way."""
    url = f"ipc://{tmp_path / 'server'}"
    words = ["run", "durable_bench.experiments.objects", "--shards", "1", "--store", "memory://", "--bind", url]
    server = await asyncio.create_subprocess_exec(sys.executable, "-m", "durable_engine", *words, stderr=-3)
    try:
        async with HotCallers.of(url, "hot", "increment_slowly", fairness.MAILBOX + 50) as crowd:
            await crowd.begin()
            counts = await crowd.pause()
            again = await crowd.pause()
    finally:
        server.terminate()
        await server.wait()

    assert counts["answered"] + counts["refused"] >= fairness.MAILBOX + 50
    assert counts["refused"] > 0
    assert again == counts


def bench(path: Path, *words: str) -> Results:
    """The command, to its end; what it wrote."""
    command = [sys.executable, "-m", "durable_bench", *words, *TINY, "--json", str(path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=100, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    found = read(path)
    assert all(finding in " ".join(done.stdout.split()) for one in found.experiments for finding in one.findings)
    return found


@pytest.mark.processes
def test_every_experiment_runs_and_says_what_it_found(tmp_path: Path) -> None:
    """One outcome each, with tables, repetitions and sentences; a curve for each number of places."""
    found = bench(tmp_path / "result.json", "experiments", "--stores", "sqlite").experiments

    assert [one.experiment for one in found] == list(EXPERIMENTS)
    assert all(one.sheets[0].rows and one.findings and one.figures for one in found)
    pictures = {one.experiment: one.pictures[0] for one in found if one.pictures}
    assert pictures.keys() == {"fairness", "startup", "scaling", "knee"}
    assert all(len(curve.xs) == len(curve.ys) for one in pictures.values() for curve in one.curves)
    assert all(earlier < later for earlier, later in pairwise(pictures["knee"].curves[0].xs))
    assert len(next(one for one in found if one.experiment == "fairness").figures["writes.ratio"]) == 5


@pytest.mark.processes
@pytest.mark.postgres
def test_parts_and_start_up_are_measured_on_postgres(tmp_path: Path) -> None:
    """Where the database is a process of its own, its processor time is a part."""
    by_name = {
        one.experiment: one
        for one in bench(tmp_path / "r.json", "parts", "startup", "--stores", "postgres").experiments
    }

    assert "store: database" in by_name["parts"].figures
    assert by_name["startup"].figures.keys() == {"0.first", "0.every", "40.first", "40.every"}
