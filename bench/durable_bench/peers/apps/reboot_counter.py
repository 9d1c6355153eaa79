"""The counter as a servicer of Reboot; what `counter.proto` declares is generated when the peer is installed."""

import asyncio

from counter.v1.counter_rbt import AddRequest, AddResponse, Counter, CountRequest, CountResponse
from reboot.aio.applications import Application
from reboot.aio.auth.authorizers import allow
from reboot.aio.contexts import ReaderContext, WriterContext


class CounterServicer(Counter.Servicer):
    def authorizer(self) -> object:
        return allow()

    async def add(self, context: WriterContext, request: AddRequest) -> AddResponse:
        self.state.count += request.amount
        return AddResponse(count=self.state.count)

    async def count(self, context: ReaderContext, request: CountRequest) -> CountResponse:
        return CountResponse(count=self.state.count)


if __name__ == "__main__":
    asyncio.run(Application(servicers=[CounterServicer]).run())
