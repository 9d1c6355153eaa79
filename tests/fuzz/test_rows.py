"""Stored rows with contents that the engine did not write: a typed error for their object, and nothing for others."""

from __future__ import annotations

import asyncio
import json
from datetime import UTC, datetime
from itertools import count
from typing import Any

import msgpack
from hypothesis import example, given
from hypothesis import strategies as st

from durable_engine import DurableObject, alarm, field, handler
from durable_shards.wire import FLAG_AUTO_KEY
from durable_storage.address import Address
from durable_storage.errors import DurableError
from durable_storage.store import AlarmRow, Change, ResultRow
from tests.contract.rigs import Rig, change
from tests.fuzz import frames
from tests.fuzz.budget import budget, watched
from tests.shards.harness import Harness

LATER = datetime(2100, 1, 1, tzinfo=UTC)
WAIT_SECONDS = 60.0


class Stored(DurableObject, schema_version=2):
    """What is loaded from such rows."""

    count: int = 0
    log: list[str] = field(default_factory=list)

    @classmethod
    def migrate(cls, version: int, data: dict[str, Any]) -> dict[str, Any]:
        data["count"] = data.pop("counted")
        return data

    @handler
    def increment(self) -> int:
        self.count += 1
        return self.count

    @handler(readonly=True)
    def get(self) -> int:
        return self.count

    @alarm
    def ring(self, payload: Any) -> None:
        self.log.append(str(payload))


_json = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.floats(allow_nan=False) | st.text(max_size=6),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)
_fields = st.dictionaries(st.sampled_from(["count", "counted", "log", "$schema", "more"]), _json, max_size=4)
_texts = st.builds(lambda it: json.dumps(it).encode(), _fields | _json)


def _nested(depth: int) -> bytes:
    return b'{"log":' + b"[" * depth + b"]" * depth + b"}"


def _damage(text: bytes, at: int, junk: bytes) -> bytes:
    at %= len(text) + 1
    return text[:at] + junk + text[at + len(junk) :]


contents = (
    _texts
    | st.builds(_damage, _texts, st.integers(0, 60), st.binary(max_size=3))
    | st.builds(_nested, st.sampled_from([5, 500, 5_000]))
    | st.binary(max_size=20)
    | st.sampled_from([b'{"count":1e400}', b'{"count":NaN}', b'{"count":1,"count":"x"}', b"\xef\xbb\xbf{}", b""])
)
results = st.builds(msgpack.packb, frames.leaves) | st.binary(max_size=12) | st.sampled_from(frames.BOMBS)
alarms = st.builds(
    AlarmRow,
    st.sampled_from(["ring", "gone"]),
    st.just(LATER),
    st.none() | contents,
    st.integers(0, 2**31 - 1),
    recurrence=st.none()
    | st.text(st.characters(exclude_characters="\0", codec="utf-8"), max_size=12)
    | st.sampled_from(['{"every":1}', '{"every":-1}', '{"cron":"* * * * *","tz":"Nowhere"}', "[]", '{"every":1e400}']),
    tick=st.none() | st.just(LATER),
    problem=st.none() | st.just("it failed"),
    is_parked=st.booleans(),
)


class Loaded:
    """A shard on a store, whose rows are changed behind its back while it is idle."""

    def __init__(self, rig: Rig) -> None:
        self.rig = rig
        self.harness = Harness([Stored], store=rig.new_store())  # type: ignore[arg-type]
        self.numbers = count(1)
        self.honest = 0
        self.told = 0

    async def meet(self, state: bytes, result: bytes, row: AlarmRow) -> None:
        """Put it into a row, and do all to its object that can be done."""
        number = next(self.numbers)
        object_id, key = f"o{number % 4}", f"k{number}"
        for handler_ in ("$evict", "$delete"):
            await self.ask(object_id, handler_)
        kept = ResultRow(key, 0, result, LATER)
        await self.put(change(Address("", "Stored", object_id), state, 7, alarms_set=(row,), results=(kept,)))
        for handler_, args, more in (
            ("increment", [], {"key": key, "flags": FLAG_AUTO_KEY}),
            ("get", [], {}),
            ("$state", [], {}),
            ("$alarms", [], {}),
            ("$pending", [], {}),
            ("$retry", [None], {}),
            ("$fire", [row.name, None], {}),
            ("increment", [], {}),
            ("$evict", [], {}),
            ("get", [], {}),
        ):
            await self.ask(object_id, handler_, args, **more)
        self.honest += 1
        assert await self.call("honest", "increment") == self.honest

    async def put(self, what: Change) -> None:
        await self.harness.store.commit([what])

    async def call(self, object_id: str, handler_: str, args: Any = (), **more: Any) -> Any:
        return await asyncio.wait_for(self.harness.call(Stored, object_id, handler_, args, **more), WAIT_SECONDS)

    async def ask(self, object_id: str, handler_: str, args: Any = (), **more: Any) -> None:
        """An answer or a typed error."""
        try:
            await self.call(object_id, handler_, args, **more)
        except DurableError:
            self.told += 1


async def opened(rig: Rig) -> Loaded:
    """With the rig prepared."""
    await rig.control()
    loaded = Loaded(rig)
    await loaded.harness.__aenter__()
    return loaded


def test_rows_that_nobody_wrote_harm_their_object_only(bare_rig: Rig) -> None:
    """fault F1: state, result and alarm of any content: a typed error, and the shard and its neighbours go on."""
    with asyncio.Runner() as runner, watched("durable_shards", "durable_storage") as errors:
        loaded: Loaded = runner.run(opened(bare_rig))

        @budget(60)
        @given(contents, results, alarms)
        @example(b'{"count":', b"\xc1", AlarmRow("ring", LATER, b"{", recurrence="{"))
        def fuzz(state: bytes, result: bytes, row: AlarmRow) -> None:
            runner.run(loaded.meet(state, result, row))
            assert (errors, loaded.harness.stops) == ([], [])

        try:
            fuzz()
            assert loaded.told > 0
        finally:
            runner.run(loaded.harness.__aexit__())
            runner.run(bare_rig.close())
