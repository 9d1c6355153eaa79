"""One bad call, object or caller takes nobody else down: the others of its message, batch and query are served."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from durable_engine import DurableError, HandlerFailed, InvalidArguments, ObjectParked, Overloaded, Rejected, TooLarge
from durable_shards.board import PAGE_BYTES, ShardBoard
from durable_shards.errors import error_to_wire
from durable_shards.peers import FuturePeer
from durable_shards.wire import Call
from durable_storage.address import Address
from durable_storage.limits import ID_BYTES_MAX, NAME_BYTES_MAX
from durable_storage.memory import _Row
from tests.shards.hard_objects import Mute, Probe, gates
from tests.shards.harness import Harness, answered, settle


class Full(Harness):
    """Its frontend takes no calls to the object "full"."""

    def call(self, object_type: Any, object_id: str, *rest: Any, **options: Any) -> asyncio.Future[Any]:
        if object_id == "full":
            raise Overloaded("too many calls are under way")
        return super().call(object_type, object_id, *rest, **options)


async def test_a_one_way_call_that_cannot_be_sent_does_not_stop_its_batch() -> None:
    """The turn is durable and answered, and so is the rest of the commit."""
    async with Full([Probe]) as h:
        await asyncio.gather(h.call(Probe, "a", "increment"), h.call(Probe, "b", "increment"))
        h.world.hold()
        h.call(Probe, "a", "increment")
        await settle()
        adding, telling, other = h.together(
            Call(0, "Probe", "a", "increment"),
            Call(0, "Probe", "a", "tell", ["full"]),
            Call(0, "Probe", "b", "increment"),
        )
        await settle()
        h.world.release()
        assert (await answered(adding), await answered(telling), await answered(other)) == (3, None, 2)


async def test_a_one_way_call_to_an_impossible_id_undoes_its_turn() -> None:
    """It is refused where it is made, while the handler can still hear of it."""
    async with Harness([Probe]) as h:
        with pytest.raises(InvalidArguments):
            await h.call(Probe, "a", "tell", [""])


async def test_unreadable_state_takes_no_other_object_with_it() -> None:
    """Looking at a damaged row is answered with an error; the objects of the same query are loaded."""
    async with Harness([Probe]) as h:
        h.world.objects[Address("", "Probe", "broken")] = _Row(b"{not json", 1, 0)
        looking, fine = h.together(Call(0, "Probe", "broken", "$state"), Call(0, "Probe", "fine", "get"))
        assert await answered(fine) == 0
        with pytest.raises(DurableError):
            await answered(looking)


async def test_an_exception_without_text_is_answered() -> None:
    """Its caller hears HandlerFailed, and the next call of the same message is run."""
    async with Harness([Probe]) as h:
        await h.call(Probe, "a", "get")
        failing, innocent = h.together(Call(0, "Probe", "a", "nameless"), Call(0, "Probe", "b", "increment"))
        assert await answered(innocent) == 1
        with pytest.raises(HandlerFailed):
            await answered(failing)
        assert await h.call(Probe, "a", "get") == 0


async def test_an_exception_without_text_after_an_await_frees_the_mailbox() -> None:
    """The call that waited behind the failing turn is run."""
    async with Harness([Probe]) as h:
        failing = h.call(Probe, "a", "nameless_later")
        await settle()
        waiting = h.call(Probe, "a", "increment")
        await settle()
        gates["a"].set()
        assert await answered(waiting) == 1
        with pytest.raises(HandlerFailed):
            await answered(failing)


async def test_an_argument_whose_class_raises_anything_is_refused() -> None:
    """A KeyError out of a dataclass's own check is an invalid argument like others."""
    async with Harness([Probe]) as h:
        bad, innocent = h.together(Call(0, "Probe", "a", "within", [{"low": 1}]), Call(0, "Probe", "b", "increment"))
        assert await answered(innocent) == 1
        with pytest.raises(InvalidArguments):
            await answered(bad)


@pytest.mark.parametrize("prefix", ["x" * 10_000, "a\0b", "\ud800"])
async def test_a_prefix_that_cannot_be_one_is_refused(prefix: str) -> None:
    """Too long, NUL, no text: nothing is stored under it."""
    async with Harness([Probe]) as h:
        bad, innocent = h.together(
            Call(0, "Probe", "a", "increment", prefix=prefix), Call(0, "Probe", "b", "increment")
        )
        assert await answered(innocent) == 1
        with pytest.raises((InvalidArguments, TooLarge)):
            await answered(bad)
        assert not any(address.prefix for address in h.world.objects)


