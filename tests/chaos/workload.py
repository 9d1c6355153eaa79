"""What a client does next: a seeded mix of operations over lanes of objects, and how each is carried through."""

from __future__ import annotations

import asyncio
import random
import time
from collections import Counter, deque
from dataclasses import dataclass, field
from typing import Any

from durable_engine import Engine
from durable_engine.errors import DurableError, Rejected
from tests.chaos.limits import ACCOUNTS, ALARM_ENTRIES_MAX, ALWAYS, ENTRIES_MAX
from tests.chaos.records import Op, Outcome, Recorder

LANES = {"Log": 32, "Bank": 8, "Timers": 8}
TIMEOUT_SECONDS = 3.0
PAUSE_SECONDS = 0.02
"""Before a client tries again after an error, at least; up to ten times as long."""
FAR_SECONDS = 24 * 3600.0
MIX = {
    "append": 44,
    "read": 24,
    "transfer": 10,
    "audit": 4,
    "relay": 3,
    "send": 3,
    "arm": 6,
    "cancel": 2,
    "look": 4,
}
KINDS, WEIGHTS = [*MIX], [*MIX.values()]


@dataclass
class Counts:
    """What one client was told, attempt by attempt."""

    calls: int = 0
    replies: int = 0
    errors: int = 0
    in_flight: int = 0
    acknowledged: int = 0
    unknown: int = 0
    """Operations that stayed so."""
    kinds: Counter[str] = field(default_factory=Counter)
    """Errors by type and outcome."""


@dataclass
class Plan:
    """One operation to be."""

    cls: str
    lane: int
    kind: str
    args: list[Any] = field(default_factory=list)
    asked: Any = None
    has_effect: bool = True


