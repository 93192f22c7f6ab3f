"""Usage of a chat model and its cost."""

from ...configs.chat_models import Prices
from ...messages.chat import ModelStatistics, Usage

MILLION = 1e6


def cost_of(usage: Usage, prices: Prices | None) -> float | None:
    """The cost in the currency of the prices; None without them."""
    if prices is None:
        return None
    cached = prices.prompt if prices.cached_prompt is None else prices.cached_prompt
    fresh_tokens = usage.prompt_tokens - usage.cached_tokens
    return (
        fresh_tokens * prices.prompt
        + usage.cached_tokens * cached
        + usage.completion_tokens * prices.completion
    ) / MILLION


class UsageMeter:
    """Counts since the model was opened."""

    def __init__(self, prices: Prices | None) -> None:
        self._prices = prices
        self._usage = Usage()
        self.requests = self.failures = self.running = 0

    def add(self, usage: Usage) -> float | None:
        """Count a reply's usage; hands back its cost."""
        self._usage = Usage(
            prompt_tokens=self._usage.prompt_tokens + usage.prompt_tokens,
            completion_tokens=self._usage.completion_tokens + usage.completion_tokens,
            cached_tokens=self._usage.cached_tokens + usage.cached_tokens,
        )
        return cost_of(usage, self._prices)

    def statistics(self, retries: int) -> ModelStatistics:
        """The counts so far, and their cost."""
        return ModelStatistics(
            requests=self.requests,
            failures=self.failures,
            retries=retries,
            running=self.running,
            prompt_tokens=self._usage.prompt_tokens,
            completion_tokens=self._usage.completion_tokens,
            cached_tokens=self._usage.cached_tokens,
            cost=cost_of(self._usage, self._prices),
        )