async def test_the_longest_address_fits_the_board() -> None:
    """The page on which a shard says whose turn runs is written within its bounds, whatever the object is called."""
    h = Harness([Probe])
    h.shard.board = ShardBoard(memoryview(bytearray(PAGE_BYTES)))
    prefix, object_id = "p" * NAME_BYTES_MAX, "/" * ID_BYTES_MAX
    async with h:
        long, innocent = h.together(
            Call(0, "Probe", object_id, "increment", prefix=prefix), Call(0, "Probe", "b", "increment")
        )
        assert (await answered(long), await answered(innocent)) == (1, 1)


async def test_a_key_that_is_no_text_harms_nobody() -> None:
    """Its call and its neighbour in the message are both run."""
    async with Harness([Probe]) as h:
        bad, innocent = h.together(Call(0, "Probe", "a", "increment", key="\ud800"), Call(0, "Probe", "b", "increment"))
        assert await answered(innocent) == 1
        assert await answered(bad) == 1


async def test_a_stored_result_that_fits_no_reply_any_more_is_answered() -> None:
    """A retry whose peer cannot take the first result hears TooLarge, and that the call was applied."""

    class Choosy(FuturePeer):
        def encode(self, call: Call, version: int, result: Any) -> Any:
            raise TooLarge("not for me")

    async with Harness([Probe]) as h:
        await h.call(Probe, "a", "increment", key="k")
        future = asyncio.get_running_loop().create_future()
        retry = Call(1, "Probe", "a", "increment", key="k")
        asyncio.get_running_loop().call_soon(h.shard.receive, Choosy(future), [retry])
        with pytest.raises(TooLarge) as refused:
            await answered(future)
        assert refused.value.outcome == "applied"


def test_system_exit_after_an_await_reaches_the_caller_only() -> None:
    """fault A17: the event loop goes on: a handler cannot end the process of its neighbours."""

    async def main() -> None:
        async with Harness([Probe]) as h:
            with pytest.raises(DurableError):
                await answered(h.call(Probe, "a", "exit_later"))

    with asyncio.Runner() as runner:
        runner.run(main())


async def test_the_text_of_an_error_is_bounded() -> None:
    """17 MB of message arrive cut short: no error may exceed what one message can carry."""
    async with Harness([Probe]) as h:
        with pytest.raises(HandlerFailed) as failed:
            await h.call(Probe, "a", "wordy")
        assert len(failed.value.message) < 1 << 20


def test_an_error_with_a_field_without_text_can_be_sent() -> None:
    """Making the wire's form of an error never fails, since a whole batch of answers would fail with it."""

    class Silent:
        def __repr__(self) -> str:
            raise Mute

    class WithThing(Rejected):
        """With a thing."""

        thing: object

    assert error_to_wire(WithThing(thing=Silent()))["type"] == "Rejected"


async def test_a_context_variable_set_in_a_turn_ends_with_it() -> None:
    """Two calls of one message: what the first sets for itself, the second does not see."""
    async with Harness([Probe]) as h:
        await asyncio.gather(h.call(Probe, "a", "get"), h.call(Probe, "b", "get"))
        _, other = h.together(Call(0, "Probe", "a", "set_tenant"), Call(0, "Probe", "b", "get_tenant"))
        assert await answered(other) == "nobody"


def test_no_two_addresses_have_one_text() -> None:
    """Parked objects and chains of callers are compared as text, tenant, class and id included."""
    assert str(Address("Probe/a", "Probe", "1")) != str(Address("", "Probe", "a:Probe/1"))


async def test_an_object_that_is_parked_while_it_lives_is_run_no_more() -> None:
    """Being in memory already is no way around it; its neighbours go on."""
    async with Harness([Probe]) as h:
        await asyncio.gather(h.call(Probe, "a", "increment"), h.call(Probe, "b", "increment"))
        h.shard.parked.add("Probe/a")
        with pytest.raises(ObjectParked):
            await h.call(Probe, "a", "increment")
        assert await h.call(Probe, "b", "increment") == 2


async def test_strict_readonly_minds_alarms() -> None:
    """fault D3: a readonly handler that arms an alarm writes, so it is refused like one that changes the state."""
    async with Harness([Probe], strict_readonly=True) as h:
        with pytest.raises(HandlerFailed):
            await h.call(Probe, "a", "arm_on_the_sly")
        assert h.world.alarms == {}
