"""A storm of alarms over many objects: who arms them, and what must hold of them whatever was killed meanwhile."""

from __future__ import annotations

import asyncio
import json
import random
import threading
from collections import Counter
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from durable_engine import Engine
from durable_engine.errors import DurableError
from durable_storage.address import Address
from durable_storage.store import AlarmRow, Claim
from durable_storage.urls import open_store
from tests.crash import storm_objects
from tests.support.eventually import eventually
from tests.support.server import Server

OBJECTS = Path(storm_objects.__file__)
COUNT = 1000
IDS = tuple(f"object-{number}" for number in range(60))
FAR = timedelta(days=1)
TIMEOUT_SECONDS = 2.0


@dataclass(frozen=True)
class Planned:
    """An alarm that is set, and what is to become of it."""

    object_id: str
    name: str
    token: str
    at: datetime
    left: int = 0
    """Armings that its firings make, one after the other; -1 for one that repeats until it is stopped."""
    every: float | None = None
    is_cancelled: bool = False
    deadly_ms: float | None = None
    """So long after its method has begun, its shard is killed; the first time only."""

    @property
    def is_far(self) -> bool:
        return self.at > datetime.now(UTC) + FAR / 2


def plan(chance: random.Random, seconds: float, *, deadly: int = 0) -> list[Planned]:
    """1,000 alarms due within so many seconds: most fire once, some chain, some repeat, some are cancelled or far.

    So many are deadly: they kill their shard, before, in or after the commit of what they did. Each is of another
    object, since one that does it again and again is parked.
    """
    now = datetime.now(UTC)
    alarms = []
    for number in range(COUNT):
        object_id, at = chance.choice(IDS), now + timedelta(seconds=chance.uniform(0, seconds))
        token, name = f"t{number}", f"n{number}"
        if number < 8:
            alarms.append(Planned(object_id, name, token, at, -1, every=0.2))
        elif number < 100:
            alarms.append(Planned(object_id, name, token, at, chance.randint(1, 5)))
        elif number < 150:
            alarms.append(Planned(object_id, name, token, at, is_cancelled=True))
        elif number < 200:
            alarms.append(Planned(object_id, name, token, at + FAR))
        elif number < 200 + deadly:
            milliseconds = chance.uniform(0, 4) if number % 3 else 0.0
            alarms.append(Planned(IDS[number - 200], name, token, at, deadly_ms=milliseconds))
        else:
            alarms.append(Planned(object_id, name, token, at))
    chance.shuffle(alarms)
    return alarms


class Arming:
    """Sets the planned alarms from a thread, half of them before the block and the others while it runs.

    Each call carries a key of its own and is repeated until it succeeds, so that each alarm is set once.
    """

    def __init__(self, server: Server, alarms: list[Planned]) -> None:
        self._server = server
        self._alarms = alarms
        self._half = threading.Event()
        self._crash: BaseException | None = None
        self._thread = threading.Thread(target=self._run)

    def __enter__(self) -> Arming:
        self._thread.start()
        assert self._half.wait(30), "the alarms could not be set"
        return self

    def __exit__(self, *_: object) -> None:
        self._thread.join()
        if self._crash is not None:
            raise self._crash

    def _run(self) -> None:
        try:
            asyncio.run(self._arm())
        except BaseException as error:
            self._crash = error
        finally:
            self._half.set()

    async def _arm(self) -> None:
        half = len(self._alarms) // 2
        async with Engine.connect(self._server.endpoint) as engine:
            await asyncio.gather(*(self._set(engine, each) for each in self._alarms[:half]))
            self._half.set()
            for begin in range(half, len(self._alarms), 20):
                await asyncio.gather(*(self._set(engine, each) for each in self._alarms[begin : begin + 20]))

    async def _set(self, engine: Engine, each: Planned) -> None:
        what = [each.name, each.token, each.at.isoformat(), each.left, each.every, each.deadly_ms]
        await insist(engine, each.object_id, "arm", what, f"arm-{each.token}")
        if each.is_cancelled:
            await insist(engine, each.object_id, "cancel", [each.name], f"cancel-{each.token}")


