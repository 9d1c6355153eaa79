"""What a call costs by part: client, socket, shard, codec, store.

Nothing is sampled. First increments run on a real server, and the processor time that all its processes take for a
call is read off. Then each part of the way runs by itself in this process, on the same inputs and in the same portions
as were seen in that run, with nothing beside it; so each figure is processor time, waits for nobody, and can be
repeated. What the parts do not account for is shown as well: switches between threads and processes, cold caches, and
work that no part has.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import cycle
from pathlib import Path
from typing import TYPE_CHECKING, Final

from durable_bench.cpu import cpu_seconds
from durable_bench.experiments.bench_network import CountingNetwork
from durable_bench.experiments.outcome import Note, Outcome, Sheet
from durable_bench.experiments.part_client import Caller, client_ns
from durable_bench.experiments.part_shard import shard_parts
from durable_bench.experiments.part_socket import socket_ns
from durable_bench.experiments.part_store import store_ns
from durable_bench.experiments.processor import Cpu, postmaster_of
from durable_bench.experiments.stage import Stage, stage
from durable_bench.load import closed_loop
from durable_bench.objects import Counter
from durable_bench.results import Figure
from durable_bench.stores import fresh_store, temporary_directory
from durable_engine.frontend import Frontend

if TYPE_CHECKING:
    from durable_bench.runner import Plan

TITLE: Final = "processor time of a call by part: client, socket, shard, codec, store"
IN_FLIGHT: Final = 64
OBJECTS: Final = 1_000
CALLS_PER_SECOND: Final = 20_000
"""By which the work of a part is made to take about as long as a repetition."""


@dataclass(frozen=True, slots=True)
class Whole:
    """A run on a server: microseconds of processor time for each call, and the sizes of what it was made of."""

    client_us: float
    shard_us: float
    database_us: float
    calls_per_message: float
    calls_per_row: float
    rows_per_commit: float
    messages: float
    """Both ways, for each call."""

    @property
    def total_us(self) -> float:
        return self.client_us + self.shard_us + self.database_us


async def run(plan: Plan, note: Note) -> list[Outcome]:
    """On each store of the plan. Raises BenchError."""
    outcomes = []
    in_flight = plan.in_flight[0] if plan.in_flight else IN_FLIGHT
    ids = [f"parts-{number}" for number in range(plan.objects or OBJECTS)]
    for store in plan.stores:
        note(f"{store}: parts of a call, {in_flight} in flight ...")
        wholes, rounds = [], []
        for _ in range(plan.repetitions):
            async with stage(plan, store, shards=1) as here:
                wholes.append(await _whole(here, ids, in_flight, plan.seconds))
            rounds.append(await _parts(plan, store, ids, wholes[-1]))
        outcomes.append(outcome(store, in_flight, wholes, rounds))
    return outcomes


async def _whole(here: Stage, ids: list[str], in_flight: int, seconds: float) -> Whole:
    network = CountingNetwork()
    frontend = await Frontend.connect(here.url, network=network)
    try:
        caller = Caller(frontend)
        waiting = cycle([caller.at(Counter, object_id) for object_id in ids])
        pids = await here.pids()
        database = Cpu(postgres=postmaster_of(here.directory))
        await closed_loop(lambda: next(waiting).increment(), in_flight=in_flight, seconds=seconds / 4)
        batches, rows = await _written(here)
        sent, received = network.messages()
        shard, theirs = cpu_seconds(pids), database.seconds()
        sample = await closed_loop(lambda: next(waiting).increment(), in_flight=in_flight, seconds=seconds)
        shard, theirs = cpu_seconds(pids) - shard, database.seconds() - theirs
        sent, received = (now - before for now, before in zip(network.messages(), (sent, received), strict=True))
        batches, rows = (now - before for now, before in zip(await _written(here), (batches, rows), strict=True))
    finally:
        frontend.close()
    calls = sample.calls
    return Whole(
        client_us=sample.client_us,
        shard_us=shard / calls * 1e6,
        database_us=theirs / calls * 1e6,
        calls_per_message=calls / max(sent, 1),
        calls_per_row=calls / max(rows, 1),
        rows_per_commit=rows / max(batches, 1),
        messages=(sent + received) / calls,
    )


async def _written(here: Stage) -> tuple[int, int]:
    writers = [shard.statistics.writer for shard in (await here.engine.statistics()).shards if shard.statistics]
    return sum(writer.batches for writer in writers), sum(writer.rows for writer in writers)


async def _parts(plan: Plan, store: str, ids: list[str], whole: Whole) -> dict[str, float]:
    """Microseconds for each call, by part, in the order of the call's way."""
    per_message = max(1, min(round(whole.calls_per_message), len(ids)))
    messages = max(3, int(plan.seconds * CALLS_PER_SECOND / per_message))
    client = await client_ns(ids, per_message, messages)
    shard, changes = await shard_parts(ids, per_message, messages)
    with temporary_directory(plan.directory) as directory:
        socket = await socket_ns(directory, 40 * per_message, 6 * per_message, messages)
        with fresh_store(store, directory, plan.postgres) as url:
            rows = max(1, round(whole.rows_per_commit))
            ours, theirs = await store_ns(url, changes, rows, _commits(plan, rows), _database(directory))
    return {
        "client": client / 1e3,
        "socket": socket / 1e3 * whole.messages / 2,
        "shard: frames": shard.unpack / 1e3,
        "shard: dispatch": shard.dispatch / 1e3,
        "shard: turn": shard.turn / 1e3,
        "codec: state": shard.encode_state / 1e3,
        "codec: reply": shard.encode_reply / 1e3,
        "shard: writer, gate, flush": shard.gate / 1e3,
        "store: shard's side": ours / 1e3 / whole.calls_per_row,
        "store: database": theirs / 1e3 / whole.calls_per_row,
    }


