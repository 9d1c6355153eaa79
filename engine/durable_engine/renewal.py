"""How one process of a shard gives way to another, in good order: `shards drain`, `shards restart`, `reload`.

The successor is forked first and stands by, so one that cannot start changes nothing. Then the current process drains:
it takes no new calls, finishes what it has, commits, answers. When nothing is left it seals itself and says so, and
the successor opens the store. The former one stays for a moment to refuse what clients sent it too late.

At no time do both run turns; and if they tried, the epoch in the store would stop the older one. Whoever dies meanwhile
has died like any other process: its successor, standing by or not, goes on from what is committed.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final

from msgspec import structs

from durable_storage.errors import DurableError

if TYPE_CHECKING:
    from durable_engine.incarnation import Code
    from durable_engine.keeper import ShardKeeper

STAND_BY_SECONDS: Final = 30.0
"""How long a new process may take until it stands by: it has nothing to do but to be forked."""


async def renew(keeper: ShardKeeper, drain_seconds: float, code: Code | None = None) -> None:
    """Give a shard a fresh process, of `code` or of the code that it has; no call fails by it.

    Returns when it serves. Raises DurableError when it does not come to that; then the shard stays on the code that it
    had.
    """
    _check_is_free(keeper)
    keeper.is_renewed = True
    try:
        await _renew(keeper, drain_seconds, code or keeper.code)
    finally:
        keeper.is_renewed = False


async def _renew(keeper: ShardKeeper, drain_seconds: float, code: Code) -> None:
    processes = keeper.processes
    keeper.restarts.forgive()
    await _settled(keeper)
    if processes.current is None:
        await _start(keeper, code)
        return
    standby = processes.standby = processes.make(code)
    keeper.launch(standby, structs.replace(keeper.make_config(keeper), stands_by=True))
    await asyncio.wait([standby.stands_by], timeout=STAND_BY_SECONDS)
    if not standby.stands_by.done():
        standby.kill()
    problem = await asyncio.shield(standby.stands_by)
    _check_goes_on(keeper)
    if problem:
        raise DurableError(f"a new process of shard {keeper.shard} did not start: {problem}. The old one serves on")
    if standby is processes.standby:
        if processes.current is None:  # it died just now
            keeper.succeed()
        else:
            keeper.leave("restart", drain_seconds)
    problem = await asyncio.shield(standby.serves)
    _check_goes_on(keeper)
    if problem:
        raise DurableError(f"the new process of shard {keeper.shard} did not come to serve: {problem}")


async def _settled(keeper: ShardKeeper) -> None:
    """Until the shard has one process, which serves, or none that serves: there are two pages for a shard."""
    processes = keeper.processes
    while (current := processes.current) is not None:
        if not current.serves.done():
            await asyncio.shield(current.serves)  # it was started just now
        elif processes.former is not None:
            await processes.former.gone.wait()
        else:
            return
        _check_goes_on(keeper)


def _check_is_free(keeper: ShardKeeper) -> None:
    if keeper.is_renewed or keeper.is_stopping:
        raise DurableError(
            f"shard {keeper.shard} is being handed over or stopped already; nothing was changed. "
            "Try again when `durable-engine shards list` shows that it is up"
        )


def _check_goes_on(keeper: ShardKeeper) -> None:
    """To be asked after every wait: a process that is made for a shard that stops would never be told to end."""
    if keeper.is_stopping:
        raise DurableError(
            f"shard {keeper.shard} is being stopped with its server and gets no new process: start the server again"
        )


async def _start(keeper: ShardKeeper, code: Code) -> None:
    """There is nothing to give way. The shard changes over to `code` when a process of it serves, and not before."""
    keeper.cancel_timer()
    keeper.start(code)
    assert keeper.processes.current is not None
    if problem := await asyncio.shield(keeper.processes.current.serves):
        raise DurableError(f"shard {keeper.shard} does not start: {problem}")


async def restart_now(keeper: ShardKeeper) -> None:
    """Kill the process, as by `kill -9`, and wait until the next one serves. Raises DurableError."""
    _check_is_free(keeper)
    keeper.restarts.forgive()
    current = keeper.processes.current
    if current is not None:
        current.reason = "somebody asked for a restart at once"
        current.kill()
        await current.gone.wait()
        _check_goes_on(keeper)
    if keeper.processes.current is None:
        await _start(keeper, keeper.code)
    elif problem := await asyncio.shield(keeper.processes.current.serves):
        raise DurableError(f"shard {keeper.shard} does not start: {problem}")
