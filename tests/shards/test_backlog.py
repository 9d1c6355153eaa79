"""Large messages are worked on in portions, and no client waits for more than a portion of another's."""

from __future__ import annotations

from collections.abc import Callable

from durable_shards.backlog import BACKLOG_BYTES_MAX, PORTION, Backlog
from durable_shards.peers import ZmqPeer
from durable_shards.wire import Call


class Ticks:
    """A loop that is turned by hand, of which a backlog needs no more than this."""

    def __init__(self) -> None:
        self.ready: list[Callable[[], None]] = []

    def call_soon(self, callback: Callable[[], None]) -> None:
        self.ready.append(callback)

    def turn(self) -> None:
        """One tick: what was ready when it began."""
        ready, self.ready = self.ready, []
        for callback in ready:
            callback()


class Desk:
    """A backlog, and what came of it: (client, number of its first call, calls) for each portion."""

    def __init__(self) -> None:
        self.loop = Ticks()
        self.portions: list[tuple[bytes, int, int]] = []
        self.held: list[bool] = []
        self.backlog = Backlog(
            self.loop,  # type: ignore[arg-type]
            self._work,
            hold=lambda: self.held.append(True),
            go_on=lambda: self.held.append(False),
        )
        self.fails = False

    def _work(self, peer: ZmqPeer, calls: list[Call]) -> None:
        self.portions.append((peer.identity, calls[0].id, len(calls)))
        if self.fails:
            raise RuntimeError("of one portion")

    def add(self, peer: ZmqPeer, first: int, count: int, size: int = 1) -> None:
        self.backlog.add(peer, [Call(first + n, "C", "a", "echo") for n in range(count)], size)

    def turn_until_done(self) -> None:
        while self.loop.ready:
            self.loop.turn()


def client(name: str) -> ZmqPeer:
    """One that is known by this name."""
    return ZmqPeer(name.encode(), [])


def test_the_first_portion_is_worked_on_at_once_and_one_more_at_each_tick() -> None:
    """In the order of the message, to its end."""
    desk, one = Desk(), client("one")

    desk.add(one, 0, 2 * PORTION + 5)

    assert desk.portions == [(b"one", 0, PORTION)]
    desk.loop.turn()
    assert desk.portions[1:] == [(b"one", PORTION, PORTION)]
    desk.turn_until_done()
    assert desk.portions[2:] == [(b"one", 2 * PORTION, 5)]
    assert one not in desk.backlog


def test_clients_take_turns() -> None:
    """One portion each, however much the one has sent; its own messages stay in their order."""
    desk, one, other = Desk(), client("one"), client("other")
    desk.add(one, 0, 4 * PORTION)
    desk.add(one, 1_000, 3)
    desk.add(other, 0, 2 * PORTION)

    desk.turn_until_done()

    assert [(name, first) for name, first, _ in desk.portions] == [
        (b"one", 0),
        (b"one", PORTION),
        (b"other", 0),
        (b"one", 2 * PORTION),
        (b"other", PORTION),
        (b"one", 3 * PORTION),
        (b"one", 1_000),
    ]


def test_a_small_message_of_a_client_that_waits_is_behind_its_large_one() -> None:
    """Its calls are run in the order in which they were sent."""
    desk, one = Desk(), client("one")
    desk.add(one, 0, PORTION + 1)

    assert one in desk.backlog
    desk.add(one, 500, 1)
    desk.turn_until_done()

    assert [first for _, first, _ in desk.portions] == [0, PORTION, 500]


def test_reading_is_held_while_too_much_waits() -> None:
    """Once, until enough was worked off."""
    desk, one, other = Desk(), client("one"), client("other")
    desk.add(one, 0, 2 * PORTION, size=BACKLOG_BYTES_MAX)
    assert desk.held == []

    desk.add(other, 0, 2 * PORTION, size=10)
    desk.add(one, 1_000, 1, size=10)
    assert desk.held == [True]

    desk.turn_until_done()
    assert desk.held == [True, False]
    desk.add(one, 0, PORTION + 1, size=BACKLOG_BYTES_MAX + 1)
    desk.turn_until_done()
    assert desk.held == [True, False, True, False]


def test_a_portion_that_fails_keeps_no_other_from_its_turn() -> None:
    """The loop hears of the error; the rest is worked on all the same."""
    desk, one = Desk(), client("one")
    desk.add(one, 0, 3 * PORTION)
    desk.fails = True

    failures = 0
    while desk.loop.ready:
        try:
            desk.loop.turn()
        except RuntimeError:
            failures += 1

    assert failures == 2
    assert [first for _, first, _ in desk.portions] == [0, PORTION, 2 * PORTION]
