"""Random choices, made beforehand and by a seed, so that choosing costs a call as good as nothing."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import cycle
from typing import Final

import numpy as np

CHOICES: Final = 1 << 17
"""Drawn once, then repeated."""
THETA: Final = 0.99
"""Of YCSB and its successors."""


def zipfian(count: int, seed: int, theta: float = THETA) -> Iterator[int]:
    """Ranks from 0 to count - 1, each 1 / (rank + 1)^theta as likely as the first."""
    weights = 1.0 / np.arange(1, count + 1) ** theta
    return cycle(np.random.default_rng(seed).choice(count, CHOICES, p=weights / weights.sum()).tolist())


def uniform(count: int, seed: int, least: int = 0) -> Iterator[int]:
    """Numbers from `least` to least + count - 1, all alike."""
    return cycle(np.random.default_rng(seed).integers(least, least + count, CHOICES).tolist())


def coin(likelihood: float, seed: int) -> Iterator[bool]:
    """True so often."""
    return cycle((np.random.default_rng(seed).random(CHOICES) < likelihood).tolist())


def kinds(weights: Sequence[float], seed: int) -> Iterator[int]:
    """The number of one of several kinds, by weights that add up to 1."""
    return cycle(np.random.default_rng(seed).choice(len(weights), CHOICES, p=list(weights)).tolist())
