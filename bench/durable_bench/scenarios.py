"""Everything that can be measured, by name and by group."""

from __future__ import annotations

from typing import Final

from durable_bench.alarms import ALARMS
from durable_bench.experiments.catalogue import EXPERIMENTS
from durable_bench.memory import MEMORY
from durable_bench.workloads import WORKLOADS

NAMES: Final = (*WORKLOADS, *ALARMS, *MEMORY, *EXPERIMENTS)

GROUPS: Final[dict[str, tuple[str, ...]]] = {
    "core": ("spread", "hot", "reads", "alone", *ALARMS, *MEMORY),
    **{
        group: tuple(name for name, one in WORKLOADS.items() if one.group == group)
        for group in ("counters", "state", "chains", "ycsb")
    },
    "experiments": tuple(EXPERIMENTS),
    "all": NAMES,
}


def titles() -> dict[str, str]:
    """What each scenario does, in a line."""
    experiments = {name: one.title for name, one in EXPERIMENTS.items()}
    return {name: one.title for name, one in WORKLOADS.items()} | ALARMS | MEMORY | experiments


def resolved(words: tuple[str, ...]) -> list[str]:
    """The scenarios that names and groups stand for, each once; `core` when nothing is named. Raises LookupError."""
    found: list[str] = []
    for word in words or ("core",):
        if word not in NAMES and word not in GROUPS:
            raise LookupError(
                f"there is no scenario {word!r}; there are {', '.join(NAMES)}, and the groups {', '.join(GROUPS)}"
            )
        found += [name for name in GROUPS.get(word, (word,)) if name not in found]
    return found
