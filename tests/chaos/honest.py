"""The objects of the chaos servers served by hand, one call after the other: histories that are right, to be spoilt."""

from __future__ import annotations

import asyncio
import dataclasses
from typing import Any

import msgspec

from durable_engine.errors import DurableError
from tests.chaos.final import Accounts, AtRest, Final, Probe, Row
from tests.chaos.journal import _Process
from tests.chaos.objects import Bank, Log, Saboteur, Timers, moment
from tests.chaos.records import Op
from tests.chaos.workload import Plan, op_of, shown_by

CLASSES: dict[str, Any] = {"Log": Log, "Bank": Bank, "Timers": Timers, "Saboteur": Saboteur}
READERS = ("read", "audit", "look")


class Honest:
    """Objects, what their clients saw, and the rows of their alarms.

    One call begins each second, from 1.0 on, and takes a tenth of it.
    """

    def __init__(self) -> None:
        self.objects: dict[str, Any] = {}
        self.ops: list[Op] = []
        self.rows: dict[str, dict[str, Row]] = {}
        self.token = 0
        self.epoch = 1
        self._now = 0.0

    def do(self, name: str, kind: str, *args: Any, client: int = 0, outcome: Any = "ok") -> Op:
        """A call. With an outcome other than "ok" its effect is there if it is "applied" or "unknown"."""
        token = 0
        if kind not in READERS:
            self.token += 1
            token = self.token
        plan = Plan(name.partition("/")[0], 0, kind, [*args], args[0] if kind in ("relay", "send") else [*args])
        self._now += 1
        shown: Any = None
        if outcome != "not_applied":
            outcome, shown = self._run(name, kind, token, args, outcome)
        answered = None if outcome == "unknown" else self._now + 0.1
        number = name.partition("/")[2]
        op = op_of(client, plan, number, token, False, self._now, answered, outcome, shown)
        self.ops.append(op)
        return op

    def _run(self, name: str, kind: str, token: int, args: tuple[Any, ...], outcome: Any) -> tuple[Any, Any]:
        _Process.born = self.epoch
        before = self.state(name)
        target = self.object(name)
        if kind in ("relay", "send"):
            asyncio.run(_call(self.object(args[0]), "receive" if kind == "send" else "append", [token]))
            kind, args = "append", ()
        try:
            shown = asyncio.run(_call(target, kind, [token, *args] if token else [*args]))
        except DurableError as error:
            for field, value in before.items():
                setattr(target, field, value)
            return error.outcome, shown_by(error)
        self._schedule(name, kind, token, args)
        return outcome, shown if outcome == "ok" else None

    def _schedule(self, name: str, kind: str, token: int, args: tuple[Any, ...]) -> None:
        rows = self.rows.setdefault(name, {})
        if kind == "arm":
            rows[args[0]] = Row(moment(args[1]), token, 0, False)
        elif kind == "cancel":
            rows.pop(args[0], None)

    def fire(self, name: str, alarm: str) -> None:
        """The alarm's method is run, for the time of its row; the row is replaced by that of the next time, if any."""
        _Process.born = self.epoch
        target = self.object(name)
        row = self.rows[name].pop(alarm)
        events = [event for event in target.events if event[1] == alarm]
        _, _, _, left, every, fails = next(event for event in reversed(events) if event[0] == "arm")
        step = len([event for event in events if event[0] == "fire"])
        payload = {"token": row.token, "step": step, "left": left, "every": every, "fails": fails}
        if not every:
            payload["left"] -= step
        target.handle_alarm(alarm, payload, row.at, fails)
        if alarm in target.armed:
            due = row.at.timestamp() + every if every else target.events[-1][-1]
            self.rows[name][alarm] = row._replace(at=moment(due))

    def object(self, name: str) -> Any:
        """Made when it is first asked for."""
        if name not in self.objects:
            self.objects[name] = CLASSES[name.partition("/")[0]]()
        return self.objects[name]

    def state(self, name: str) -> dict[str, Any]:
        """As it would be stored."""
        found: dict[str, Any] = msgspec.json.decode(msgspec.json.encode(dataclasses.asdict(self.object(name))))
        return found

    def final(self) -> Final:
        """What is left at the end; everything about the run as a whole is in order."""
        store = {}
        for name in self.objects:
            state = self.state(name)
            if state.get("tokens"):
                store[name] = AtRest(msgspec.json.encode(state), len(state["tokens"]), self.rows.get(name, {}))
        calls = len(self.ops)
        return Final(
            store=store,
            memory={name: rest.state for name, rest in store.items()},
            probes=[Probe(client, shard, 5, 0.1) for client in range(2) for shard in range(2)],
            clients=2,
            shards=2,
            acknowledged={"own keys": 3, "automatic keys": 3},
            accounts=Accounts(calls, calls, 0, calls, 0, 0, {"shard 0 gated": 0}),
            faults={"kill": 3},
        )


async def _call(target: Any, kind: str, args: list[Any]) -> Any:
    return await getattr(target, kind)(*args)