async def insist(engine: Engine, object_id: str, handler: str, args: list[Any], key: str) -> Any:
    """Call until it succeeds; under its key it happens once."""
    async with asyncio.timeout(60):
        while True:
            try:
                return await engine.call_by_name(
                    "Storm", object_id, handler, args, {}, timeout=TIMEOUT_SECONDS, idempotency_key=key
                )
            except DurableError as error:
                if not error.retryable and error.outcome != "unknown":
                    raise


class Runs:
    """The runs of alarm methods so far, counted outside of all stores: more than there are effects."""

    def __init__(self, path: Path) -> None:
        self.path = path
        path.touch()

    @property
    def deaths(self) -> int:
        """Deadly alarms that have struck."""
        return len([*self.path.parent.glob(f"{self.path.name}-*")])

    def __len__(self) -> int:
        return self.path.read_bytes().count(b"\n")

    def of(self, pid: int) -> int:
        return self.path.read_text().split().count(str(pid))

    def advance(self, by: int) -> None:
        """Until there were so many more."""
        goal = len(self) + by
        eventually(lambda: len(self) >= goal, state=lambda: f"{len(self)} of {goal} runs")


Found = dict[str, tuple[dict[str, Any], dict[str, AlarmRow]]]
"""Object: its state, and its rows of alarms."""


def at_rest(url: str, shards: int = 2) -> Found:
    """What the store holds while nobody owns it, read as a shard would."""

    async def read() -> Found:
        found: Found = {}
        for shard in range(shards):
            store = open_store(url)
            await store.open(Claim(f"shard-{shard}", "test", 1, "", shard, shards))
            ids = await store.list_ids("", "Storm", None, 10_000)
            loaded = await store.load([Address("", "Storm", object_id) for object_id in ids])
            for object_id, stored in zip(ids, loaded, strict=True):
                assert stored is not None
                assert stored.state is not None
                found[object_id] = (json.loads(stored.state), {row.name: row for row in stored.alarms})
            await store.close()
        return found

    return asyncio.run(read())


def check_agreement(found: Found) -> None:
    """State and rows agree: what the state says is armed has its row, with the very token, and nothing else has."""
    for object_id, (state, rows) in found.items():
        tokens = {name: json.loads(row.payload or b"")["token"] for name, row in rows.items()}
        assert tokens == state["armed"], object_id
        assert [row for row in rows.values() if row.attempts or row.is_parked] == [], object_id


def check_conservation(found: Found, alarms: list[Planned]) -> None:
    """Each alarm is where it belongs: none lost, no effect twice, none early."""
    effects = Counter((token, step, at) for state, _ in found.values() for token, step, at, _, _ in state["fired"])
    assert [effect for effect, times in effects.items() if times > 1] == [], "effects that happened twice"
    early = [mark for state, _ in found.values() for mark in state["fired"] if mark[3] < mark[2]]
    assert early == []
    for each in alarms:
        state, rows = found[each.object_id]
        marks = [mark for mark in state["fired"] if mark[0] == each.token]
        check_one(each, marks, is_cancelled=each.token in state["cancelled"], row=rows.get(each.name))


def check_one(each: Planned, marks: list[list[Any]], *, is_cancelled: bool, row: AlarmRow | None) -> None:
    """One alarm: fired as often as planned, or cancelled, or still there."""
    steps = [step for _, step, _, _, _ in marks]
    times = [datetime.fromisoformat(at) for _, _, at, _, _ in marks]
    fates = [bool(marks), is_cancelled, row is not None]
    assert sum(fates) == 1, f"{each} is fired, cancelled, pending: {fates}"
    if row is not None:
        assert row.at == each.at
        assert each.is_far
    elif is_cancelled:
        assert each.is_cancelled
    elif each.every is None:
        assert steps == list(range(each.left + 1)), each
        assert times[0] == each.at, each
    else:
        beats = [(tick - each.at) / timedelta(seconds=each.every) for tick in times]
        assert beats == sorted(beats)
        assert beats[0] == 0
        assert all(beat == int(beat) for beat in beats), beats
