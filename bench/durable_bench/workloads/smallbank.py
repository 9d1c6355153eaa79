"""SmallBank (Alomari and others, 2008; also the workload of the papers on transactions of Orleans) on objects.

A customer is an object with a checking and a savings account, and a transaction is a call to it. Amalgamate and
SendPayment touch two customers. There are no transactions across objects here: such a transfer is two calls, a
withdrawal and a deposit. Each call has an idempotency key and is repeated until it is answered, so that no money is
lost and none is made; but between the two the money is nowhere, and who looks then sees that.

Weights are those of OLTP-Bench: each kind 15 %, SendPayment 25 %. Customers are chosen uniformly.
"""

from __future__ import annotations

import asyncio
import itertools
import time
from collections.abc import Awaitable, Callable, Iterator
from typing import Any, Final

from durable_bench.objects import Customer, InsufficientFunds
from durable_bench.workloads.base import BaseWorkload, in_portions
from durable_bench.workloads.choices import kinds, uniform
from durable_engine import DurableError, Engine

OPENING_CENTS: Final = 10_000_00
"""On each account."""
AMOUNT_CENTS_MAX: Final = 100_00
MONEY: Final = "cents"
PATIENCE_SECONDS: Final = 60.0
PAUSE_SECONDS: Final = 0.01
"""Before a call is repeated that was refused."""


class SmallBank(BaseWorkload):
    """Six kinds of transactions."""

    name = "smallbank"
    title = "SmallBank: six kinds of transactions, two of them between two customers"
    group = "smallbank"

    _kinds: Iterator[Callable[[], Awaitable[Any]]]

    async def prepare(self, engine: Engine) -> None:
        """Open the accounts."""
        await self.attach(engine)
        opened = await in_portions(engine.at(Customer, one).open(OPENING_CENTS, OPENING_CENTS) for one in self.ids())
        self._opened = sum(opened)

    async def attach(self, engine: Engine) -> None:
        """All random choices."""
        self.engine = engine
        self._ids = self.ids()
        seed = self.share.own_seed
        self._customers = uniform(self.objects, seed)
        self._others = uniform(max(self.objects - 1, 1), seed + 1, least=1)
        self._amounts = uniform(AMOUNT_CENTS_MAX, seed + 2, least=1)
        self._keys = map(f"{self.share.run}-{self.share.client}-{{}}".format, itertools.count())
        mix = (
            (self._balance, 0.15),
            (self._deposit_checking, 0.15),
            (self._transact_savings, 0.15),
            (self._write_check, 0.15),
            (self._amalgamate, 0.15),
            (self._send_payment, 0.25),
        )
        self._kinds = (mix[number][0] for number in kinds([weight for _, weight in mix], seed))

    def operation(self) -> Awaitable[Any]:
        """The next transaction."""
        return next(self._kinds)()

    async def verify(self) -> int:
        """All money that there was, and what came from outside, is there; how many transactions moved any."""
        balances = await in_portions(self.engine.at(Customer, one).balance() for one in self.ids())
        self.ledger.check(self.name, MONEY, sum(balances) - self._opened)
        return self.ledger.sure["transactions"]

    def _balance(self) -> Awaitable[Any]:
        return self.engine.at(Customer, self._customer()).balance()

    def _deposit_checking(self) -> Awaitable[Any]:
        return self._booked(Customer.deposit_checking, next(self._amounts))

    def _transact_savings(self) -> Awaitable[Any]:
        return self._booked(Customer.transact_savings, -next(self._amounts))

    def _write_check(self) -> Awaitable[Any]:
        return self._booked(Customer.write_check, next(self._amounts))

    async def _amalgamate(self) -> None:
        """All of one customer's money goes to another one's checking account."""
        whose, to = self._two()
        taken = await self._surely(Customer.withdraw_all, whose)
        await self._surely(Customer.deposit_checking, to, -taken)
        self.ledger.sure["transactions"] += 1

    async def _send_payment(self) -> None:
        whose, to = self._two()
        try:
            taken = await self._surely(Customer.withdraw, whose, next(self._amounts))
        except InsufficientFunds:
            return  # an answer, and no failure
        await self._surely(Customer.deposit_checking, to, -taken)
        self.ledger.sure["transactions"] += 1

    async def _booked(self, handler: Any, amount: int) -> None:
        """A transaction of one customer, which lets money into the bank or out of it."""
        try:
            grown = await self._surely(handler, self._customer(), amount)
        except InsufficientFunds:
            return
        self.ledger.sure[MONEY] += grown
        self.ledger.sure["transactions"] += 1

    async def _surely(self, handler: Any, customer: str, *arguments: int) -> int:
        """The answer, and one effect, however often it is asked for. Raises what no repetition heals."""
        key, give_up = next(self._keys), time.monotonic() + PATIENCE_SECONDS
        while True:
            try:
                grown: int = await self.engine.call(handler, customer, *arguments, idempotency_key=key)
            except DurableError as error:
                healed = error.retryable or error.outcome == "unknown"
                if not healed or time.monotonic() > give_up:
                    raise
                await asyncio.sleep(PAUSE_SECONDS)
            else:
                return grown

    def _customer(self) -> str:
        return self._ids[next(self._customers)]

    def _two(self) -> tuple[str, str]:
        """Two different customers, unless there is only one."""
        number = next(self._customers)
        return self._ids[number], self._ids[(number + next(self._others)) % self.objects]