def _commits(plan: Plan, rows: int) -> int:
    return max(10, int(plan.seconds * CALLS_PER_SECOND / rows))


def _database(directory: Path) -> Cpu:
    return Cpu(postgres=postmaster_of(directory))


def outcome(store: str, in_flight: int, wholes: list[Whole], rounds: list[dict[str, float]]) -> Outcome:
    """The table, with the sum beside the whole."""
    figures = {name: [one[name] for one in rounds] for name in rounds[0]}
    sums = [sum(one.values()) for one in rounds]
    totals = [one.total_us for one in wholes]
    total, added = Figure(totals).median, Figure(sums).median
    whole = wholes[-1]
    sheet = Sheet(
        f"processor time of an increment by part, µs; {in_flight} in flight, "
        f"{whole.calls_per_message:.0f} calls a message, {whole.rows_per_commit:.0f} rows a commit",
        ["part", "store", "µs a call", "spread", "of the whole"],
        [_row(name, store, values, total) for name, values in figures.items()]
        + [
            _row("sum of the parts", store, sums, total),
            _row("whole, client process", store, [one.client_us for one in wholes], total),
            _row("whole, shard process", store, [one.shard_us for one in wholes], total),
            _row("whole, database", store, [one.database_us for one in wholes], total),
            _row("whole, all processes", store, totals, total),
        ],
        names=2,
    )
    finding = (
        f"the parts add up to {added:.1f} µs, and all processes take {total:.1f} µs for a call: {added / total:.0%}. "
        "What is missing is in no part: loops and threads that wake up, and caches that another process has emptied; "
        "what is over is a batch that costs more by itself than among others"
    )
    return Outcome("parts", store, [sheet], [], [finding], figures | {"sum": sums, "whole": totals})


def _row(name: str, store: str, values: list[float], total: float) -> list[str]:
    figure = Figure(values)
    return [name, store, f"{figure.median:.2f}", f"±{figure.spread / 2:.0%}", f"{figure.median / total:.0%}"]
