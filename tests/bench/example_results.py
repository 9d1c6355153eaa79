"""Results for tests that show, keep or compare them."""

from __future__ import annotations

from collections.abc import Sequence

from durable_bench.histogram import Histogram
from durable_bench.load import Sample
from durable_bench.results import Measurement, Punctuality, Repetition, Results, Round, Weight


def repetition(per_second: int, milliseconds: float = 1.0, errors: dict[str, int] | None = None) -> Repetition:
    """One second in which so many calls took so long."""
    latencies = Histogram.of([milliseconds / 1e3] * per_second)
    return Repetition.of(Sample(per_second, 1.0, latencies, 5.0, 7.0, errors or {}, {}, 0.1, 0.2))


def measurement(
    rates: Sequence[int],
    milliseconds: float = 1.0,
    *,
    scenario: str = "spread",
    store: str = "sqlite",
    shards: int = 1,
    in_flight: int | None = 256,
    rate: float | None = None,
    floor: int | None = None,
    errors: dict[str, int] | None = None,
) -> Measurement:
    """A repetition for each of the rates."""
    repetitions = [repetition(each, milliseconds, errors) for each in rates]
    title = f"what {scenario} does"
    return Measurement(scenario, title, store, shards, 1, in_flight, rate, 1_000, sum(rates), repetitions, floor)


def punctuality(seconds: Sequence[float]) -> Punctuality:
    """A thousand alarms for each; their lateness is a hundredth of the time that all of them took."""
    rounds = []
    for each in seconds:
        late = Histogram.of([each / 100])
        rounds.append(Round(late.percentiles(), each, late.encode(), repetition(100)))
    return Punctuality("alarm-storm", "sqlite", 1, 1_000, rounds, 5_000, 100.0)


def results() -> Results:
    """Something of everything."""
    return Results(
        {"seconds": 1.0},
        [
            measurement([80, 110, 100]),
            measurement([70, 75, 80], store="postgres"),
            measurement([40, 50, 60], 2.0, scenario="reads", errors={"Overloaded": 3}),
            measurement([10, 10, 10], scenario="spread", in_flight=None, rate=10.0),
        ],
        [punctuality([2.0, 1.0, 4.0])],
        [Weight("live", 100, [100_000, 90_000, 120_000])],
    )
