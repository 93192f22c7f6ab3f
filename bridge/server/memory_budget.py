"""How many bytes of values may be on their way through the server at a time.

Invariant: what is reserved never exceeds the total; who has to wait is served in the order of coming.
A stream waits for its first chunk only: more than one is given while half of the total is free
(`try_acquire_spare`), so that streams whose clients are slow cannot keep the others out.
"""

from collections import deque
from collections.abc import Callable


class MemoryBudget:
    """Bytes to share out."""

    def __init__(self, total: int) -> None:
        self.total = total
        self.used = 0
        self._waiting: deque[tuple[int, Callable[[], None]]] = deque()

    def __repr__(self) -> str:
        return f"<MemoryBudget: {self.used}/{self.total} bytes used, {len(self._waiting)} waiting>"

    def try_acquire(self, size: int) -> bool:
        """Reserve `size` bytes if there is room and nobody waits; whether there was."""
        return not self._waiting and self._take(size, self.total)

    def try_acquire_spare(self, size: int) -> bool:
        """Reserve `size` bytes if there is plenty of room; whether there was."""
        return not self._waiting and self._take(size, self.total // 2)

    def try_acquire_unfair(self, size: int) -> bool:
        """Reserve `size` bytes, few, that are here already, past those who wait; whether there was room."""
        return self._take(size, self.total)

    def acquire_later(self, size: int, then: Callable[[], None]) -> None:
        """Wait: `then` is called once `size` bytes (at most `total`) have been reserved."""
        self._waiting.append((size, then))

    def release(self, size: int) -> None:
        """Free what was reserved."""
        self.used -= size
        while self._waiting and self._take(self._waiting[0][0], self.total):
            self._waiting.popleft()[1]()

    def _take(self, size: int, limit: int) -> bool:
        if self.used + size > limit:
            return False
        self.used += size
        return True
