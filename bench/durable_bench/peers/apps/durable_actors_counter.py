"""The counter as a class of durable-actors."""

from durable_actors import Actor, persisted


class Counter(Actor):
    count: int = persisted(0)

    def add(self, amount: int) -> int:
        self.count += amount
        return self.count

    def read(self) -> int:
        return self.count