class Workload:
    """The operations of one client process."""

    def __init__(
        self, engine: Engine, record: Recorder, client: int, chance: random.Random, *, exactly_once: bool
    ) -> None:
        self.counts = Counts()
        self.settled = asyncio.Event()
        """Set by each operation that ends."""
        self.until = float("inf")
        """When an operation whose outcome is unknown is no longer repeated."""
        self._engine = engine
        self._record = record
        self._client = client
        self._chance = chance
        self._exactly_once = exactly_once
        self.generations = {cls: [0] * count for cls, count in LANES.items()}
        """The object of each lane that is not full yet, as far as this client knows."""
        self._armed: deque[tuple[str, str]] = deque(maxlen=200)
        """Object and name of alarms that may still be there."""
        self._last_token = client << 32

    async def step(self) -> None:
        """One operation of the mix."""
        chance = self._chance
        kind = chance.choices(KINDS, WEIGHTS)[0]
        plan: Plan = getattr(self, f"_{kind}")()
        generation = self.generations[plan.cls][plan.lane]
        if not plan.has_effect and generation and chance.random() < 0.1:
            generation -= 1  # it may have left memory meanwhile
        object_id = f"{plan.lane}-{generation}"
        if kind == "cancel" and self._armed:
            object_id, name = self._armed.popleft()
            plan.args = [name]
            plan.asked = [name]
        keyed = plan.has_effect and not self._exactly_once and chance.random() < 0.5
        op = await self.perform(plan, object_id, keyed=keyed)
        if op.outcome != "ok" and op.version < 0:
            await self.breathe()
        most = ALARM_ENTRIES_MAX if plan.cls == "Timers" else ENTRIES_MAX
        if op.version >= most and self.generations[plan.cls][plan.lane] == generation:
            self.generations[plan.cls][plan.lane] += 1
        if kind == "arm" and op.outcome == "ok":
            self._armed.append((object_id, plan.asked[0]))

    async def perform(self, plan: Plan, object_id: str, *, keyed: bool) -> Op:
        """Call, again while the outcome of a keyed operation is unknown, and record what became of it."""
        token = self._next_token() if plan.has_effect else 0
        key = f"{self._client}-{token:x}" if keyed else None
        args = [token, *plan.args] if plan.has_effect else plan.args
        counts = self.counts
        counts.in_flight += 1
        invoked = time.monotonic()
        maybe = False
        while True:
            counts.calls += 1
            outcome: Outcome = "ok"
            try:
                shown = await self._engine.call_by_name(
                    plan.cls, object_id, plan.kind, args, {}, timeout=TIMEOUT_SECONDS, idempotency_key=key
                )
                counts.replies += 1
                break
            except DurableError as error:
                counts.errors += 1
                counts.kinds[f"{type(error).__name__} {error.outcome}"] += 1
                outcome, shown = error.outcome, shown_by(error)
            maybe = maybe or outcome == "unknown"
            if outcome == "applied" or not maybe or isinstance(shown, dict):
                break
            outcome = "unknown"
            if key is None or time.monotonic() >= self.until:
                break
            await self.breathe()
        answered = None if outcome == "unknown" else time.monotonic()
        counts.in_flight -= 1
        counts.acknowledged += outcome == "ok"
        counts.unknown += outcome == "unknown"
        op = op_of(self._client, plan, object_id, token, keyed, invoked, answered, outcome, shown)
        self._record(op)
        self.settled.set()
        return op

    async def breathe(self) -> None:
        """After an error, before the next call."""
        await asyncio.sleep(PAUSE_SECONDS * self._chance.uniform(1, 10))

    def _next_token(self) -> int:
        self._last_token += 1
        return self._last_token

    def _lane(self, cls: str) -> int:
        return self._chance.randrange(LANES[cls])

    def _append(self) -> Plan:
        return Plan("Log", self._lane("Log"), "append")

    def _read(self) -> Plan:
        return Plan("Log", self._lane("Log"), "read", has_effect=False)

    def _relay(self, kind: str = "relay") -> Plan:
        lane, other = sorted(self._chance.sample(range(LANES["Log"]), 2))
        target = f"{other}-{self.generations['Log'][other]}"
        return Plan("Log", lane, kind, [target], f"Log/{target}")

    def _send(self) -> Plan:
        return self._relay("send")

    def _transfer(self) -> Plan:
        source, target = self._chance.sample(range(ACCOUNTS), 2)
        move = [source, target, self._chance.randint(1, 60)]
        return Plan("Bank", self._lane("Bank"), "transfer", move, move)

    def _audit(self) -> Plan:
        return Plan("Bank", self._lane("Bank"), "audit", has_effect=False)

    def _look(self) -> Plan:
        return Plan("Timers", self._lane("Timers"), "look", has_effect=False)

    def _arm(self) -> Plan:
        chance = self._chance
        luck = chance.random()
        left, every, fails, seconds = 0, 0.0, 0, chance.uniform(0, 5)
        if luck < 0.08:
            seconds += FAR_SECONDS
        elif luck < 0.16:
            left = chance.randint(1, 3)
        elif luck < 0.20:
            left, every = chance.randint(2, 5), 0.3
        elif luck < 0.23:
            fails = chance.randint(1, 2)
        elif luck < 0.235:
            fails = ALWAYS
        due = round(time.time() + seconds, 3)
        asked = [f"n{self._last_token + 1}", due, left, every, fails]
        return Plan("Timers", self._lane("Timers"), "arm", asked, asked)

    def _cancel(self) -> Plan:
        return Plan("Timers", self._lane("Timers"), "cancel", ["nothing"], ["nothing"])


def shown_by(error: DurableError) -> Any:
    """Of a rejection that shows the journal: its fields, with its name."""
    if not isinstance(error, Rejected):
        return None
    return {"rejected": error.fields.get("reason", "?"), "shown": error.fields.get("shown")}


def op_of(
    client: int,
    plan: Plan,
    object_id: str,
    token: int,
    keyed: bool,
    invoked: float,
    answered: float | None,
    outcome: Outcome,
    shown: Any,
) -> Op:
    """The record. An answer shows [length, last token, chain, incarnation] and more."""
    value, version, epoch = None, -1, 0
    if isinstance(shown, dict):
        reason, shown = shown["rejected"], shown["shown"]
        value = [reason]
        if shown is not None:
            version, last, chain, epoch = shown
            value = [reason, last, chain]
    elif outcome == "ok":
        version, last, chain, epoch, *more = shown
        value = [last, chain, *more]
    return Op(
        client,
        f"{plan.cls}/{object_id}",
        plan.kind,
        token,
        keyed,
        invoked,
        answered,
        outcome,
        value,
        epoch,
        version,
        plan.asked,
    )
