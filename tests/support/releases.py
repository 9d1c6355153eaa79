"""One class as several releases of a program have it, all under the stored name "Cart"."""

from __future__ import annotations

from typing import Any, ClassVar

from durable_engine import DurableObject, field, handler


class First:
    """A release."""

    class Cart(DurableObject):
        items: list[str] = field(default_factory=list)

        @handler
        def add(self, sku: str) -> int:
            self.items.append(sku)
            return len(self.items)


class Second:
    """A later one, which counts the items and has a version."""

    class Cart(DurableObject, schema_version=2):
        items: dict[str, int] = field(default_factory=dict)
        paid: bool = False
        _calls: ClassVar[list[tuple[int, dict[str, Any]]]] = []

        @handler
        def add(self, sku: str) -> int:
            self.items[sku] = self.items.get(sku, 0) + 1
            return sum(self.items.values())

        @handler(readonly=True)
        def count(self, sku: str) -> int:
            return self.items[sku]

        @classmethod
        def migrate(cls, version: int, data: dict[str, Any]) -> dict[str, Any]:
            cls._calls.append((version, dict(data)))
            if not data["items"]:
                raise LookupError("a cart of nothing")
            return {"items": {sku: data["items"].count(sku) for sku in data["items"]}}


class Next:
    """Another later one, with one field more and no version."""

    class Cart(DurableObject):
        items: list[str] = field(default_factory=list)
        note: str | None = "none"

        @handler
        def write(self, note: str) -> None:
            self.note = note
