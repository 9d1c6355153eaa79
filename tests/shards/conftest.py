"""What the tests of the shard core share."""

from __future__ import annotations

import pytest

from tests.shards.hard_objects import gates


@pytest.fixture(autouse=True)
def closed_gates() -> None:
    """Each test begins with every gate closed."""
    gates.clear()
