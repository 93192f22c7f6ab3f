"""Rate limits that we keep by ourselves. Decided synchronously; the caller does the waiting."""

from ...configs.chat_models import RateLimits

MINUTE_S = 60.0


class Bucket:
    """A bucket that holds a minute's worth and fills steadily; an amount over that waits for a full one.

    It may be drawn below zero: whoever comes later waits longer, in the order of arrival.

        bucket = Bucket(60, now=0.0)      # one a second
        bucket.take(60, now=0.0)          # 0.0: no wait
        bucket.take(2, now=0.0)           # 2.0: seconds to wait
    """

    def __init__(self, per_minute: float, now: float) -> None:
        self._rate = per_minute / MINUTE_S
        self._size = per_minute
        self._level = per_minute
        self._at = now

    def wait_s(self, amount: float, now: float) -> float:
        """Seconds until `amount` could be taken."""
        self._fill(now)
        return max(0.0, (min(amount, self._size) - self._level) / self._rate)

    def take(self, amount: float, now: float) -> float:
        """Take it; the caller waits for the seconds that come back before it goes on."""
        wait = self.wait_s(amount, now)
        self._level -= amount
        return wait

    def give_back(self, amount: float, now: float) -> None:
        """Less was used than taken; negative where it was more."""
        self._fill(now)
        self._level = min(self._size, self._level + amount)

    def _fill(self, now: float) -> None:
        self._level = min(self._size, self._level + (now - self._at) * self._rate)
        self._at = now


class Limiter:
    """Requests and tokens a minute, and a pause that a server asked for."""

    def __init__(self, limits: RateLimits, now: float) -> None:
        self._requests = Bucket(limits.requests_per_minute, now) if limits.requests_per_minute else None
        self._tokens = Bucket(limits.tokens_per_minute, now) if limits.tokens_per_minute else None
        self._paused_until = now

    def wait_s(self, tokens: int, now: float) -> float:
        """Seconds that a request of this size would have to wait."""
        requests = self._requests.wait_s(1, now) if self._requests else 0.0
        words = self._tokens.wait_s(tokens, now) if self._tokens else 0.0
        return max(0.0, requests, words, self._paused_until - now)

    def take(self, tokens: int, now: float) -> float:
        """Count a request; it may start after the seconds that come back."""
        wait = self.wait_s(tokens, now)
        if self._requests:
            self._requests.take(1, now)
        if self._tokens:
            self._tokens.take(tokens, now)
        return wait

    def settle(self, taken: int, used: int, now: float) -> None:
        """Correct an estimate by what was really used."""
        if self._tokens:
            self._tokens.give_back(taken - used, now)

    def pause(self, seconds: float, now: float) -> None:
        """The server asked for quiet: nobody starts before."""
        self._paused_until = max(self._paused_until, now + seconds)
