"""What PostgreSQL's and asyncpg's errors mean for a statement: may it have been executed, and what is to be done?

The one rule that matters: only an ERROR on a connection that goes on living says that nothing was executed. Whatever
ends the connection (FATAL, PANIC, a reset, our own deadline) may have come after the commit, and leaves it open.
"""

from __future__ import annotations

from enum import Enum, auto

import asyncpg

from durable_storage.errors import SchemaMismatch, StoreUnavailable

FENCED = "DE001"
"""Raised by a batch statement that does not find the host row as expected."""
KEY_EXISTS = "DE002"
"""Raised by a batch statement that finds an idempotency key stored already."""


class Verdict(Enum):
    """What an error means for the statement that met it."""

    UNKNOWN = auto()
    """The connection is lost: it may have been executed."""
    RETRY = auto()
    """Not executed, the same statement may succeed later."""
    RECONNECT = auto()
    """Not executed, and this connection will never execute it."""
    REFUSED = auto()
    """Not executed because of a value in it: a part of it may succeed."""
    HOPELESS = auto()
    """Not executed, and no part of it would be."""
    FENCED = auto()
    """Not executed: the host row is not as our last commit left it."""
    KEY_EXISTS = auto()
    """Not executed: an idempotency key of it is stored."""


_BY_STATE = {
    FENCED: Verdict.FENCED,
    KEY_EXISTS: Verdict.KEY_EXISTS,
    "25006": Verdict.RECONNECT,  # read_only_sql_transaction: we still talk to a server that was demoted
    "26000": Verdict.RECONNECT,  # invalid_sql_statement_name: a pooler gave us another server connection
    "42P05": Verdict.RECONNECT,  # duplicate_prepared_statement: the same
    "55P03": Verdict.RETRY,  # lock_not_available
    "40003": Verdict.UNKNOWN,  # statement_completion_unknown: of a pooler or a cluster, never of PostgreSQL itself
    "57014": Verdict.RETRY,  # query_canceled: somebody's statement_timeout
    "55006": Verdict.RETRY,  # object_in_use
}
_BY_CLASS = {
    "08": Verdict.UNKNOWN,  # connection exceptions
    "57": Verdict.UNKNOWN,  # admin_shutdown, crash_shutdown, cannot_connect_now
    "40": Verdict.RETRY,  # serialization_failure, deadlock_detected
    "53": Verdict.RETRY,  # disk_full, out_of_memory, too_many_connections
    "58": Verdict.RETRY,  # io_error
    "21": Verdict.REFUSED,  # cardinality_violation
    "22": Verdict.REFUSED,  # data exceptions
    "23": Verdict.REFUSED,  # constraint violations
    "54": Verdict.REFUSED,  # program limits exceeded
}


def judge(error: BaseException) -> Verdict:
    """The verdict on a statement that ended with `error`."""
    if isinstance(error, asyncpg.InvalidCachedStatementError | asyncpg.OutdatedSchemaCacheError):
        return Verdict.RECONNECT  # Somebody altered a table: prepare anew.
    if isinstance(error, asyncpg.PostgresError):
        if getattr(error, "severity_en", None) in {"FATAL", "PANIC"}:
            return Verdict.UNKNOWN
        state = error.sqlstate or ""
        return _BY_STATE.get(state) or _BY_CLASS.get(state[:2], Verdict.HOPELESS)
    if isinstance(error, ValueError | OverflowError):
        return Verdict.REFUSED  # asyncpg could not encode an argument: nothing was sent.
    return Verdict.UNKNOWN


EXPECTED = (asyncpg.PostgresError, asyncpg.InterfaceError, asyncpg.InternalClientError, OSError)
"""What a driver call can raise; anything else is a bug and passes through."""


_NOT_OUR_TABLES = (
    asyncpg.UndefinedTableError,
    asyncpg.InvalidSchemaNameError,
    asyncpg.UndefinedColumnError,
    asyncpg.UndefinedFunctionError,
)
_ADVICE: dict[type[asyncpg.PostgresError], tuple[str, bool]] = {
    # Why, and whether it may pass by itself.
    asyncpg.InvalidCatalogNameError: ("{error}: create it with `createdb`, then run `{migrate}`", False),
    asyncpg.InvalidAuthorizationSpecificationError: ("PostgreSQL refused us: {error}", False),
    asyncpg.InsufficientPrivilegeError: (
        "the database role lacks rights ({error}): grant them, or connect as the tables' owner",
        False,
    ),
    asyncpg.ReadOnlySQLTransactionError: (
        "PostgreSQL is read-only ({error}): it is a standby, or an operator made it so",
        True,
    ),
}


def explanation(error: BaseException, *, migrate: str) -> SchemaMismatch | StoreUnavailable:
    """The typed error for those who call the engine. `migrate` is the command that makes the tables."""
    if isinstance(error, _NOT_OUR_TABLES):
        return SchemaMismatch(f"the tables are not there or not of this version ({error}): run `{migrate}`")
    for kind, (advice, retryable) in _ADVICE.items():
        if isinstance(error, kind):
            return StoreUnavailable(advice.format(error=error, migrate=migrate), retryable=retryable)
    return StoreUnavailable(f"PostgreSQL cannot be used at the moment: {str(error) or type(error).__name__}")
