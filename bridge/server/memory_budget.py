"""Memory budget for values in flight through the server.

Invariant: reservations never exceed the total; waiters are served first come, first served.
A stream waits for its first chunk only: more than one is given while half of the total is free
(`try_acquire_spare`), so that streams whose clients are slow cannot keep the others out.
"""

from collections import deque
from collections.abc import Callable


class MemoryBudget:
    """A budget of bytes with a FIFO wait queue."""

    def __init__(self, total: int) -> None:
        self.total = total
        self.used = 0
        self._waiting: deque[tuple[int, Callable[[], None]]] = deque()

    def __repr__(self) -> str:
        return f"<MemoryBudget: {self.used}/{self.total} bytes used, {len(self._waiting)} waiting>"

    def try_acquire(self, size: int) -> bool:
        """Reserve `size` bytes if there is room and the wait queue is empty. Returns whether it did."""
        return not self._waiting and self._take(size, self.total)

    def try_acquire_spare(self, size: int) -> bool:
        """Reserve `size` bytes if more than half of the budget is free. Returns whether it did."""
        return not self._waiting and self._take(size, self.total // 2)

    def try_acquire_unfair(self, size: int) -> bool:
        """Reserve a few already-received bytes, bypassing the wait queue. Returns False if over budget."""
        return self._take(size, self.total)

    def acquire_later(self, size: int, then: Callable[[], None]) -> None:
        """Queue for `size` bytes (at most `total`); `then` is called once they are reserved."""
        self._waiting.append((size, then))

    def release(self, size: int) -> None:
        """Release a reservation, and grant those that wait."""
        self.used -= size
        while self._waiting and self._take(self._waiting[0][0], self.total):
            self._waiting.popleft()[1]()

    def _take(self, size: int, limit: int) -> bool:
        if self.used + size > limit:
            return False
        self.used += size
        return True
