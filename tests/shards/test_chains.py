"""Objects that call objects: the gate on the way out, circles, and reentrant classes."""

from __future__ import annotations

import asyncio

import pytest

from durable_engine import CallTimeout, DurableError, ReentrantCall
from durable_shards.outbound import CHAIN_MAX
from tests.shards.harness import Harness, answered, settle
from tests.shards.objects import Friendly, Node, Refused, Relay


async def test_a_chain_of_objects_answers() -> None:
    """Each waits for the next, on the same shard."""
    async with Harness([Node]) as h:
        assert await h.call(Node, "a", "visit", [["b", "c", "d"]]) == ["a", "b", "c", "d"]
        assert await h.call(Node, "d", "get") == 1


@pytest.mark.parametrize("path", [["a"], ["b", "a"], ["b", "c", "a"]])
async def test_a_circle_is_answered_at_once_with_its_chain(path: list[str]) -> None:
    """fault D9: no waiting for a timeout, and every turn of the circle is undone."""
    async with Harness([Node]) as h:
        with pytest.raises(ReentrantCall) as circle:
            await answered(h.call(Node, "a", "visit", [path]))
        assert circle.value.chain[0] == "Node/a"
        assert circle.value.chain[-1] == "Node/a"
        for name in {"a", *path}:
            assert await h.call(Node, name, "get") == 0


async def test_a_chain_has_a_limit() -> None:
    """fault D9: the longest one answers; of a longer one every turn is undone, since none of it had to wait."""
    names = [f"n{number}" for number in range(CHAIN_MAX + 1)]
    async with Harness([Node]) as h:
        assert await h.call(Node, "start", "visit", [names[: CHAIN_MAX - 1]]) == ["start", *names[: CHAIN_MAX - 1]]

        with pytest.raises(DurableError, match="too long") as caught:
            await h.call(Node, "start", "visit", [names])

        assert caught.value.outcome == "not_applied"
        assert await h.call(Node, "start", "get") == 1
        assert await h.call(Node, names[-1], "get") == 0


async def test_two_objects_that_call_each_other_do_not_wait_for_ever() -> None:
    """fault D9: crossing calls are a circle too."""
    async with Harness([Node]) as h:
        one = h.call(Node, "a", "change_then_call", ["b"])
        two = h.call(Node, "b", "change_then_call", ["a"])
        outcomes = await asyncio.gather(one, two, return_exceptions=True)
        assert any(isinstance(outcome, ReentrantCall) for outcome in outcomes)
        assert not any(isinstance(outcome, CallTimeout) for outcome in outcomes)


async def test_an_outgoing_call_waits_for_what_its_object_has_seen() -> None:
    """fault D10: the call leaves only when the earlier turn is durable."""
    async with Harness([Node]) as h:
        await asyncio.gather(h.call(Node, "a", "get"), h.call(Node, "b", "get"))
        h.world.hold()
        h.call(Node, "a", "bump")
        calling = h.call(Node, "a", "change_then_call", ["b"])
        await settle()
        reached = h.call(Node, "b", "get")
        await settle()
        assert await reached == 0, "the call has not left yet"
        h.world.release()
        assert await calling == 1


async def test_a_one_way_call_leaves_with_its_turn_or_not_at_all() -> None:
    """fault D10: after the commit; never when the turn was undone."""
    async with Harness([Node]) as h:
        await asyncio.gather(h.call(Node, "a", "get"), h.call(Node, "b", "get"))
        h.world.hold()
        telling = h.call(Node, "a", "tell", ["b", False])
        await settle()
        assert await answered(h.call(Node, "b", "get")) == 0
        h.world.release()
        assert await telling == 1
        await settle()
        assert await h.call(Node, "b", "get") == 1
        with pytest.raises(Refused):
            await h.call(Node, "a", "tell", ["b", True])
        await settle()
        assert await h.call(Node, "b", "get") == 1


async def test_a_reentrant_class_lets_its_own_chain_in() -> None:
    """fault D9: the inner turn runs while the outer waits, and both are stored."""
    async with Harness([Friendly, Relay]) as h:
        assert await h.call(Friendly, "f", "outer", ["inner"]) == ["outer begins", "inner", "outer ends"]


async def test_a_failing_inner_turn_leaves_the_outer_its_work() -> None:
    """Only the inner turn is undone."""
    async with Harness([Friendly, Relay]) as h:
        assert await h.call(Friendly, "f", "outer", ["failing_inner"]) == ["outer begins", "outer ends"]
        assert await h.call(Friendly, "f", "get") == ["outer begins", "outer ends"]


async def test_an_inner_turn_leaves_the_outer_its_alarms() -> None:
    """What the outer turn scheduled before it waited is neither lost nor committed by the inner one."""
    async with Harness([Friendly, Relay]) as h:
        await h.call(Friendly, "f", "outer_with_alarm", ["failing_inner"])
        assert [name for name, *_ in await h.call(Friendly, "f", "$pending")] == ["later"]
