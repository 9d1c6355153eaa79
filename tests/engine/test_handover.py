"""The client's side of a shard that lives in another process now, while the one before is still there to say so."""

from __future__ import annotations

import asyncio
from pathlib import Path

from durable_engine.late_caller import LateCaller
from durable_shards.former import FormerShard
from tests.support.scripted import WAIT_SECONDS, Rig, ScriptedShard, until


async def test_a_client_that_was_slow_to_hear_of_it_repeats_calls_and_questions(tmp_path: Path) -> None:
    """Calls without a key as well, in their order: they were refused. Questions were left open, and are asked again."""
    async with Rig(tmp_path) as rig:
        assert await rig.call("echo", "before") == "before"
        old = rig.server.servers[0]
        assert old is not None
        loop = asyncio.get_running_loop()
        old.replace(FormerShard(LateCaller(rig.server.url), loop, rig.shard.epoch, rig.shard.seq))
        calls = [rig.call("echo", number) for number in range(5)]
        question = asyncio.ensure_future(rig.frontend.request("list", {"after": "x"}, shard=0, timeout=WAIT_SECONDS))
        await until(lambda: rig.frontend.counts.refused >= 5 and old.statistics().requests == 1)

        successor = rig.server.shards[0] = ScriptedShard(rig.shard.epoch + 1)
        rig.server.start()
        rig.server.announce()

        assert await asyncio.gather(*calls) == list(range(5))
        assert successor.handlers == list(range(5))
        assert await question == {"op": "list", "after": "x"}
        old.close()


async def test_a_late_one_way_call_arrives_where_it_would_have_been_sent_now(tmp_path: Path) -> None:
    """The former shard hands it on through its own client, which has heard of the successor."""
    async with Rig(tmp_path) as rig:
        assert await rig.call("echo", "before") == "before"
        old = rig.server.servers[0]
        assert old is not None
        caller = LateCaller(rig.server.url, for_turns=True)
        former = FormerShard(caller, asyncio.get_running_loop(), rig.shard.epoch, rig.shard.seq)
        old.replace(former)
        await rig.call("echo", "late", flags=4)
        await until(lambda: old.statistics().transport.messages_received == 2)

        successor = rig.server.shards[0] = ScriptedShard(rig.shard.epoch + 1)
        rig.server.start()
        rig.server.announce()
        former.succeeded()

        await successor.until(1)
        assert (successor.handlers, successor.received[0].flags) == (["late"], 4)
        await caller.close()
        old.close()
