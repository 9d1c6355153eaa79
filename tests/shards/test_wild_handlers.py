"""What handlers raise, recurse into and hold on to harms nobody but the caller of that one turn."""

from __future__ import annotations

import pytest

from durable_engine import DurableError, HandlerFailed, PersistenceFailed
from tests.shards.harness import Harness, answered
from tests.shards.objects import Node
from tests.shards.wild_objects import EXITS, Wild


@pytest.mark.parametrize("name", EXITS)
@pytest.mark.parametrize("when", ["raise_now", "raise_early", "raise_late"])
async def test_whatever_is_raised_is_an_error_for_its_caller_alone(when: str, name: str) -> None:
    """fault A17, D8: sync, async, before an await and after it; neighbours and the next call are served."""
    async with Harness([Wild, Node]) as h:
        failing = h.call(Wild, "a", when, [name])
        neighbour = h.call(Node, "b", "bump")
        with pytest.raises(DurableError) as caught:
            await answered(failing)
        assert caught.value.outcome == "not_applied"
        if not (when != "raise_now" and name == "StopIteration"):  # Python turns that one into a RuntimeError
            assert isinstance(caught.value, HandlerFailed)
            assert caught.value.remote_type == name
        assert await answered(neighbour) == 1
        assert (await h.call(Wild, "a", "all"))[0] == 0
        assert h.stops == []


async def test_endless_recursion_is_an_error_for_its_caller() -> None:
    """fault D8: RecursionError, its traceback cut short, and the state as it was."""
    async with Harness([Wild]) as h:
        with pytest.raises(HandlerFailed) as caught:
            await h.call(Wild, "a", "recurse")
        assert caught.value.remote_type == "RecursionError"
        assert len(caught.value.traceback) < 20_000
        assert (await h.call(Wild, "a", "all"))[0] == 0


@pytest.mark.parametrize("handler", ["grow_deep", "return_deep"])
@pytest.mark.parametrize("depth", [2_000, 200_000])
async def test_values_without_bottom_are_refused(handler: str, depth: int) -> None:
    """fault D8, D12, D13: in the state and as a result: the turn is undone, and the shard lives."""
    async with Harness([Wild]) as h:
        with pytest.raises((HandlerFailed, PersistenceFailed)) as caught:
            await h.call(Wild, "a", handler, [depth])
        assert caught.value.outcome == "not_applied"
        assert (await h.call(Wild, "a", "all"))[0] == 0


async def test_a_state_that_contains_itself_is_refused() -> None:
    """fault D8, D13: no codec follows it for ever."""
    async with Harness([Wild]) as h:
        with pytest.raises((HandlerFailed, PersistenceFailed)) as caught:
            await h.call(Wild, "a", "hold_a_cycle")
        assert caught.value.outcome == "not_applied"
        assert (await h.call(Wild, "a", "all"))[0] == 0


async def test_arguments_and_results_are_nobody_elses() -> None:
    """fault D2: neither what the caller sent nor what it got is the list that the object keeps."""
    async with Harness([Wild]) as h:
        sent = ["sent"]
        got: list[str] = await h.call(Wild, "a", "keep", [sent])
        got.append("by the caller")
        assert (await h.call(Wild, "a", "all"))[1] == ["sent"]


async def test_defaults_are_nobody_elses() -> None:
    """fault D2: what one object does to a default that is mutable, inside of another one, happens to it alone."""
    async with Harness([Wild]) as h:
        await h.call(Wild, "a", "nest", ["mine", False])
        assert (await h.call(Wild, "b", "all"))[2] == {"a": []}


async def test_a_nested_value_is_rolled_back() -> None:
    """fault D1, D2: a list inside of a dict, changed in place by a turn that failed, is as before."""
    async with Harness([Wild]) as h:
        await h.call(Wild, "a", "nest", ["kept", False])
        with pytest.raises(HandlerFailed):
            await h.call(Wild, "a", "nest", ["lost", True])
        assert (await h.call(Wild, "a", "all"))[2] == {"a": ["kept"]}


async def test_an_awaited_call_has_happened_even_if_its_caller_fails() -> None:
    """fault D10: only the caller's own turn is undone; made again with its key, the inner call is the same one."""
    async with Harness([Wild, Node]) as h:
        for _ in range(2):
            with pytest.raises(HandlerFailed):
                await h.call(Wild, "a", "call_and_fail", ["b"], key="once")
        assert (await h.call(Wild, "a", "all"))[0] == 0
        assert await h.call(Node, "b", "get") == 1


async def test_a_readonly_handler_that_changes_the_state_is_found_out() -> None:
    """fault D3: where readonly handlers are checked its caller hears ReadOnlyViolation, and nothing is written."""
    async with Harness([Wild], strict_readonly=True) as h:
        with pytest.raises(HandlerFailed) as caught:
            await h.call(Wild, "a", "write_on_the_sly")
        assert caught.value.remote_type == "ReadOnlyViolation"
        assert h.world.objects == {}
        assert (await h.call(Wild, "a", "all"))[0] == 0
