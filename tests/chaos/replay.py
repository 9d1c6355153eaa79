"""A journal at rest, entry by entry: what the object must have shown at each length."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any

from tests.chaos.final import AtRest
from tests.chaos.journal import START, link
from tests.chaos.limits import ACCOUNTS, OPENING


@dataclass
class Replay:
    """Made by `replay`; empty for an object that never was."""

    state: dict[str, Any] = field(default_factory=dict)
    tokens: list[int] = field(default_factory=list)
    entries: list[list[Any]] = field(default_factory=list)
    """What each entry has besides its token."""
    chains: list[int] = field(default_factory=lambda: [START])
    """One more than entries."""
    epochs: list[int] = field(default_factory=list)
    """The incarnation that wrote each entry."""
    at: dict[int, int] = field(default_factory=dict)
    """Token of a call: its place, the first if there are several."""
    balances: list[list[int]] = field(default_factory=list)
    """Of a bank, at each length."""


def replay(cls: str, rest: AtRest | None) -> Replay:
    """All that follows from the state. Raises ValueError when its parts do not belong together."""
    if rest is None:
        return Replay(balances=[[OPENING] * ACCOUNTS] if cls == "Bank" else [])
    state = json.loads(rest.state)
    tokens: list[int] = state.get("tokens", [])
    found = Replay(state, tokens, entries_of(cls, state), epochs=epochs_of(state))
    chain = START
    for place, (token, entry) in enumerate(zip(tokens, found.entries, strict=True)):
        chain = link(chain, token, *entry)
        found.chains.append(chain)
        found.at.setdefault(token, place)
    if cls == "Bank":
        found.balances = balances_of(found.entries)
    return found


def entries_of(cls: str, state: dict[str, Any]) -> list[list[Any]]:
    """What each entry has besides its token."""
    if cls == "Bank":
        moves = state["moves"]
        return [moves[begin : begin + 3] for begin in range(0, len(moves), 3)]
    if cls == "Timers":
        return list(state["events"])
    return [[]] * len(state.get("tokens", []))


def epochs_of(state: dict[str, Any]) -> list[int]:
    """The incarnation that wrote each entry."""
    begins, epochs = state.get("begins", []), state.get("epochs", [])
    ends = [*begins[1:], len(state.get("tokens", []))][: len(begins)]
    return [epoch for begin, end, epoch in zip(begins, ends, epochs, strict=True) for _ in range(begin, end)]


def balances_of(moves: list[list[int]]) -> list[list[int]]:
    """At each length."""
    found = [[OPENING] * ACCOUNTS]
    for source, target, amount in moves:
        now = list(found[-1])
        now[source] -= amount
        now[target] += amount
        found.append(now)
    return found
