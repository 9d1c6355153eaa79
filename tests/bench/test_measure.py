"""The arithmetic of the benchmarks."""

from __future__ import annotations

import json
import os
import time

import pytest

from durable_bench.alarms import Punctuality, Round
from durable_bench.cpu import cpu_seconds
from durable_bench.measure import Latency, Measurement, Repetition
from durable_bench.memory import Weight
from durable_bench.report import document
from durable_bench.scenarios import SCENARIOS


def test_percentiles_are_those_of_all_calls() -> None:
    """With 1,000 calls of 1 to 1,000 ms, the p99 is the 990th."""
    latency = Latency.of(milliseconds / 1e3 for milliseconds in range(1000, 0, -1))

    assert (latency.p50_ms, latency.p90_ms, latency.p99_ms) == pytest.approx((500, 900, 990))
    assert latency.max_ms == pytest.approx(1000)


def test_the_histogram_holds_each_call_once_below_the_bound_of_its_bucket() -> None:
    """The buckets add up, and the upper bound of the last one is not below the slowest call."""
    latency = Latency.of([0.000_001, 0.001, 0.001, 0.5])

    assert sum(latency.histogram.values()) == 4
    assert max(map(float, latency.histogram)) >= 500


def test_a_rate_is_the_median_and_its_spread_the_distance_of_the_extremes() -> None:
    """Three repetitions of 80, 100 and 110 calls a second are 100, with a spread of 30 %."""
    latency = Latency.of([0.001])
    repetitions = [Repetition(calls, 1.0, latency, 5.0, 7.0) for calls in (80, 110, 100)]
    measurement = Measurement(SCENARIOS["spread"], "sqlite", 256, repetitions, 290)

    assert measurement.per_second == 100
    assert measurement.spread == pytest.approx(0.3)


def test_alarms_are_judged_by_the_median_of_their_rounds() -> None:
    """Fired per second of the median round; the spread of any figure is that between the rounds."""
    rounds = [Round(Latency.of([seconds / 100]), seconds, None) for seconds in (2.0, 1.0, 4.0)]
    measured = Punctuality("storm", "sqlite", 1000, rounds)

    assert measured.per_second == 500
    assert measured.spread(lambda each: each.seconds) == pytest.approx(1.5)
    assert measured.median(lambda each: each.lateness.p99_ms) == pytest.approx(20)


def test_the_json_document_says_where_and_how_it_was_measured() -> None:
    """It can be written as JSON and names machine, versions and settings."""
    measurement = Measurement(SCENARIOS["hot"], "sqlite", 1, [Repetition(10, 2.0, Latency.of([0.1]), 5.0, 7.0)], 10)
    weight = Weight("live", 100, [100_000, 90_000, 120_000])

    written = json.loads(json.dumps(document([measurement], [weight], {"seconds": 2.0})))

    assert written["settings"] == {"seconds": 2.0}
    assert written["machine"]["cores"] >= 1
    assert written["measurements"][0]["calls_per_second"] == 5
    assert written["measurements"][0]["verified_calls"] == 10
    assert written["measurements"][0]["repetitions"][0]["shards_us"] == 7.0
    assert written["memory"] == [
        {"name": "live", "objects": 100, "grown_bytes": [100_000, 90_000, 120_000], "bytes_each": 1000, "spread": 0.3}
    ]


def test_processor_time_of_a_process_is_what_it_says_of_itself() -> None:
    """To the kernel's 10 ms, for user and system time together."""
    while time.process_time() < 0.1:
        pass

    assert cpu_seconds([os.getpid()]) == pytest.approx(time.process_time(), abs=0.05)
