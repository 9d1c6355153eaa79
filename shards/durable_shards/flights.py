"""Firings in flight, counted for each object: one that is slow, with many alarms due, must not take all the room.

An object's turns come one after the other, so that what is fired beyond the first few would only wait in its mailbox,
for as long as the first takes. It waits here instead, in no other object's way, until a firing of its object has ended.
"""

from __future__ import annotations

from collections import deque

from durable_storage.address import Address

Key = tuple[Address, str]


class Flights:
    """Alarms by what becomes of them after they were due: fired and not ended yet, or waiting for that of others."""

    def __init__(self, per_object_max: int) -> None:
        self._per_object_max = per_object_max
        self._due_again: dict[Key, bool] = {}
        """Those in flight; True when another firing of the same alarm is due already."""
        self._counts: dict[Address, int] = {}
        """Firings in flight by object."""
        self._behind: dict[Address, deque[Key]] = {}
        """Alarms that wait, by object: it has firings in flight then, or it is `_ready`."""
        self._ready: deque[Address] = deque()

    def __len__(self) -> int:
        return len(self._due_again)

    def __contains__(self, key: object) -> bool:
        return key in self._due_again

    @property
    def ready(self) -> bool:
        """Whether one that waited may be fired now."""
        return bool(self._ready)

    def keep_back(self, key: Key) -> bool:
        """Whether an alarm that is due has to wait: for its own firing, or for those of its object."""
        address = key[0]
        if key in self._due_again:
            self._due_again[key] = True
        elif self._counts.get(address, 0) >= self._per_object_max or address in self._behind:
            self._behind.setdefault(address, deque()).append(key)
        else:
            return False
        return True

    def begin(self, key: Key) -> None:
        """It is fired."""
        self._due_again[key] = False
        self._counts[key[0]] = self._counts.get(key[0], 0) + 1

    def end(self, key: Key) -> bool:
        """The firing is over; whether another one of the same alarm is due already."""
        address = key[0]
        self._counts[address] -= 1
        if not self._counts[address]:
            del self._counts[address]
        if address in self._behind:
            self._ready.append(address)
        return self._due_again.pop(key)

    def next_ready(self) -> Key | None:
        """An alarm that waited, to be fired now unless it was disarmed or armed anew; None when none has to."""
        while self._ready:
            address = self._ready[0]
            behind = self._behind.get(address)
            if behind is None or self._counts.get(address, 0) >= self._per_object_max:
                self._ready.popleft()
                continue
            key = behind.popleft()
            if not behind:
                del self._behind[address]
            if key not in self._due_again:
                return key
            self._due_again[key] = True
        return None
