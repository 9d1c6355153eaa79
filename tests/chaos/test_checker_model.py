"""The checker against a search through all orders: on histories small enough to try them all, both say the same."""

from __future__ import annotations

import json
from itertools import accumulate, combinations, permutations
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from tests.chaos.checker import check
from tests.chaos.final import AtRest, Final
from tests.chaos.journal import START, link
from tests.chaos.records import Op

LOG = "Log/a"
TIMES = 8


def is_explained(ops: list[Op], journal: list[int]) -> bool:
    """Whether some order of some effects fits everything: what was told, when, and what is left."""
    told = [op for op in ops if op.outcome == "ok"]
    perhaps = [op for op in ops if op.outcome == "unknown" and op.token]
    for count in range(len(perhaps) + 1):
        for happened in combinations(perhaps, count):
            if any(fits(order, journal) for order in permutations([*told, *happened])):
                return True
    return False


def fits(order: tuple[Op, ...], journal: list[int]) -> bool:
    """Whether operations one after the other show what was told, respect real time, and leave the journal."""
    for place, op in enumerate(order):
        if any(later.answered is not None and later.answered < op.invoked for later in order[place + 1 :]):
            return False
    tokens: list[int] = []
    for op in order:
        if op.token:
            tokens.append(op.token)
        if op.outcome == "ok" and (op.version, op.value) != shown(tokens):
            return False
    return tokens == journal


def shown(tokens: list[int]) -> tuple[int, list[int]]:
    """What an answer shows of a journal."""
    chain = START
    for token in tokens:
        chain = link(chain, token)
    return len(tokens), [tokens[-1] if tokens else 0, chain]


@st.composite
def histories(draw: st.DrawFn) -> tuple[list[Op], list[int]]:
    """Up to five calls that took effect in order, then up to two things about them that are told wrongly."""
    tokens: list[int] = []
    ops: list[Op] = []
    for number in range(1, draw(st.integers(1, 5)) + 1):
        is_read = draw(st.booleans())
        outcome = draw(st.sampled_from(["ok", "ok", "ok", "unknown", "not_applied"]))
        took_effect = outcome == "ok" or (outcome == "unknown" and draw(st.booleans()))
        if took_effect and not is_read:
            tokens.append(number)
        ops.append(draw(calls(number, is_read, outcome, tokens)))
    journal = list(tokens)
    for _ in range(draw(st.integers(0, 2))):
        spoil(draw, ops, journal)
    return ops, journal


@st.composite
def calls(draw: st.DrawFn, number: int, is_read: bool, outcome: Any, tokens: list[int]) -> Op:
    """One that took effect at the time of its number, more or less."""
    invoked = number - draw(st.integers(0, 3))
    answered = None if outcome == "unknown" else number + 0.5 + draw(st.integers(0, 3))
    version, value = shown(tokens) if outcome == "ok" else (-1, None)
    kind, token = ("read", 0) if is_read else ("append", number)
    return Op(draw(st.integers(0, 1)), LOG, kind, token, False, invoked, answered, outcome, value, 1, version)


def spoil(draw: st.DrawFn, ops: list[Op], journal: list[int]) -> None:
    """One thing is told otherwise than it was."""
    place = draw(st.integers(0, len(ops) - 1))
    fields = {name: getattr(ops[place], name) for name in ops[place].__struct_fields__}
    how = draw(st.sampled_from(["time", "answer", "outcome", "lost", "doubled", "moved", "stranger"]))
    if how == "time" and fields["answered"] is not None:
        fields["invoked"] = draw(st.integers(0, TIMES))
        fields["answered"] = fields["invoked"] + draw(st.integers(0, TIMES)) + 0.5
    elif how == "answer" and fields["outcome"] == "ok":
        fields["version"], fields["value"] = shown(journal[: draw(st.integers(0, len(journal)))])
    elif how == "outcome":
        fields |= {"outcome": "not_applied", "version": -1, "value": None, "answered": fields["invoked"] + 0.5}
    elif how == "lost" and journal:
        del journal[draw(st.integers(0, len(journal) - 1))]
    elif how == "doubled" and journal:
        journal.append(draw(st.sampled_from(journal)))
    elif how == "moved" and journal:
        journal.insert(0, journal.pop())
    elif how == "stranger":
        journal.append(99)
    ops[place] = Op(**fields)


def final_of(journal: list[int]) -> Final:
    """A store with one journal, by one incarnation."""
    chain = [*accumulate(journal, link, initial=START)][-1]
    state = {"tokens": journal, "begins": [0][: len(journal)], "epochs": [1][: len(journal)], "chain": chain}
    return Final(store={LOG: AtRest(json.dumps(state).encode(), len(journal), {})})


@given(histories())
@settings(max_examples=400, deadline=None, derandomize=True)
def test_the_checker_agrees_with_a_search_through_all_orders(history: tuple[list[Op], list[int]]) -> None:
    """A history passes if and only if there is an order that explains it."""
    ops, journal = history
    explained = is_explained(ops, journal)

    assert (check(ops, final_of(journal)) == []) is explained


def test_the_search_says_yes_and_no() -> None:
    """It is a judge, and not a rubber stamp: by hand, one of each."""
    first = Op(0, LOG, "append", 1, False, 1, 2, "ok", shown([1])[1], 1, 1)
    second = Op(1, LOG, "append", 2, False, 3, 4, "ok", shown([1, 2])[1], 1, 2)

    assert is_explained([first, second], [1, 2])
    assert not is_explained([first, second], [2, 1])
    assert not is_explained([first, second], [1])
