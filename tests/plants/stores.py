"""Faults of the stores: fences, outcomes, refusals, and what becomes of stored rows."""

from __future__ import annotations

from durable_storage import batching, codec, memory, postgres, sqlite_file
from tests.plants.plant import Bed
from tests.plants.surgery import rewrite, rewrite_sql

bed = Bed()

OWNERSHIP = "tests/contract/test_ownership.py::"
POSTGRES = "tests/contract/test_postgres_faults.py::"
REFUSALS = "tests/contract/test_refusals.py::"


@bed.plant(
    "PostgreSQL: the batch's fence is a plain SELECT, so that a statement which waited for a lock writes after all",
    attacks="P1, I5",
    catcher=POSTGRES + "test_a_statement_that_waits_during_a_takeover_writes_nothing",
    reason="DID NOT RAISE.*Fenced",
)
def plain_select_fence() -> None:
    rewrite_sql(
        "postgres",
        "batch_fence",
        (
            "UPDATE {home}.durable_hosts SET seq = seq + 1, confirmed_at = now()",
            "SELECT seq + 1 AS seq FROM {home}.durable_hosts",
        ),
        (
            "AND seq = $4 RETURNING seq",
            "AND seq = $4), counted AS (UPDATE {home}.durable_hosts SET seq = seq + 1 WHERE host = $1 RETURNING 1",
        ),
    )


@bed.plant(
    "SQLite: the fence compares neither owner nor count",
    attacks="P1, I5",
    catcher=OWNERSHIP + "test_a_zombies_commit_raises_fenced_and_writes_nothing[sqlite]",
    reason="DID NOT RAISE.*Fenced",
)
def sqlite_without_fence() -> None:
    rewrite_sql("sqlite", "advance_fence", ("incarnation = ?", "? NOT NULL"), ("AND seq = ?", "AND ? NOT NULL"))


@bed.plant(
    "memory: a commit of whoever owned the shard once is applied",
    attacks="P1, I5",
    catcher=OWNERSHIP + "test_a_zombies_commit_raises_fenced_and_writes_nothing[memory]",
    reason="DID NOT RAISE.*Fenced",
)
def memory_without_fence() -> None:
    rewrite(
        memory.MemoryWorld.apply,
        ("if host is None or (host.incarnation, host.epoch, host.seq) != owned:", "if host is None:"),
    )


@bed.plant(
    "PostgreSQL: an unknown outcome is decided by reading the count, without a new epoch",
    attacks="P5, I1, I2",
    catcher=POSTGRES + "test_a_statement_that_arrives_after_its_outcome_was_resolved_does_nothing",
    reason=r"assert \(1, 3\) == \(2, 3\)",
)
def outcome_by_reading() -> None:
    rewrite_sql(
        "postgres",
        "bump_epoch",
        (
            "UPDATE {home}.durable_hosts SET epoch = epoch + 1, backend_pid = $3, confirmed_at = now()",
            "SELECT epoch, seq FROM {home}.durable_hosts",
        ),
        ("incarnation = $2 RETURNING epoch, seq", "incarnation = $2 AND $3::integer IS NOT NULL"),
    )


@bed.plant(
    "memory: the same, where a test's clock decides when a late statement arrives",
    attacks="P5, I1, I2",
    catcher="tests/contract/test_memory_faults.py::test_a_lost_connection_is_resolved_to_exactly_one_application[late]",
    reason="Fenced",
)
def memory_outcome_by_reading() -> None:
    rewrite(memory.MemoryWorld.bump, ("host.epoch += 1", "pass"))


@bed.plant(
    "a commit whose answer was lost is taken for not applied, and applied once more",
    attacks="P5, I2",
    catcher="tests/contract/test_memory_faults.py::test_a_lost_connection_is_resolved_to_exactly_one_application[after]",
    reason=r"KeyExists.* == \{\}",
)
def outcome_assumed_not_applied() -> None:
    rewrite(memory.MemoryStore._was_applied, ("return self.seq > before", "return False"))
    rewrite(postgres.PostgresStore._was_executed, ("return seq > before", "return False"))


@bed.plant(
    "a commit whose answer was lost is taken for applied",
    attacks="P2, P5, I1",
    catcher="tests/contract/test_memory_faults.py::test_a_lost_connection_is_resolved_to_exactly_one_application[before]",
    reason=r"assert \(2, 1, 1\) == \(2, 2, 2\)",
)
def outcome_assumed_applied() -> None:
    rewrite(memory.MemoryStore._was_applied, ("return self.seq > before", "return True"))
    rewrite(postgres.PostgresStore._was_executed, ("return seq > before", "return True"))


@bed.plant(
    "a row that the store refuses fails all its neighbours of the batch with its error",
    attacks="P4, P9",
    catcher=REFUSALS + "test_a_poisonous_state_fails_alone",
    reason="Extra items in the left set",
)
def poison_fails_its_neighbours() -> None:
    rewrite(batching.settle, ("if len(unit) == 1 or not answer.divisible:", "if True:"))


@bed.plant(
    "the search for a refused row forgets a half of the batch, whose callers are told that it is stored",
    attacks="P2, I1",
    catcher=REFUSALS + "test_a_poisonous_state_fails_alone",
    reason=r"assert \{0\} == \{0, 1\}",
)
def bisection_loses_neighbours() -> None:
    rewrite(batching.settle, ("waiting += (unit[half:], unit[:half])", "waiting += (unit[:half],)"))


@bed.plant(
    "the search for a refused row blames the one next to it",
    attacks="P4, I3",
    catcher=REFUSALS + "test_a_poisonous_state_fails_alone",
    reason=r"assert \{0\} == \{0, 1\}",
)
def bisection_blames_a_neighbour() -> None:
    rewrite(
        batching.settle,
        (
            "refused.update(dict.fromkeys(unit, answer.error))",
            "refused.update(dict.fromkeys([max(index - 1, 0) for index in unit], answer.error))",
        ),
    )


@bed.plant(
    "a store that shows less than was acknowledged is opened all the same",
    attacks="P2, I1",
    catcher=OWNERSHIP + "test_a_store_that_shows_less_than_was_acknowledged_is_refused[memory]",
    reason="DID NOT RAISE.*DataLossDetected",
)
def loss_is_served() -> None:
    rewrite(memory.MemoryWorld.claim, ("if seq < floor and not claim.accept_data_loss:", "if False:"))
    rewrite(postgres.PostgresStore._take, ("if seq < floor and not claim.accept_data_loss:", "if False:"))


@bed.plant(
    "SQLite does not wait for its disk",
    attacks="P2, I1",
    catcher="tests/contract/test_sqlite_faults.py::test_a_failed_fsync_is_resolved",
    reason=r"assert 0 == \d",
)
def sqlite_without_fsync() -> None:
    rewrite(sqlite_file.connect, ("PRAGMA synchronous = FULL", "PRAGMA synchronous = OFF"))


@bed.plant(
    "stored fields that the code does not declare are gone after the next save",
    attacks="P4, F2",
    catcher="tests/storage/test_codec.py::test_unknown_stored_fields_are_kept_and_written_back",
    reason="KeyError: '_durable_extra'",
)
def unknown_fields_dropped() -> None:
    rewrite(codec.StateCodec._decode_leniently, ("if unknown:", "if False:"))
