"""Clients, records and checker together on a server that nobody disturbs, and lies told about what they recorded."""

from __future__ import annotations

import asyncio
import json
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path

import msgspec
import pytest

from tests.chaos.at_rest import disagreements, read_at_rest
from tests.chaos.checker import check
from tests.chaos.final import Final
from tests.chaos.load import SETTINGS, Load, gather
from tests.chaos.records import Op, Recorded
from tests.chaos.replay import replay
from tests.chaos.workload import MIX
from tests.support import postgres
from tests.support.eventually import eventually
from tests.support.server import Server

pytestmark = [pytest.mark.processes, pytest.mark.xdist_group("chaos-histories")]

SHARDS = 2
OPERATIONS = 3000


@dataclass
class Run:
    """A run that went well."""

    ops: list[Op]
    final: Final
    recorded: Recorded


@pytest.fixture(scope="module")
def run() -> Iterator[Run]:
    """3,000 operations on SQLite, with a pause in the middle and a visitor at the end; read back from their files."""
    parent = postgres.shared_directory() / "tests"
    parent.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="", dir=parent, ignore_cleanup_errors=True) as name:
        server = Server(Path(name), f"sqlite:///{name}/store", **SETTINGS, shards=SHARDS)
        try:
            server.start()
            final = work(server, Path(name) / "ops")
            assert server.stop() == 0
        finally:
            server.end()
        final.store = asyncio.run(read_at_rest(str(server.settings["store"]), SHARDS))
        recorded = Recorded(Path(name) / "ops")
        yield Run([op for _, ops in recorded for op in ops], final, recorded)


def work(server: Server, folder: Path) -> Final:
    """Everything but what rests in the store."""
    with Load(server.endpoint, folder, seed=1, clients=2, in_flight=20) as load:
        advance(load, OPERATIONS // 2)
        load.pause()
        assert load.progress().in_flight == 0
        load.resume()
        advance(load, OPERATIONS)
        load.visit(100)
        healed_at = time.time()
        load.served()
        final = Final(healed_at=healed_at, liveness_seconds=60, shards=SHARDS)
        load.finish(final)
    final.ended_at = time.time()
    final.memory, final.accounts.queues = gather(server.endpoint)
    return final


def advance(load: Load, goal: int) -> None:
    """Until so many operations were acknowledged."""
    eventually(lambda: load.progress().acknowledged >= goal, timeout=60, state=load.progress)


def test_a_calm_run_keeps_every_promise(run: Run) -> None:
    """The checker has nothing to say of it, neither of the files nor of the operations in them."""
    assert check(run.recorded, run.final) == []
    assert check(run.ops, run.final) == []
    assert disagreements(run.final.store) == []


def test_a_calm_run_has_everything_in_it(run: Run) -> None:
    """All kinds of operations, with keys and without, rejections, and whatever can happen to alarms."""
    kinds = Counter(op.kind for op in run.ops if op.outcome == "ok")
    states = [json.loads(rest.state) for rest in run.final.store.values()]
    events = Counter(event[0] for state in states for event in state.get("events", []))
    assert kinds.keys() == MIX.keys()
    assert {op.keyed for op in run.ops if op.kind == "append"} == {True, False}
    assert min(run.final.acknowledged.values()) > 0
    assert {"ok", "not_applied"} <= {op.outcome for op in run.ops}
    assert {*events} == {"arm", "cancel", "fire"}
    assert {probe.completed for probe in run.final.probes} == {5}
    assert len(run.final.probes) == 4
    assert run.recorded.count == len(run.ops) > OPERATIONS


def test_an_acknowledged_operation_that_the_store_lost_is_missed(run: Run) -> None:
    """Its entry, and those that followed, are taken out of the store."""
    final = deepcopy(run.final)
    op = next(op for op in run.ops if op.kind == "append" and op.outcome == "ok")
    name = op.object
    shortened(final, name, op.version - 1)

    assert ("I1", name) in {(found.invariant, found.where) for found in check(run.ops, final)}


def test_an_operation_that_nobody_made_is_found(run: Run) -> None:
    """An acknowledged one is taken out of the records: its entry is of nobody."""
    gone = next(op for op in run.ops if op.kind == "append" and op.outcome == "ok")

    found = check([op for op in run.ops if op is not gone], run.final)

    assert [(each.invariant, each.where) for each in found] == [("I2", gone.object)]


def test_a_message_that_never_arrived_is_missed(run: Run) -> None:
    """Nothing struck that could have lost it: the last one is taken out of its target."""
    final = deepcopy(run.final)
    tokens = {op.token: op.asked for op in run.ops if op.kind == "send" and op.outcome == "ok"}
    states = {name: json.loads(final.store[name].state) for name in {*tokens.values()}}
    lost, name = next((token, name) for token, name in tokens.items() if token in states[name]["tokens"])
    shortened(final, name, states[name]["tokens"].index(lost))

    found = [each.what for each in check(run.ops, final) if (each.invariant, each.where) == ("I1", name)]

    assert any(f"token={lost}" in what for what in found)


def test_answers_that_were_swapped_are_found(run: Run) -> None:
    """Two clients of one object are given each other's."""
    appends = [op for op in run.ops if op.kind == "append" and op.outcome == "ok"]
    one = appends[0]
    other = next(op for op in appends if op.object == one.object and op.token != one.token)
    lies = {id(one): told(one, other), id(other): told(other, one)}

    found = check([lies.get(id(op), op) for op in run.ops], run.final)

    assert {("I4", one.object)} <= {(each.invariant, each.where) for each in found}


def test_a_read_that_comes_late_is_stale(run: Run) -> None:
    """The first read of a journal, told as if it had been the last operation of all."""
    last = max(op.answered for op in run.ops if op.answered is not None)
    shown = Counter[str]()
    for op in run.ops:
        if op.outcome == "ok":
            shown[op.object] = max(shown[op.object], op.version)
    read = next(op for op in run.ops if op.kind == "read" and 0 <= op.version < shown[op.object])
    late = msgspec.structs.replace(read, client=77, invoked=last + 1, answered=last + 2)

    found = check([late if op is read else op for op in run.ops], run.final)

    assert [(each.invariant, each.where) for each in found] == [("I4", read.object)]


def test_an_alarm_that_left_the_store_is_missed(run: Run) -> None:
    """Its row alone, or its row and its name in the state."""
    final = deepcopy(run.final)
    name = next(name for name, rest in final.store.items() if any(not row.is_parked for row in rest.alarms.values()))
    rows = final.store[name].alarms
    del rows[next(each for each, row in rows.items() if not row.is_parked)]
    assert [(found.invariant, found.where) for found in check(run.ops, final)] == [("I7", name)]

    state = json.loads(final.store[name].state)
    state["armed"] = {each: row.token for each, row in rows.items()}
    final.store[name] = final.store[name]._replace(state=json.dumps(state).encode())
    final.memory = None
    assert [(found.invariant, found.where) for found in check(run.ops, final)] == [("I6", name)]


def shortened(final: Final, name: str, length: int) -> None:
    """A log has lost what follows."""
    rest = final.store[name]
    state = json.loads(rest.state)
    del state["tokens"][length:]
    state["chain"] = replay("Log", rest).chains[length]
    final.store[name] = rest._replace(state=json.dumps(state).encode(), version=length)


def told(op: Op, other: Op) -> Op:
    """An operation with the answer to another one."""
    return msgspec.structs.replace(op, value=other.value, version=other.version, epoch=other.epoch)
