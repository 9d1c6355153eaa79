"""Objects that notice what a change of their shard does to them, and the same classes as a later release has them."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from pathlib import Path

from durable_engine import DurableObject, field, handler

CODE = 1


class Journal(DurableObject, schema_version=1):
    """Takes the numbers 1, 2, 3... of each writer; whatever is missing, doubled or out of order is kept."""

    count: int = 0
    last: dict[str, int] = field(default_factory=dict)
    wrong: list[str] = field(default_factory=list)

    @handler
    def note(self, writer: str, number: int) -> int:
        if number != self.last.get(writer, 0) + 1:
            self.wrong.append(f"{writer}: {number} after {self.last.get(writer, 0)}")
        self.last[writer] = number
        self.count += 1
        return self.count

    @handler(readonly=True)
    def code(self) -> int:
        return CODE

    @handler
    async def hold(self, folder: str) -> int:
        """Run until the test says so."""
        Path(folder, "running").touch()  # noqa: ASYNC240 - the way out of this process
        while not Path(folder, "enough").exists():  # noqa: ASYNC110, ASYNC240 - and the way in
            await asyncio.sleep(0.01)
        self.count += 1
        return self.count


class Courier(DurableObject):
    """Calls a journal, which may live in another shard."""

    carried: int = 0

    @handler
    async def carry(self, journal: str, writer: str, number: int) -> int:
        await self.engine.at(Journal, journal).note(writer, number)
        self.carried += 1
        return self.carried


class Clock(DurableObject):
    """Alarms that all have to fire, once."""

    fired: dict[str, int] = field(default_factory=dict)

    @handler
    def set(self, name: str) -> None:
        self.alarms.schedule(name, after=timedelta(milliseconds=30))

    def handle_alarm(self, name: str) -> None:
        self.fired[name] = self.fired.get(name, 0) + 1


_LATER = """\
    @classmethod
    def migrate(cls, version: int, data: dict[str, Any]) -> dict[str, Any]:
        data["total"] = data.pop("count")
        return data

    @handler(readonly=True)
    def tell_total(self) -> int:
        return self.total

"""


def later_release(text: str) -> str:
    """The code of this file as a later release has it: a field has another name, and there is a handler more."""
    changes = {
        "CODE = 1": "CODE = 2",
        "schema_version=1": "schema_version=2",
        "    count: int = 0": "    total: int = 0",
        "self.count": "self.total",
        "    @handler(readonly=True)\n    def code": _LATER + "    @handler(readonly=True)\n    def code",
    }
    text = text.partition("_LATER")[0]
    for old, new in changes.items():
        assert old in text, old
        text = text.replace(old, new)
    return text
