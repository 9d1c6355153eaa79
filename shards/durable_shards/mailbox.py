"""The mailbox of one object: who waits, whose turn it is, and who must not wait because the wait would never end.

A call that comes back to an object which waits for it is refused with its chain. In a reentrant class it runs inside
the waiting turn, one call at a time at each depth: turns of one object nest, they never interleave.
"""

from __future__ import annotations

from collections import deque

from durable_shards.activation import Activation
from durable_shards.errors import CallTimeout, Overloaded, ReentrantCall
from durable_shards.wire import Call


def put(act: Activation, call: Call) -> bool:
    """Let a call wait: True; False when it is to run at once, inside the turn that waits for it.

    Raises ReentrantCall, Overloaded: nothing was run.
    """
    options = act.home.spec.options
    queue = act.mailbox()
    if call.chain and act.suspended and (error := circle(act, call)):
        if not options.reentrant:
            raise error
        if not act.inner and may_enter(act, call):
            return False
        if act.inner is None:
            act.inner = deque()
        queue = act.inner
    if len(queue) >= options.mailbox:
        raise Overloaded(f"{len(queue)} calls already wait for {act.address}; nothing was run, try again shortly")
    queue.append(call)
    return True


def take(act: Activation) -> Call | None:
    """Take the call whose turn it is, if it can run now."""
    if act.paused or act.head is not None:
        return None
    if act.inner:
        for position, call in enumerate(act.inner):
            if not act.suspended or may_enter(act, call):
                del act.inner[position]
                return call
    if act.suspended:
        return None
    if act.queue:
        return act.queue.popleft()
    act.queue = None  # an empty deque weighs more than a small object
    return None


def circle(act: Activation, call: Call) -> ReentrantCall | None:
    """The error of a call that would wait for itself, directly or because two chains cross; None if it would not."""
    if not call.chain:
        return None
    crossing = any(waited in call.chain for turn in act.suspended for waited in turn.waiting_for)
    if str(act.address) not in call.chain and not crossing:
        return None
    chain = [*call.chain, str(act.address)]
    return ReentrantCall(
        f"{' -> '.join(chain)}: {act.address} waits for this very chain; nothing was run. "
        "Break the circle, or declare the class with reentrant=True",
        chain=chain,
    )


def may_enter(act: Activation, call: Call) -> bool:
    """Whether a call of a reentrant object's own chain can run now: as the child of its innermost turn."""
    if act.paused or act.head is not None or not call.chain:
        return False
    depth = call.chain.count(str(act.address))
    if depth:
        return depth == len(act.suspended)
    return any(waited in call.chain for waited in act.suspended[-1].waiting_for)


def out_of_time() -> CallTimeout:
    """The error of a call whose deadline passed in the mailbox."""
    problem = "the call's time was up before its turn came; nothing was run"
    return CallTimeout(problem, outcome="not_applied", retryable=True)
