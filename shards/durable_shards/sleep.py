"""`on_sleep`: the last word of a live instance that leaves memory in good order.

It leaves by hibernation, shutdown, eviction, or with its shard when that drains. A process that is killed, an
ownership that is lost, and a turn that is undone end an instance without a word, so nothing may depend on it.
"""

from __future__ import annotations

import asyncio
import logging
from contextvars import copy_context

from durable_shards.activation import Activation
from durable_shards.board import Board
from durable_shards.directory import Directory

AT_ONCE = 256
"""Objects that have their last word before a draining shard attends to other things again."""

log = logging.getLogger("durable_engine.shard")


def last_word(act: Activation, board: Board) -> None:
    """Run `on_sleep` of a clean object. What it changes, arms or sends is dropped, and what it raises is logged."""
    hook = act.home.spec.on_sleep
    if hook is None or act.instance is None:
        return
    board.enter(act.label)
    try:
        copy_context().run(hook, act.instance)
    except BaseException:
        log.exception("on_sleep of %s failed; its state is stored, and it leaves memory all the same", act.address)
    finally:
        board.leave()
        act.book = act.sends = None


async def say_last_words(directory: Directory) -> None:
    """Let the live objects of a drained shard go, those of them that have something to say."""
    ending = [act for act in directory.live() if act.home.spec.on_sleep is not None]
    for start in range(0, len(ending), AT_ONCE):
        for act in ending[start : start + AT_ONCE]:
            if act.clean:
                act.home.evict(act)
        await asyncio.sleep(0)
