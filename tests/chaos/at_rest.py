"""What rests in a store that nobody owns."""

from __future__ import annotations

from tests.chaos.final import AtRest


async def read_at_rest(url: str, shards: int) -> dict[str, AtRest]:
    """Every object of the classes of `objects.py`, by the text of its address; in pages."""
    raise NotImplementedError


def disagreements(store: dict[str, AtRest]) -> list[str]:
    """I7 by itself, for looks into the store in the middle of a run."""
    raise NotImplementedError
