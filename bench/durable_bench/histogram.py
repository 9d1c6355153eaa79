"""Latencies as HDR histograms (Gil Tene's HdrHistogram, by the package of that name for Python).

A histogram keeps every value to three digits in a few hundred bytes, so that percentiles far out in the tail are those
of all calls, histograms of several processes or repetitions can be added up without loss, and a file of results
can be read by the tools that there are for HDR's V2 format.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

import numpy as np
from hdrh.histogram import HdrHistogram

DIGITS: Final = 3
LOWEST_NS: Final = 1
HIGHEST_NS: Final = 3_600_000_000_000
"""An hour; what takes longer counts as that."""
_KEPT_BITS: Final = 11
"""Of a value: with three digits HDR has 2,048 sub-buckets, so that values which agree in these bits are one to it."""


@dataclass(frozen=True, slots=True)
class Percentiles:
    """In milliseconds; each is an upper bound, at most 0.1 % above the true one."""

    p50_ms: float
    p90_ms: float
    p99_ms: float
    p999_ms: float
    max_ms: float


class Histogram:
    """How often each latency occurred, from a nanosecond to an hour."""

    def __init__(self, values: HdrHistogram | None = None) -> None:
        self._values = HdrHistogram(LOWEST_NS, HIGHEST_NS, DIGITS) if values is None else values

    @classmethod
    def of(cls, seconds: Iterable[float]) -> Histogram:
        """From latencies in seconds: an array of doubles is taken as it is."""
        return cls().record(seconds)

    @classmethod
    def decode(cls, text: str) -> Histogram:
        """From what `encode` wrote. Raises ValueError for what is no histogram of ours."""
        try:
            found = HdrHistogram.decode(text)
        except Exception as error:  # the package raises what its parts raise: binascii, zlib, ctypes
            raise ValueError(f"this is no HDR histogram: {text[:40]!r}") from error
        # Other bounds cannot be added to ours without loss.
        if (found.lowest_trackable_value, found.highest_trackable_value) != (LOWEST_NS, HIGHEST_NS):
            raise ValueError("this HDR histogram has other bounds than those of this harness")
        return cls(found)

    def record(self, seconds: Iterable[float]) -> Histogram:
        """Put latencies in seconds into it, and give it back."""
        values = np.fromiter(seconds, float) if not hasattr(seconds, "__len__") else np.asarray(seconds, float)
        # Recording one value takes a microsecond of Python; there are some thousand distinct ones among millions.
        ns = np.clip(values * 1e9, LOWEST_NS, HIGHEST_NS).astype(np.int64)
        shift = np.maximum(np.frexp(ns)[1] - _KEPT_BITS, 0)
        for value, count in zip(*np.unique(ns >> shift << shift, return_counts=True), strict=True):
            self._values.record_value(int(value), int(count))
        return self

    def add(self, other: Histogram) -> Histogram:
        """Put another one's calls into it, and give it back."""
        self._values.add(other._values)
        return self

    def encode(self) -> str:
        """HDR's V2 format, compressed, in base64."""
        encoded: bytes = self._values.encode()
        return encoded.decode()

    @property
    def count(self) -> int:
        """How many calls."""
        return int(self._values.get_total_count())

    def percentile_ms(self, percent: float) -> float:
        """What `percent` of 100 calls did not exceed, in milliseconds; 0 when there was no call."""
        return float(self._values.get_value_at_percentile(percent)) / 1e6 if self.count else 0.0

    def percentiles(self) -> Percentiles:
        """Those that are shown."""
        return Percentiles(*map(self.percentile_ms, (50.0, 90.0, 99.0, 99.9, 100.0)))


def merged(histograms: Iterable[Histogram]) -> Histogram:
    """All calls of several histograms in a new one."""
    total = Histogram()
    for one in histograms:
        total.add(one)
    return total
