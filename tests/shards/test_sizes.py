"""States from one byte to more than is allowed."""

from __future__ import annotations

import pytest

from durable_engine import DurableObject, TooLarge, handler
from durable_storage.limits import STATE_BYTES_MAX
from tests.shards.harness import Harness

AROUND = len('{"text":""}')


class Growing(DurableObject):
    text: str = ""

    @handler
    def grow(self, size: int) -> int:
        self.text = "x" * size
        return size

    @handler(readonly=True)
    def size(self) -> int:
        return len(self.text)


async def test_a_state_may_have_any_size_up_to_its_limit() -> None:
    """fault F5: at the limit it is stored and loaded; a byte more undoes the turn, and neighbours are served."""
    async with Harness([Growing]) as h:
        fits = STATE_BYTES_MAX - AROUND
        for size in (1, 1_000, 1_000_000, fits - 1, fits):
            assert await h.call(Growing, "a", "grow", [size]) == size
            await h.call(Growing, "a", "$evict")
            assert await h.call(Growing, "a", "size") == size
        commits = h.store.seq
        for count, size in enumerate((fits + 1, 6 * STATE_BYTES_MAX), 1):
            neighbour = h.call(Growing, "b", "grow", [count])
            with pytest.raises(TooLarge, match=f"more than the {STATE_BYTES_MAX} allowed") as refused:
                await h.call(Growing, "a", "grow", [size])
            assert refused.value.outcome == "not_applied"
            assert await h.call(Growing, "a", "size") == fits
            await neighbour
        assert h.store.seq == commits + 2, "only the neighbour's changes were written"
