"""Finds out from what clients were told, and from what is left at the end, whether every promise was kept.

Each object is a journal: a turn that changes it appends one entry with the token of its call, and every answer shows
the length of the journal and a hash of all entries up to there. That makes what is hard in general easy. The order in
which operations took effect need not be searched for: it can be read. An operation that appended entry `n` has the key
`2n + 1`, one that saw `n` entries has `2n`, and a history is linearizable if and only if no operation that was
answered before another one began has the greater key (the recoverable workloads of Elle, Kingsbury and Alvaro 2020,
with a list for each object). So each invariant is a pass over the operations of one object, and all of it takes time
in proportion to the history but for sorting the operations of each object. Reading and checking a million operations
on 10,000 objects takes about 5 s of one core of a small shared machine, and 120 MB.

Nothing is assumed about operations whose outcome is unknown but that they took effect once or not at all, at any time
after they began.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import pairwise

from tests.chaos import alarm_checks, run_checks
from tests.chaos.crossings import Crossings
from tests.chaos.final import AtRest, Final
from tests.chaos.limits import ALARM_ENTRIES_MAX, ENTRIES_MAX
from tests.chaos.records import InMemory, Op, Recorded
from tests.chaos.replay import Replay, replay
from tests.chaos.violation import Violation

__all__ = ["Violation", "check"]


@dataclass
class Group:
    """One object: what clients were told of it, and how it ended."""

    name: str
    cls: str
    ops: list[Op]
    rest: AtRest | None
    journal: Replay
    memory: bytes | None
    """What the engine showed at the end; None: it was not asked."""


NOTHING = b"null"
"""What the engine shows of an object that never was."""
Check = Callable[[Group], Iterator[str]]


def check(history: Iterable[Op] | Recorded | InMemory, final: Final) -> list[Violation]:
    """All violations; `history` is `records.Recorded(folder)`, or operations."""
    groups = history if isinstance(history, (Recorded, InMemory)) else InMemory(history)
    crossings = Crossings()
    found: list[Violation] = []
    seen: set[str] = set()
    for name, ops in groups:
        seen.add(name)
        found += check_object(name, ops, final, crossings)
    for name in (final.store.keys() | (final.memory or {}).keys()) - seen:
        found += check_object(name, [], final, crossings)
    found += crossings.violations(final)
    found += run_checks.violations(final)
    return found


def check_object(name: str, ops: list[Op], final: Final, crossings: Crossings) -> list[Violation]:
    """What concerns one object alone; what concerns others as well is noted in `crossings`."""
    cls = name.partition("/")[0]
    rest = final.store.get(name)
    memory = None if final.memory is None else final.memory.get(name, NOTHING)
    try:
        group = Group(name, cls, ops, rest, replay(cls, rest), memory)
    except ValueError as error:
        return [Violation("I5", name, f"the state is of no turn: {error}: {rest}")]
    crossings.note(name, ops, group.journal)
    found = [Violation(invariant, name, what) for invariant, each in CHECKS for what in each(group)]
    found += [Violation("I9", name, what) for what in known_in_the_end(group, final)]
    if cls == "Timers":
        found += alarm_checks.violations(name, ops, rest, group.journal, final)
    return found


def acknowledged_is_durable(group: Group) -> Iterator[str]:
    """I1: what was acknowledged is in the journal."""
    at = group.journal.at
    for op in group.ops:
        if op.token and op.outcome in ("ok", "applied") and op.token not in at:
            yield f"acknowledged, and not there: {op}"


def nothing_twice(group: Group) -> Iterator[str]:
    """I2: no token stands in the journal twice."""
    journal = group.journal
    for place, token in enumerate(journal.tokens):
        if token > 0 and journal.at[token] != place:
            yield f"token {token} is entry {journal.at[token]} and entry {place}"


def failed_is_absent(group: Group) -> Iterator[str]:
    """I3: what failed with "not applied" is not in the journal, and no bad turn was ever stored."""
    at = group.journal.at
    for op in group.ops:
        if op.outcome == "not_applied" and op.token in at:
            yield f"it failed, and is entry {at[op.token]}: {op}"
    if group.journal.state.get("damage"):
        yield f"a turn that came to no good end was stored: {group.journal.state}"


def answers_are_true(group: Group) -> Iterator[str]:
    """I4, first half: each answer shows the journal as it was at that length. What was lost is I1's to tell."""
    journal = group.journal
    for op in group.ops:
        is_lost = op.outcome == "ok" and op.token and op.token not in journal.at
        if op.version >= 0 and op.outcome != "unknown" and not is_lost:
            problem = answer_problem(group, journal, op)
            if problem is not None:
                yield f"{problem}: {op}"


def answer_problem(group: Group, journal: Replay, op: Op) -> str | None:
    """What an answer says that the journal does not."""
    length = op.version
    last, chain = op.value[:2] if op.outcome == "ok" else op.value[1:3]
    if length >= len(journal.chains) or journal.chains[length] != chain:
        return f"the first {length} entries are others, of {len(journal.tokens)}"
    if last != (journal.tokens[length - 1] if length else 0):
        return f"entry {length - 1} is {journal.tokens[length - 1] if length else 0}"
    return rejection_problem(group, op) if op.outcome != "ok" else result_problem(journal, op)


