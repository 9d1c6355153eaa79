"""Objects that tenants of a test have under the same ids; shard processes import them too."""

from __future__ import annotations

from datetime import timedelta

from durable_engine import DurableObject, alarm, field, handler


class Account(DurableObject):
    """Keeps what it is told, and passes it on to others of its tenant."""

    notes: list[str] = field(default_factory=list)

    @handler
    def note(self, text: str) -> int:
        self.notes.append(text)
        return len(self.notes)

    @handler(readonly=True)
    def read(self) -> list[str]:
        return self.notes

    @handler
    async def pass_on(self, other: str, text: str) -> None:
        """By all ways that a handler has, none of which names the tenant."""
        await self.engine.at(Account, other).note(f"{text} at")
        await self.engine.at("Account", other).note(f"{text} at name")
        await self.engine.call(Account.note, other, f"{text} call")
        await self.engine.call_by_name("Account", other, "note", [f"{text} call_by_name"])
        self.engine.send(Account.note, other, f"{text} send")

    @handler
    async def abroad(self, prefix: str, other: str, text: str) -> None:
        """To another tenant, which has to be named."""
        await self.engine.at(Account, other, prefix=prefix).note(text)

    @handler
    def remind(self, other: str) -> None:
        self.alarms.schedule(Account.reminder, after=timedelta(0), payload=other)

    @alarm
    async def reminder(self, payload: str) -> None:
        await self.engine.at(Account, payload).note(f"reminded by {self.id}")
        self.engine.send(Account.note, payload, f"reminded by {self.id} again")
