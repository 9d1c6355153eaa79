"""The fencing token of a host row, and the two ways of being turned away with it.

A row carries (incarnation, epoch, seq). The incarnation is random, made anew by each `open` and by each takeover: by
it an owner that lost its connection while bumping its epoch knows that it was itself who bumped, and no zombie can
ever match a row again, not even after a backup was restored that turned epochs back.
"""

from __future__ import annotations

from typing import NamedTuple
from uuid import UUID

from durable_storage.errors import DataLossDetected, Fenced, StoreUnavailable
from durable_storage.store import Claim


class Ownership(NamedTuple):
    """What a commit must find in the host row; it leaves the same with `seq` one higher."""

    incarnation: UUID
    epoch: int
    seq: int


NOBODY = Ownership(UUID(int=0), 0, 0)
"""Matches no row: epochs begin at 1."""


def data_loss(claim: Claim, seq: int, known: int | None = None) -> DataLossDetected:
    """The store shows `seq`, somebody remembers more: `known`, or the claimant."""
    known = known or claim.acknowledged_seq or 0
    return DataLossDetected(
        f"the store of {claim.host} ends at commit {seq}, but commit {known} was acknowledged: "
        f"{known - seq} commits are missing (a torn or deleted write-ahead log, a stale replica, an old backup). "
        "Nothing was changed and nothing is served. Bring the store back, or accept the loss with --accept-data-loss"
    )


def fenced(claim: Claim | None) -> Fenced:
    """Our host row belongs to another process."""
    host = claim.host if claim else "this shard"
    return Fenced(f"{host} was taken over by another process: this one may neither write nor answer any more")


def fenced_by_term(claim: Claim) -> Fenced:
    """The supervisor that started us rules no more."""
    return Fenced(
        f"{claim.host} was started in term {claim.term}, which is over: another supervisor took the store over"
    )


def closed() -> StoreUnavailable:
    """The store was not opened, or is closed already."""
    return StoreUnavailable("this store is closed", retryable=False)