def result_problem(journal: Replay, op: Op) -> str | None:
    """What the result of a call says besides."""
    length = op.version
    if op.token and journal.tokens[length - 1] != op.token:
        return f"entry {length - 1} is of another call"
    if op.kind == "transfer" and journal.entries[length - 1] != op.asked:
        return f"{journal.entries[length - 1]} was done"
    if op.kind == "audit" and op.value[2] != journal.balances[length]:
        return f"the accounts held {journal.balances[length]}"
    return None


def rejection_problem(group: Group, op: Op) -> str | None:
    """Why an object had no reason to reject a call."""
    if op.value[0] == "full":
        most = ALARM_ENTRIES_MAX if group.cls == "Timers" else ENTRIES_MAX
        return None if op.version >= most else "it was not full"
    source, _, amount = op.asked
    covered = group.journal.balances[op.version][source] >= amount
    return "it was covered" if covered else None


def order_is_real(group: Group) -> Iterator[str]:
    """I4, second half: what was answered before another operation began took effect before it."""
    ops = [(key, op) for op in group.ops if (key := key_of(op, group.journal)) is not None]
    yield from out_of_order(ops, "took effect before")


def key_of(op: Op, journal: Replay) -> int | None:
    """Where in the order of effects an operation has its place; None: it has none."""
    if op.outcome == "unknown" or op.version < 0:
        place = journal.at.get(op.token) if op.token else None
        return None if place is None else 2 * place + 1
    return 2 * op.version - (1 if op.token and op.outcome == "ok" else 0)


def out_of_order(ops: list[tuple[int, Op]], what: str) -> Iterator[str]:
    """Pairs of which the one with the greater key was answered before the other began."""
    began = sorted(ops, key=lambda each: each[1].invoked)
    ended = sorted(
        ((op.answered, key, op) for key, op in ops if op.answered is not None and op.outcome != "applied"),
        key=lambda each: each[0],
    )
    highest, holder, next_ended = -1, None, 0
    for key, op in began:
        while next_ended < len(ended) and ended[next_ended][0] < op.invoked:
            if ended[next_ended][1] > highest:
                _, highest, holder = ended[next_ended]
            next_ended += 1
        if key < highest:
            yield f"{op} {what} {holder}, which was answered before it began"


def one_incarnation_at_a_time(group: Group) -> Iterator[str]:
    """I5: incarnations follow one another, each answer is of the one that it should be, and no commit is missing."""
    journal = group.journal
    epochs = journal.epochs
    if any(later <= earlier for earlier, later in pairwise(dict.fromkeys(epochs))) or epochs != sorted(epochs):
        yield f"incarnations took turns: {list(dict.fromkeys(epochs))}"
    if journal.chains[-1] != journal.state.get("chain", journal.chains[-1]):
        yield "the entries are not those that its turns have written"
    if group.rest is not None and group.cls != "Saboteur" and group.rest.version != len(journal.tokens):
        yield f"{len(journal.tokens)} entries by {group.rest.version} commits"
    for op in group.ops:
        if 0 <= op.version < len(journal.chains) and op.epoch and op.outcome != "unknown":
            is_effect = op.token and op.outcome == "ok"
            before = epochs[op.version - 1] if op.version else 0
            after = before if is_effect else (epochs[op.version] if op.version < len(epochs) else op.epoch)
            if not before <= op.epoch <= after:
                yield f"answered by an incarnation other than {before} to {after}: {op}"


def memory_is_the_store(group: Group) -> Iterator[str]:
    """I8: what the engine showed in the end is what rests in the store."""
    if group.memory is None:
        return
    if group.rest is None:
        if group.memory != NOTHING:
            yield f"memory {group.memory!r:.300}, and nothing in the store"
    elif group.memory != group.rest.state and json.loads(group.memory) != group.journal.state:
        yield f"memory {group.memory!r:.300}, store {group.rest.state!r:.300}"


def clients_see_no_way_back(group: Group) -> Iterator[str]:
    """I10: what a client was shown once, it is never shown less of, nor by an earlier incarnation."""
    by_client: dict[int, list[Op]] = {}
    for op in group.ops:
        if op.version >= 0 and op.outcome != "unknown":
            by_client.setdefault(op.client, []).append(op)
    for ops in by_client.values():
        yield from out_of_order([(op.version, op) for op in ops], "shows less than")
        yield from out_of_order([(op.epoch, op) for op in ops if op.epoch], "is of an earlier incarnation than")


def known_in_the_end(group: Group, final: Final) -> Iterator[str]:
    """I9: a client that asks again under its key is told in the end, if all was healed."""
    if final.healed_at is None:
        return
    for op in group.ops:
        if op.keyed and op.outcome == "unknown":
            yield f"it was repeated under its key, and nobody ever said what became of it: {op}"


CHECKS: tuple[tuple[str, Check], ...] = (
    ("I1", acknowledged_is_durable),
    ("I2", nothing_twice),
    ("I3", failed_is_absent),
    ("I4", answers_are_true),
    ("I4", order_is_real),
    ("I5", one_incarnation_at_a_time),
    ("I8", memory_is_the_store),
    ("I10", clients_see_no_way_back),
)
