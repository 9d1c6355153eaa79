"""The store for many machines: PostgreSQL by asyncpg.

One connection commits, another one reads, so that a cold load does not wait for an fsync. A batch is one statement
that carries its own fence (`postgres_batch.py`). When a connection breaks under a statement, nobody knows whether it
was executed: `_resolve` bumps our epoch on a fresh connection, which makes it impossible for the old statement to be
executed from then on, and tells in the same answer whether it was.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from time import monotonic
from typing import Any, NoReturn
from uuid import UUID, uuid4

from durable_storage import crashpoints, postgres_schema
from durable_storage.address import Address, partitions_of_shard
from durable_storage.backoff import Backoff
from durable_storage.batching import Refused, refusal, settle
from durable_storage.errors import SchemaMismatch, StoreUnavailable
from durable_storage.ownership import NOBODY, closed, data_loss, fenced, fenced_by_term
from durable_storage.postgres_batch import compose, quoted, statement
from durable_storage.postgres_errors import EXPECTED, Verdict, explanation, judge
from durable_storage.postgres_link import DEADLINE_SECONDS, Link
from durable_storage.postgres_reads import PostgresReads
from durable_storage.queries import queries
from durable_storage.store import Change, Claim, DueAlarm, KeyExists, ListedAlarm, ResultRow, Served, Stored

_log = logging.getLogger(__name__)

_SQL = queries("postgres")
_EPOCHS_AFTER_LOSS = 1 << 20
"""A database restored from a backup shows old epochs; clients believe no reply with a lower one than they saw."""


class PostgresStore:
    """A shard's hold on a database. Implements `durable_storage.store.Store`."""

    def __init__(
        self,
        url: str,
        *,
        now: Callable[[], datetime] | None = None,
        deadline_seconds: float = DEADLINE_SECONDS,
    ) -> None:
        self.epoch = 0
        self.seq = 0
        self.unavailable_since: float | None = None
        """When (`time.monotonic`) the store stopped answering; None while it answers."""
        self._url = url
        self._now = now or (lambda: datetime.now(UTC))
        self._deadline_seconds = deadline_seconds
        self._claim: Claim | None = None
        self._incarnation = NOBODY.incarnation
        self._backend_pid = 0
        self._link: Link | None = None
        self._reads: PostgresReads | None = None
        self._committing = asyncio.Lock()
        self._home = ""
        self._quoted_home = ""

    # Opening

    async def open(self, claim: Claim) -> None:
        """Become the owner of the shard's row."""
        incarnation = uuid4()
        name = _application_name(claim.host, incarnation)
        link = Link(self._url, name=name, deadline_seconds=self._deadline_seconds)
        try:
            await self._inspect(link)
            await self._take(link, claim, incarnation)
        except BaseException as error:
            link.drop()
            if isinstance(error, EXPECTED) and not isinstance(error, StoreUnavailable):
                raise self._explained(error) from error
            raise
        self._claim, self._link = claim, link
        ours = partitions_of_shard(claim.shard, claim.shards)
        self._reads = PostgresReads(self._url, self._home, name, ours, self._deadline_seconds)

    async def _inspect(self, link: Link) -> None:
        connection = await link.connect()
        self._home = await postgres_schema.home_schema(connection)
        self._quoted_home = quoted(self._home)
        command = postgres_schema.migrate_command(self._url)
        await postgres_schema.check(connection, self._home, command)
        (settings,) = await link.fetch(_SQL["settings"])
        if settings["encoding"] != "UTF8":
            raise SchemaMismatch(f"the database's encoding is {settings['encoding']}: create one with ENCODING 'UTF8'")
        for name in ("fsync", "full_page_writes"):
            if settings[name] == "off":
                _log.warning("PostgreSQL runs with %s=off: a crash of its machine loses acknowledged calls", name)
        if settings["backend_pid"] != link.backend_pid:
            if settings["usual_commit"] == "off":
                raise StoreUnavailable(
                    "a connection pooler stands before PostgreSQL, where synchronous_commit is off: acknowledged calls "
                    "could be lost. Connect to PostgreSQL itself, or set synchronous_commit = on for this role there",
                    retryable=False,
                )
            _log.warning("a connection pooler stands before PostgreSQL: session settings may not hold, use it directly")

    async def _take(self, link: Link, claim: Claim, incarnation: UUID) -> None:
        (row,) = await link.fetch(self._home_sql("read_host"), claim.host) or [None]
        seq = row["seq"] if row else 0
        floor = claim.acknowledged_seq or 0
        if seq < floor and not claim.accept_data_loss:
            raise data_loss(claim, seq)
        if row:
            await self._terminate(link, row["backend_pid"], _application_name(claim.host, row["incarnation"]))
        step = 1 if seq >= floor else _EPOCHS_AFTER_LOSS
        owner = (claim.host, claim.node, claim.pid, link.backend_pid, claim.address, incarnation)
        claimed = await link.fetch(self._home_sql("claim_host"), *owner, step, floor, claim.term)
        if not claimed:
            raise fenced_by_term(claim)
        self._incarnation, self._backend_pid = incarnation, link.backend_pid
        self.epoch, self.seq = claimed[0]

    async def _terminate(self, link: Link, backend_pid: int, name: str) -> None:
        try:
            await link.fetch(_SQL["terminate_backend"], backend_pid, name)
        except EXPECTED as error:
            if judge(error) is Verdict.UNKNOWN:
                raise
            # No right to do so, for instance: then we wait for its lock, until the server gives up on its client.
            _log.info("could not end the earlier owner's connection: %s", error)

    def _home_sql(self, name: str) -> str:
        return _SQL[name].format(home=self._quoted_home)

    def _explained(self, error: BaseException, prefix: str = "") -> Exception:
        return explanation(error, migrate=postgres_schema.migrate_command(self._url, prefix))

    # Reading

    async def load(self, addresses: Sequence[Address]) -> list[Stored | None]:
        """The stored objects in the order asked."""
        return await self._opened_reads().load(addresses)

    async def load_results(self, keys: Sequence[tuple[Address, str]]) -> list[ResultRow | None]:
        """Unexpired results in the order asked."""
        return await self._opened_reads().load_results(keys, self._now())

    async def list_ids(self, prefix: str, object_type: str, after: str | None, limit: int) -> list[str]:
        """A page of ids in byte order."""
        return await self._opened_reads().list_ids(prefix, object_type, after or "", limit)

    async def due_alarms(self, served: Served, before: datetime, limit: int) -> list[DueAlarm]:
        """Alarms of all tenants to be fired, soonest first."""
        return await self._opened_reads().due_alarms(served, before, limit)

    async def list_alarms(
        self, prefix: str, served: Served | None, after: tuple[str, str, str] | None, limit: int
    ) -> list[ListedAlarm]:
        """A page of a tenant's alarms."""
        return await self._opened_reads().list_alarms(prefix, served, after, limit)

    async def purge_results(self, limit: int) -> int:
        """Remove expired results of all tenants."""
        return await self._opened_reads().purge_results(self._now(), limit)

    async def confirm(self) -> None:
        """Raises Fenced when the row has another owner, and DataLossDetected when it is older than our last commit."""
        reads, claim, known = self._opened_reads(), self._owner(), self.seq
        confirmed = await reads.fetch(self._home_sql("confirm_host"), claim.host, self._incarnation)
        found = confirmed or await reads.fetch(self._home_sql("read_host"), claim.host)
        self._check_not_turned_back(found, known)
        if not confirmed:
            raise fenced(claim)

    def _check_not_turned_back(self, found: Sequence[Any], known: int) -> None:
        # Every owner goes on from what the one before acknowledged: a row that has less, or is gone, is of a backup or
        # of a replica that was left behind, whoever owns it.
        seq = found[0]["seq"] if found else 0
        if seq < known:
            raise data_loss(self._owner(), seq, known=known)

    # Committing

    async def commit(self, changes: Sequence[Change]) -> dict[int, Exception]:
        """Apply all changes; {index: error} of the refused."""
        async with self._committing:
            return await settle(changes, self._apply)

    async def _apply(self, changes: Sequence[Change]) -> None:
        claim, link = self._owner(), self._opened_link()
        prefix = changes[0].address.prefix
        try:
            schema = quoted(postgres_schema.schema_of(prefix, self._home))
        except SchemaMismatch as error:
            raise Refused(refusal(error), divisible=False) from error
        shape, columns = compose(changes, self._now())
        sql = statement(shape, self._quoted_home, schema)
        backoff = Backoff()
        while True:
            if not link.is_open:
                # It broke while idle, or under a commit that was cancelled: nothing of this one is under way yet.
                await self._resolve()
            try:
                owned = (claim.host, self._incarnation, self.epoch, self.seq)
                self.seq = await link.fetchval(sql, *owned, *columns)
            except EXPECTED as error:
                if await self._was_applied_after(error, changes):
                    return
            else:
                self.unavailable_since = None
                return
            await backoff.wait()

    async def _was_applied_after(self, error: Exception, changes: Sequence[Change]) -> bool:
        """What an error leaves to be done: True: nothing; False: try again. Raises Refused, Fenced."""
        match judge(error):
            case Verdict.REFUSED if _repeats_a_key(changes):
                raise Refused(KeyExists(str(error))) from error
            case Verdict.REFUSED:
                raise Refused(refusal(error)) from error
            case Verdict.HOPELESS:
                reason = self._explained(error, changes[0].address.prefix)
                raise Refused(refusal(reason), divisible=False) from error
            case Verdict.KEY_EXISTS:
                raise Refused(KeyExists(str(error))) from error
            case Verdict.RETRY:
                self._note_unavailable(error)
                return False
            case Verdict.RECONNECT | Verdict.UNKNOWN:
                self._note_unavailable(error)
                self._opened_link().drop()
                return await self._resolve()
            case Verdict.FENCED:
                # Ours still, if it was an earlier bump of our own epoch that arrived late.
                return await self._resolve()

    async def _resolve(self) -> bool:
        """Whether the statement under way was executed, having made sure that it cannot be any more.

        Tries for as long as the server is away. Raises Fenced, DataLossDetected.
        """
        await crashpoints.stop_at("before_resolve", self)
        claim, link = self._owner(), self._opened_link()
        backoff = Backoff()
        while True:
            try:
                await link.connect()
                if self._backend_pid != link.backend_pid:
                    await self._terminate(link, self._backend_pid, _application_name(claim.host, self._incarnation))
                bumped = await link.fetch(self._home_sql("bump_epoch"), claim.host, self._incarnation, link.backend_pid)
                found = bumped or await link.fetch(self._home_sql("read_host"), claim.host)
            except EXPECTED as error:
                self._note_unavailable(error)
                link.drop()
                await backoff.wait()
                continue
            self._check_not_turned_back(found, self.seq)
            if not bumped:
                raise fenced(claim)
            return self._was_executed(*bumped[0])

    def _was_executed(self, epoch: int, seq: int) -> bool:
        before, self.epoch = self.seq, epoch
        assert before <= seq <= before + 1, "nobody but this owner advances seq"
        self.seq = seq
        self._backend_pid = self._opened_link().backend_pid
        self.unavailable_since = None
        return seq > before

    def _note_unavailable(self, error: BaseException) -> None:
        if self.unavailable_since is None:
            self.unavailable_since = monotonic()
            _log.warning("%s: PostgreSQL does not answer, trying again: %s", self._owner().host, error)

    async def close(self) -> None:
        """End both connections, after the commit under way."""
        async with self._committing:
            link, self._link = self._link, None
            reads, self._reads = self._reads, None
        if link:
            await link.close()
        if reads:
            await reads.close()

    def _owner(self) -> Claim:
        assert self._claim is not None, "open the store first"
        return self._claim

    def _opened_link(self) -> Link:
        return self._link or _closed()

    def _opened_reads(self) -> PostgresReads:
        return self._reads or _closed()


def _repeats_a_key(changes: Sequence[Change]) -> bool:
    # To PostgreSQL that is a row touched twice; a larger unit is halved until one change stands alone.
    results = changes[0].results
    return len(changes) == 1 and len({row.key for row in results}) < len(results)


def _closed() -> NoReturn:
    raise closed()


def _application_name(host: str, incarnation: UUID) -> str:
    """Names our connections on the server, so that a later owner ends these and no others."""
    return f"durable-engine {host} {incarnation.hex[:12]}"
