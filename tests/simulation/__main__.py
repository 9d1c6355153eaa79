"""`python -m tests.simulation`: histories in virtual time, one a seed."""

from __future__ import annotations

import argparse
import sys
from collections import Counter
from time import monotonic

from tests.simulation.run import Violation, run_history


def main() -> int:
    """Run them; the exit code is the number of seeds that broke a promise, or 100."""
    parser = argparse.ArgumentParser(prog="python -m tests.simulation", description=__doc__)
    parser.add_argument("--seed", type=int, help="this one only")
    parser.add_argument("--seeds", type=int, default=2000, help="so many, one after the other")
    parser.add_argument("--start", type=int, default=0, help="the first seed")
    parser.add_argument("--seconds", type=float, default=float("inf"), help="stop after so much real time")
    parser.add_argument("--trace", action="store_true", help="show the last events of a history that fails")
    options = parser.parse_args()
    seeds = range(options.start, options.start + options.seeds) if options.seed is None else [options.seed]
    began, done, broken = monotonic(), 0, []
    totals: Counter[str] = Counter()
    faults: Counter[str] = Counter()
    for seed in seeds:
        if monotonic() - began > options.seconds:
            break
        done += 1
        try:
            report = run_history(seed, trace=options.trace)
        except Violation as violation:
            broken.append(seed)
            print(violation, file=sys.stderr, flush=True)
            continue
        totals.update(
            commits=report.commits, replies=report.replies, errors=report.failures, firings=report.firings,
            virtual_seconds=int(report.seconds), steps=report.steps,
        )  # fmt: skip
        faults.update(report.faults)
        if options.seed is not None:
            print(f"digest {report.digest}")
    seconds = monotonic() - began
    print(f"{done} histories in {seconds:.1f} s, {len(broken)} broke a promise: {broken[:20]}")
    print("  ".join(f"{name} {count:,}" for name, count in totals.items()))
    print("\n".join(f"  {count:8,} {kind}" for kind, count in sorted(faults.items())))
    return min(len(broken), 100)


if __name__ == "__main__":
    sys.exit(main())
