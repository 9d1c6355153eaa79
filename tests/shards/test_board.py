"""The page that a shard shares with its supervisor."""

from __future__ import annotations

import os

from durable_shards.board import BoardReader, Boards, ShardBoard, label_of, monotonic_ms
from durable_storage.address import Address


def test_a_supervisor_reads_what_a_shard_wrote() -> None:
    """Heartbeat, last acknowledged commit and running object arrive as written."""
    boards = Boards(2)
    board, reader = ShardBoard(boards.page(1)), BoardReader(boards.page(1))

    board.beat(1234)
    board.acknowledged(3, 99)
    board.enter(label_of(Address("tenant", "Cart", "été")))

    assert reader.read() == (1234, 3, 99, "tenant:Cart/été")


def test_nobody_runs_before_the_first_turn_and_after_the_last() -> None:
    """A fresh page and a page after `leave` name no object."""
    boards = Boards(1)
    board, reader = ShardBoard(boards.page(0)), BoardReader(boards.page(0))
    assert reader.read() == (0, 0, 0, None)

    board.enter(label_of(Address("", "Counter", "1")))
    board.leave()

    assert reader.read().running is None


def test_a_shorter_label_replaces_a_longer_one() -> None:
    """Nothing of the label before shows through."""
    boards = Boards(1)
    board, reader = ShardBoard(boards.page(0)), BoardReader(boards.page(0))

    board.enter(label_of(Address("", "Counter", "a long identifier")))
    board.enter(label_of(Address("", "Counter", "b")))

    assert reader.read().running == "Counter/b"


def test_the_longest_address_fits() -> None:
    """Every address that the limits allow has room on the page."""
    boards = Boards(1)
    longest = Address("p" * 200, "c" * 200, "i" * 512)

    ShardBoard(boards.page(0)).enter(label_of(longest))

    assert BoardReader(boards.page(0)).read().running == str(longest)


def test_pages_are_apart() -> None:
    """What one shard writes is not seen on another's page."""
    boards = Boards(2)

    ShardBoard(boards.page(0)).beat(5)

    assert BoardReader(boards.page(1)).heartbeat_ms() == 0


def test_what_a_dead_process_wrote_stays() -> None:
    """A forked process writes and dies at once; the page keeps the commit and the culprit."""
    boards = Boards(1)
    pid = os.fork()
    if pid == 0:
        board = ShardBoard(boards.page(0))
        board.acknowledged(7, 41)
        board.enter(label_of(Address("", "Bomb", "1")))
        os._exit(0)
    os.waitpid(pid, 0)

    assert BoardReader(boards.page(0)).read()[1:] == (7, 41, "Bomb/1")


def test_a_renewed_page_forgets_the_process_before() -> None:
    """The next process starts with a fresh heartbeat; what the one before wrote is not taken for its own."""
    boards = Boards(1)
    board, reader = ShardBoard(boards.page(0)), BoardReader(boards.page(0))
    board.acknowledged(2, 8)
    board.enter(label_of(Address("", "Bomb", "1")))

    now_ms = monotonic_ms()
    reader.renew(now_ms)

    assert reader.read() == (now_ms, 0, 0, None)
