"""Older rows through the front door: what an engine whose code is newer, or older, makes of them."""

from __future__ import annotations

from pathlib import Path

import pytest

from durable_engine import Engine, StateUnreadable
from tests.support.releases import First, Second


async def test_a_state_is_a_migrated_copy_by_class_and_plain_by_name(tmp_path: Path) -> None:
    """Looking changes nothing: the name shows what is stored, before and after the next change."""
    url = f"sqlite:///{tmp_path}/store"
    async with Engine(url, objects=[First.Cart], shards=0) as engine:
        await engine.at(First.Cart, "a").add("lamp")
    async with Engine(url, objects=[Second.Cart], shards=0) as engine:
        copy = await engine.state(Second.Cart, "a")
        assert copy is not None
        assert copy.items == {"lamp": 1}
        assert await engine.state("Cart", "a") == {"items": ["lamp"]}
        assert await engine.at(Second.Cart, "a").add("rug") == 2
        assert await engine.state("Cart", "a") == {"items": {"lamp": 1, "rug": 1}, "paid": False}
        again = await engine.state(Second.Cart, "a")
        assert again is not None
        assert again.items == {"lamp": 1, "rug": 1}
        with pytest.raises(StateUnreadable, match="written by version 2 of the class, and this code knows version 1"):
            await engine.state(First.Cart, "a")
    async with Engine(url, objects=[First.Cart], shards=0) as engine:
        with pytest.raises(StateUnreadable, match="deploy code that knows it"):
            await engine.at(First.Cart, "a").add("bed")
    async with Engine(url, objects=[Second.Cart], shards=0) as engine:
        assert await engine.at(Second.Cart, "a").add("bed") == 3
