"""How long to wait before asking again."""

from random import Random

from ...configs.chat_models import RetrySettings
from .errors import ModelError, RateLimited

_random = Random()


def pause_before(attempt: int, error: ModelError, settings: RetrySettings) -> float | None:
    """Seconds before attempt number `attempt` (the first retry is 2); None: do not ask again.

    Doubles with each attempt, with a random part so that many callers do not come back at once; never
    shorter than what the server asked for.
    """
    if not error.retryable or attempt > settings.attempts:
        return None
    longest = min(settings.max_pause_s, settings.pause_s * 2.0 ** (attempt - 2))
    pause = _random.uniform(longest / 2, longest)
    if isinstance(error, RateLimited) and error.retry_after_s is not None:
        return max(pause, error.retry_after_s)
    return pause
