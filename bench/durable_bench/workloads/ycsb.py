"""YCSB's core workloads (Cooper and others, 2010) on objects: a record is an object with ten fields of 100 bytes.

| | what | mapped to |
|---|---|---|
| A | half reads, half updates | `read`, and `update` of one field, which writes the record |
| B | 95 % reads, 5 % updates | the same |
| C | reads | the same |
| D | 95 % reads of what is new, 5 % inserts | an insert is the first call of an id |
| E | 95 % scans of up to 100 records, 5 % inserts | a page of ids (`engine.objects`), and a read of each |
| F | half reads, half read-modify-writes | the latter is one call: the object is its own transaction |

Records are chosen by Zipf's law with theta 0.99; in D by how new they are, in E the first one of a scan. A record
has 1,000 bytes; there are 1,000 of them, YCSB's own default, unless `--objects` says otherwise.
"""

from __future__ import annotations

import asyncio
import random
import string
from collections.abc import Awaitable, Callable, Iterator
from itertools import cycle
from typing import Any, ClassVar, Final

from durable_bench.objects import Record
from durable_bench.workloads.base import BaseWorkload, in_portions, stored_ids
from durable_bench.workloads.choices import kinds, uniform, zipfian
from durable_engine import Engine

FIELDS: Final = tuple(f"field{number}" for number in range(10))
FIELD_BYTES: Final = 100
SCAN_MAX: Final = 100
SCANS_MAX: Final = 256
"""Under way at once, so that their records (28 MB at most) fit into what a shard keeps for a client that reads slowly:
32 MiB, beyond which it drops replies. Of more callers than that the others wait for their turn."""
UPDATES: Final = "updates"
INSERTS: Final = "inserts"


class Ycsb(BaseWorkload):
    """A mix of operations; the classes below say of which."""

    group = "ycsb"
    mix: ClassVar[dict[str, float]]

    records: list[Record]
    """The oldest first."""
    _kinds: Iterator[Callable[[], Awaitable[Any]]]

    async def prepare(self, engine: Engine) -> None:
        """Insert the records."""
        await self.attach(engine)
        await in_portions(record.insert(self._fields()) for record in self.records)

    async def attach(self, engine: Engine) -> None:
        """References, and all random choices."""
        self.engine = engine
        self.records = [engine.at(Record, object_id) for object_id in self.ids()]
        seed = self.share.own_seed
        chance = random.Random(seed)
        self._texts = cycle(["".join(chance.choices(string.ascii_letters, k=FIELD_BYTES)) for _ in range(1_000)])
        self._names = cycle(chance.choices(FIELDS, k=1_009))
        self._ranks = zipfian(self.objects, seed)
        self._lengths = uniform(SCAN_MAX, seed, least=1)
        actions = {
            "read": self._read,
            "latest": self._read_latest,
            "update": self._update,
            "insert": self._insert,
            "scan": self._scan,
            "modify": self._modify,
        }
        chosen = [actions[name] for name in self.mix]
        self._kinds = (chosen[number] for number in kinds(list(self.mix.values()), seed))
        self._inserted = 0
        self._scans = asyncio.Semaphore(SCANS_MAX)

    def ids(self) -> list[str]:
        """In the order of their numbers, for scans."""
        return [f"{self.name}-{self.share.run}-{number:08d}" for number in range(self.objects)]

    def operation(self) -> Awaitable[Any]:
        """Whatever the mix says."""
        return next(self._kinds)()

    async def verify(self) -> int:
        """The records show the updates, and those that were inserted are stored."""
        ids = await stored_ids(self.engine, Record, f"{self.name}-{self.share.run}-")
        changes = await in_portions(self.engine.at(Record, object_id).changes() for object_id in ids)
        updates = self.ledger.check(self.name, UPDATES, sum(changes))
        return updates + self.ledger.check(self.name, INSERTS, len(ids) - self.objects)

    def _fields(self) -> dict[str, str]:
        return {name: next(self._texts) for name in FIELDS}

    def _read(self) -> Awaitable[Any]:
        return self.records[next(self._ranks)].read()

    def _read_latest(self) -> Awaitable[Any]:
        return self.records[-1 - next(self._ranks)].read()

    def _update(self) -> Awaitable[Any]:
        record = self.records[next(self._ranks)]
        return self.counted(UPDATES, record.update(next(self._names), next(self._texts)))

    def _modify(self) -> Awaitable[Any]:
        return self.counted(UPDATES, self.records[next(self._ranks)].read_modify_write(next(self._names)))

    async def _insert(self) -> None:
        self._inserted += 1
        # Behind all others in the order of ids; clients stay apart.
        object_id = f"{self.name}-{self.share.run}-x{self.share.client}-{self._inserted:08d}"
        record = self.engine.at(Record, object_id)
        await self.counted(INSERTS, record.insert(self._fields()))
        self.records.append(record)

    async def _scan(self) -> None:
        first = f"{self.name}-{self.share.run}-{next(self._ranks):08d}"
        async with self._scans:
            page = await self.engine.objects(Record, after=first, limit=next(self._lengths))
            await asyncio.gather(*(self.engine.at(Record, object_id).read() for object_id in page))


class YcsbA(Ycsb):
    """A store of sessions."""

    name = "ycsb-a"
    title = "YCSB A: half reads, half updates"
    mix: ClassVar = {"read": 0.5, "update": 0.5}


class YcsbB(Ycsb):
    """Tags of photos."""

    name = "ycsb-b"
    title = "YCSB B: 95 % reads, 5 % updates"
    mix: ClassVar = {"read": 0.95, "update": 0.05}


class YcsbC(Ycsb):
    """A cache of profiles."""

    name = "ycsb-c"
    title = "YCSB C: reads"
    mix: ClassVar = {"read": 1.0}


class YcsbD(Ycsb):
    """News of friends."""

    name = "ycsb-d"
    title = "YCSB D: 95 % reads of the latest, 5 % inserts"
    mix: ClassVar = {"latest": 0.95, "insert": 0.05}


class YcsbE(Ycsb):
    """Conversations in threads."""

    name = "ycsb-e"
    title = "YCSB E: 95 % scans of up to 100 records, 5 % inserts"
    in_flight = 64
    mix: ClassVar = {"scan": 0.95, "insert": 0.05}


class YcsbF(Ycsb):
    """A database of users."""

    name = "ycsb-f"
    title = "YCSB F: half reads, half read-modify-writes"
    mix: ClassVar = {"read": 0.5, "modify": 0.5}
