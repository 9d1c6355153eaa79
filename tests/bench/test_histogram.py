"""Latencies in HDR histograms."""

from __future__ import annotations

import random

import pytest
from hdrh.histogram import HdrHistogram

from durable_bench.histogram import Histogram, merged


def test_percentiles_are_those_of_all_calls() -> None:
    """With 1,000 calls of 1 to 1,000 ms, the p99 is the 990th, to a tenth of a percent."""
    found = Histogram.of(milliseconds / 1e3 for milliseconds in range(1000, 0, -1)).percentiles()

    assert (found.p50_ms, found.p90_ms, found.p99_ms) == pytest.approx((500, 900, 990), rel=1e-3)
    assert (found.p999_ms, found.max_ms) == pytest.approx((999, 1000), rel=1e-3)


def test_recording_many_at_once_is_recording_each() -> None:
    """The grouping beforehand does what HDR would do with every single value."""
    chance = random.Random(5)
    seconds = [chance.lognormvariate(-7, 2) for _ in range(5_000)] + [0.0, 1e-9, 2047e-9, 2048e-9, 4097e-9, 5e3]
    each = HdrHistogram(1, 3_600_000_000_000, 3)
    for value in seconds:
        each.record_value(min(max(int(value * 1e9), 1), 3_600_000_000_000))

    assert Histogram.of(seconds).encode() == each.encode().decode()


def test_a_histogram_comes_back_from_its_text() -> None:
    """HDR's own V2 format: the standard cookie, and every call is there."""
    written = Histogram.of([0.001, 0.002, 0.002, 1.5])
    text = written.encode()
    found = Histogram.decode(text)

    assert text.startswith("HISTFAAA")
    assert found.count == 4
    assert found.percentiles() == written.percentiles()


def test_histograms_add_up() -> None:
    """Those of two clients are that of all their calls; neither is changed."""
    one, other = Histogram.of([0.001] * 90), Histogram.of([1.0] * 10)
    both = merged([one, other])

    assert both.encode() == Histogram.of([0.001] * 90 + [1.0] * 10).encode()
    assert (one.count, other.count) == (90, 10)


def test_no_calls_have_no_latency() -> None:
    """And no division by zero."""
    assert Histogram.of([]).percentiles().max_ms == 0.0


@pytest.mark.parametrize("text", ["", "HISTF", "nonsense", HdrHistogram(1, 1000, 2).encode().decode()])
def test_what_is_no_histogram_of_ours_is_refused(text: str) -> None:
    """Broken text, and histograms with other bounds, which could not be added without loss."""
    with pytest.raises(ValueError, match="HDR histogram"):
        Histogram.decode(text)
