"""Random histories against a dictionary: batches, takeovers, expiry, in any order."""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from durable_storage.address import Address
from durable_storage.errors import Fenced
from durable_storage.store import AlarmRow, Change, KeyExists, ResultRow, Stored
from tests.contract.rigs import NOW, MemoryRig, PostgresRig, Rig, SqliteRig, alarm, change, result

ADDRESSES = [
    Address(prefix, kind, each) for prefix in ("", "acme") for kind in ("A", "B") for each in ("1", "é\n", "🎈")
]
NAMES = st.sampled_from(["x", "y", "Z"])
ALARMS = st.builds(
    alarm,
    NAMES,
    st.integers(-5, 5),
    st.none() | st.just(b"{}"),
    st.integers(0, 3),
    recurrence=st.none() | st.just('{"every":1}'),
    tick=st.none() | st.just(NOW),
    problem=st.none() | st.just("no"),
    is_parked=st.booleans(),
)


@dataclass
class Model:
    """What a store is, in a few lines."""

    objects: dict[Address, tuple[bytes, int]] = field(default_factory=dict)
    alarms: dict[Address, dict[str, AlarmRow]] = field(default_factory=dict)
    results: dict[tuple[Address, str], ResultRow] = field(default_factory=dict)

    def apply(self, change: Change, now: Any) -> bool:
        """Whether the change was applied; it is refused for a key that is kept."""
        for row in change.results:
            kept = self.results.get((change.address, row.key))
            if kept is not None and kept.expires_at > now:
                return False
        alarms = self.alarms.setdefault(change.address, {})
        if change.delete:
            self.objects.pop(change.address, None)
            alarms.clear()
        if change.state is not None:
            self.objects[change.address] = (change.state, change.version)
        for name in change.alarms_cleared:
            alarms.pop(name, None)
        alarms.update({row.name: row for row in change.alarms_set})
        self.results.update({(change.address, row.key): row for row in change.results})
        return True

    def stored(self, address: Address) -> Stored | None:
        """As a store would load it."""
        alarms = tuple(sorted(self.alarms.get(address, {}).values()))
        state, version = self.objects.get(address, (None, 0))
        return Stored(state, version, alarms) if state is not None or alarms else None


@st.composite
def changes(draw: st.DrawFn) -> list[Change]:
    """A batch."""
    batch = []
    for where in draw(st.lists(st.sampled_from(ADDRESSES), max_size=8, unique=True)):
        armed = draw(st.lists(ALARMS, max_size=2))
        armed = list({row.name: row for row in armed}.values())
        cleared = set(draw(st.lists(NAMES, max_size=2))) - {row.name for row in armed}
        keys = draw(st.lists(st.sampled_from("kl"), max_size=2, unique=True))
        batch.append(
            change(
                where,
                draw(st.none() | st.integers(0, 99).map(lambda i: b"%d" % i)),
                draw(st.integers(1, 9)),
                alarms_set=armed,
                alarms_cleared=sorted(cleared),
                results=[result(key, draw(st.binary(max_size=3)), draw(st.integers(1, 9))) for key in keys],
                delete=draw(st.booleans()),
            )
        )
    return batch


Step = list[Change] | int | None
HISTORIES = st.lists(changes() | st.integers(1, 5) | st.none(), max_size=12)
"""Steps: a batch; some minutes that pass; another owner."""


async def play(rig: Rig, history: Sequence[Step]) -> None:
    """Play a history on a store and on the model, and compare them after each step."""
    await rig.control()
    model, store, minutes = Model(), await rig.open(), 0
    for step in history:
        if isinstance(step, int):
            minutes += step
            rig.time = NOW + timedelta(minutes=minutes)
        elif step is None:
            zombie, store = store, await rig.open(acknowledged_seq=store.seq)
            with pytest.raises(Fenced):
                await zombie.commit([change(ADDRESSES[0], b'"zombie"', 99)])
        else:
            refused = await store.commit(step)
            expected = {index for index, each in enumerate(step) if not model.apply(each, rig.time)}
            assert set(refused) == expected
            assert all(isinstance(error, KeyExists) for error in refused.values())
        assert await store.load(ADDRESSES) == [model.stored(each) for each in ADDRESSES]
        keys = [(each, key) for each in ADDRESSES for key in "kl"]
        kept = [model.results.get(key) for key in keys]
        expected_results = [row if row and row.expires_at > rig.time else None for row in kept]
        assert await store.load_results(keys) == expected_results
    await rig.close()


def check(make: Callable[[], Rig], examples: int) -> None:
    """Try `examples` histories, each on a rig of its own."""

    @settings(max_examples=examples, deadline=None, suppress_health_check=list(HealthCheck))
    @given(HISTORIES)
    def histories(history: Sequence[Step]) -> None:
        asyncio.run(play(make(), history))

    histories()


def test_memory_behaves_like_the_model() -> None:
    """parity 62: for 200 histories."""
    check(MemoryRig, 200)


def test_sqlite_behaves_like_the_model() -> None:
    """parity 62: for 40 histories."""
    with tempfile.TemporaryDirectory() as directory:
        check(lambda: SqliteRig(Path(directory) / uuid4().hex), 40)


def test_postgres_behaves_like_the_model(postgres_dsn: str) -> None:
    """parity 62: for 40 histories."""
    check(lambda: asyncio.run(emptied(postgres_dsn)), 40)


async def emptied(url: str) -> PostgresRig:
    """The one database, as good as new."""
    import asyncpg

    rig = PostgresRig(url)
    await rig.add_tenant("acme")
    connection = await asyncpg.connect(url)
    try:
        for schema in ("public", "acme"):
            await connection.execute(
                f"TRUNCATE {schema}.durable_objects, {schema}.durable_alarms, {schema}.durable_results"
            )
        await connection.execute("TRUNCATE durable_hosts")
    finally:
        await connection.close()
    return rig
