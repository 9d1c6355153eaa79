"""Stored states meet changed classes: new, gone and retyped fields, schema versions, other names."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from datetime import timedelta
from typing import Any, ClassVar

import pytest

from durable_engine import DurableObject, Rejected, StateUnreadable, field, handler
from durable_shards.registry import spec_of
from durable_storage.address import Address
from durable_storage.memory import MemoryWorld
from tests.shards.harness import Harness
from tests.support.releases import First, Next, Second

ADDRESS = Address("", "Cart", "a")


CartOne, CartTwo, CartNext = First.Cart, Second.Cart, Next.Cart


async def world_of(cls: type, *calls: tuple[str, list[Any]]) -> MemoryWorld:
    """A world in which an object "a" of a class has answered some calls."""
    async with Harness([cls]) as h:
        for name, args in calls:
            await h.call("Cart", "a", name, args)
        return h.world


async def test_a_row_of_an_older_version_is_migrated_once_and_written_with_its_next_change() -> None:
    """The hook gets version and plain data; reads write nothing; memory and store agree from the next change on."""
    world = await world_of(CartOne, ("add", ["lamp"]), ("add", ["lamp"]))
    before = world.objects[ADDRESS].state
    CartTwo._calls.clear()
    async with Harness([CartTwo], world=world) as h:
        statements = world.statements
        assert await h.call("Cart", "a", "count", ["lamp"]) == 2
        assert await h.call("Cart", "a", "count", ["lamp"]) == 2
        assert CartTwo._calls == [(1, {"items": ["lamp", "lamp"]})]
        assert (world.objects[ADDRESS].state, world.statements) == (before, statements)
        assert await h.call("Cart", "a", "add", ["rug"]) == 3
        assert json.loads(world.objects[ADDRESS].state) == {
            "$schema": 2, "items": {"lamp": 2, "rug": 1}, "paid": False
        }  # fmt: skip
        assert world.objects[ADDRESS].version == 3
    async with Harness([CartTwo], world=world) as h:
        assert await h.call("Cart", "a", "count", ["lamp"]) == 2
    assert len(CartTwo._calls) == 1


async def test_the_stored_name_shows_the_state_without_the_version() -> None:
    """Before a migration, after it, and for an object at rest."""
    world = await world_of(CartOne, ("add", ["lamp"]))
    async with Harness([CartTwo], world=world) as h:
        at_rest = await h.call("Cart", "a", "$state")
        assert at_rest == {"state": {"items": ["lamp"]}, "version": 1, "live": False}
        await h.call("Cart", "a", "$wake")
        live = await h.call("Cart", "a", "$state")
        assert live == {"state": {"items": {"lamp": 1}, "paid": False}, "version": 1, "live": True, "schema": 2}
        assert json.loads(world.objects[ADDRESS].state) == {"items": ["lamp"]}


async def test_a_new_object_is_of_the_current_version() -> None:
    """So that nobody migrates it later."""
    CartTwo._calls.clear()
    world = await world_of(CartTwo, ("add", ["lamp"]))
    assert world.objects[ADDRESS].state == b'{"$schema":2,"items":{"lamp":1},"paid":false}'
    async with Harness([CartTwo], world=world) as h:
        assert await h.call("Cart", "a", "add", ["lamp"]) == 2
    assert CartTwo._calls == []


async def test_a_failed_turn_leaves_a_migrated_object_as_it_was() -> None:
    """The rollback is to the migrated state, and the row is what it was."""

    class Failing(CartTwo, name="Cart"):
        @handler
        def fail(self) -> None:
            self.items.clear()
            raise Rejected("no")

    world = await world_of(CartOne, ("add", ["lamp"]))
    before = world.objects[ADDRESS].state
    async with Harness([Failing], world=world) as h:
        with pytest.raises(Rejected):
            await h.call("Cart", "a", "fail")
        assert await h.call("Cart", "a", "count", ["lamp"]) == 1
        assert world.objects[ADDRESS].state == before


async def test_code_that_is_older_than_the_row_is_refused() -> None:
    """fault F2: the error says what to deploy; the row is left alone, and can be shown and deleted."""
    world = await world_of(CartTwo, ("add", ["lamp"]))
    before = world.objects[ADDRESS].state
    async with Harness([CartOne], world=world) as h:
        for _ in range(2):
            with pytest.raises(
                StateUnreadable, match="written by version 2 of the class, and this code knows version 1"
            ):
                await h.call("Cart", "a", "add", ["rug"])
        assert world.objects[ADDRESS].state == before
        assert (await h.call("Cart", "a", "$state"))["state"]["items"] == {"lamp": 1}
        assert await h.call("Cart", "a", "$delete") is True
        assert await h.call("Cart", "a", "add", ["rug"]) == 1


async def test_a_migrate_that_raises_leaves_the_row_and_may_be_tried_again() -> None:
    """fault F3: every call hears class, version and problem, until code is there that can."""
    world = await world_of(CartOne, ("add", ["lamp"]))
    world.objects[ADDRESS].state = b'{"items":[]}'
    async with Harness([CartTwo], world=world) as h:
        for _ in range(2):
            with pytest.raises(StateUnreadable) as caught:
                await h.call("Cart", "a", "add", ["rug"])
            assert caught.value.message == "Cart: migrate(version=1, ...) raised LookupError: a cart of nothing"
            assert (caught.value.outcome, caught.value.retryable) == ("not_applied", False)
        assert await h.call("Cart", "b", "add", ["rug"]) == 1
        assert world.objects[ADDRESS].state == b'{"items":[]}'

    class Mended(CartTwo, name="Cart"):
        @classmethod
        def migrate(cls, version: int, data: dict[str, Any]) -> dict[str, Any]:
            return super().migrate(version, data) if data["items"] else {}

    async with Harness([Mended], world=world) as h:
        assert await h.call("Cart", "a", "add", ["rug"]) == 1


async def test_an_object_whose_migrate_kills_the_shard_is_known_by_its_name() -> None:
    """fault A5: the board outlives the process and says whose code ran: the object is parked, not the shard."""
    told: list[bytes] = []

    class Watched(CartTwo, name="Cart"):
        @classmethod
        def migrate(cls, version: int, data: dict[str, Any]) -> dict[str, Any]:
            assert b"Cart/a" in told[-1]
            return super().migrate(version, data)

    world = await world_of(CartOne, ("add", ["lamp"]))
    async with Harness([Watched], world=world) as h:
        h.shard.board.enter = told.append
        await h.call("Cart", "a", "$wake")
    assert told


async def test_several_versions_back_are_one_call() -> None:
    """The hook is told where the row stands, and goes all the way itself."""

    class CartThree(DurableObject, name="Cart", schema_version=3):
        skus: tuple[str, ...] = ()
        _versions: ClassVar[list[int]] = []

        @handler
        def all(self) -> tuple[str, ...]:
            return self.skus

        @classmethod
        def migrate(cls, version: int, data: dict[str, Any]) -> dict[str, Any]:
            cls._versions.append(version)
            return {"skus": sorted(data["items"])}

    for older in (CartOne, CartTwo):
        world = await world_of(older, ("add", ["lamp"]), ("add", ["bed"]))
        async with Harness([CartThree], world=world) as h:
            assert await h.call("Cart", "a", "all") == ["bed", "lamp"]
    assert CartThree._versions == [1, 2]


# Without a version.


async def test_a_new_field_has_its_default_and_the_field_of_newer_code_is_kept() -> None:
    """parity 54, 55, fault F1: forwards and back again, nothing is lost."""
    world = await world_of(CartOne, ("add", ["lamp"]))
    async with Harness([CartNext], world=world) as h:
        await h.call("Cart", "a", "write", ["gift"])
    async with Harness([CartOne], world=world) as h:
        assert await h.call("Cart", "a", "add", ["rug"]) == 2
    async with Harness([CartNext], world=world) as h:
        state = (await h.call("Cart", "a", "$state"))["state"]
        assert state == {"items": ["lamp", "rug"], "note": "gift"}


async def test_a_retyped_field_names_itself_and_both_types() -> None:
    """parity 57, fault F1: it does not become something else in silence; the row stays."""

    class Retyped(DurableObject, name="Cart"):
        items: dict[str, int] = field(default_factory=dict)

        @handler
        def all(self) -> dict[str, int]:
            return self.items

    world = await world_of(CartOne, ("add", ["lamp"]))
    before = world.objects[ADDRESS].state
    async with Harness([Retyped], world=world) as h:
        with pytest.raises(StateUnreadable, match=r"Cart: state\.items: expected object, got array"):
            await h.call("Cart", "a", "all")
    assert world.objects[ADDRESS].state == before


@dataclass
class Line:
    sku: str
    amount: int = 1


class Order(DurableObject, reentrant=True, name="Cart"):
    """Holds dataclasses, and fails inside of its own turn."""

    lines: list[Line] = field(default_factory=list)

    @handler
    def more(self) -> int:
        self.lines[0].amount += 1
        return self.lines[0].amount

    @handler
    def spoil(self) -> None:
        self.lines[0].amount = 99
        raise Rejected("no")

    @handler
    async def around(self) -> int:
        try:
            await self.engine.at(Order, "a").spoil()
        except Rejected:
            self.lines[0].amount += 1
        return self.lines[0].amount


@pytest.mark.parametrize("name", ["more", "around"])
async def test_unknown_fields_inside_of_dataclasses_survive_turns(name: str) -> None:
    """parity 55, fault F2: also an inner turn that was undone in the middle of another one."""
    world = await world_of(CartOne, ("add", ["lamp"]))
    async with Harness([Order], world=world) as h:
        world.objects[ADDRESS].state = b'{"lines":[{"sku":"a","amount":1,"tax":[1]}]}'
        assert await h.call("Cart", "a", name) == 2
    assert world.objects[ADDRESS].state == b'{"lines":[{"sku":"a","amount":2,"tax":[1]}]}'


async def test_a_renamed_class_finds_its_rows_by_the_stored_name() -> None:
    """fault F1: `name=` is what is stored; the class in Python may be called, and lie, where it likes."""

    class Basket(DurableObject, name="Cart"):
        items: list[str] = field(default_factory=list)

        @handler
        def all(self) -> list[str]:
            return self.items

    world = await world_of(CartOne, ("add", ["lamp"]))
    async with Harness([Basket], world=world) as h:
        assert await h.call("Cart", "a", "all") == ["lamp"]


# What the class looks like.


def test_the_version_is_a_keyword_or_an_attribute_and_is_inherited() -> None:
    """With the hook; a subclass counts on."""

    class Attribute(DurableObject):
        schema_version = 2

    class Annotated(DurableObject):
        schema_version: ClassVar[int] = 3

    class Same(DurableObject, schema_version=4):
        schema_version = 4

    class Heir(CartTwo):
        pass

    class Further(CartTwo, schema_version=5):
        pass

    versions = [spec_of(cls).options.schema_version for cls in (CartOne, Attribute, Annotated, Same, Heir, Further)]
    assert versions == [1, 2, 3, 4, 2, 5]
    assert spec_of(Further).describe()["options"]["schema_version"] == 5
    assert spec_of(Heir).revive(b'{"items":["x"]}', None).items == {"x": 1}


def test_an_object_made_by_hand_knows_nothing_of_it() -> None:
    """The version is no field: not of the constructor, of asdict, or of what is printed."""
    cart = CartTwo(items={"lamp": 1})
    assert asdict(cart) == {"items": {"lamp": 1}, "paid": False}
    assert repr(cart).endswith("Cart(items={'lamp': 1}, paid=False)")
    live = spec_of(CartTwo).revive(b'{"$schema":2,"items":{"lamp":1}}', None)
    assert asdict(live) == asdict(cart)


async def test_hibernation_keeps_what_was_migrated() -> None:
    """Waking needs neither the store nor the hook."""
    world = await world_of(CartOne, ("add", ["lamp"]))
    CartTwo._calls.clear()
    async with Harness([CartTwo], world=world) as h:
        assert await h.call("Cart", "a", "count", ["lamp"]) == 1
        h.clock.advance(timedelta(minutes=6))  # type: ignore[union-attr]
        h.shard.idle.sweep()
        assert h.shard.directory.counts() == (0, 1)
        assert await h.call("Cart", "a", "add", ["lamp"], timeout=600) == 2
    assert len(CartTwo._calls) == 1
