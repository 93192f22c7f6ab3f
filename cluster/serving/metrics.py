"""Metrics of a server, in Prometheus's text format."""

from collections import Counter
from collections.abc import Iterable, Mapping

from ...messages.generation import EngineStatistics

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
PREFIX = "agentfactory_serving"
Labels = tuple[tuple[str, str], ...]


class ServingMetrics:
    """Counts since the start."""

    def __init__(self) -> None:
        self.running = 0
        self._requests: Counter[Labels] = Counter()
        self._prompt_tokens: Counter[Labels] = Counter()
        self._completion_tokens: Counter[Labels] = Counter()

    def answered(self, path: str, status: int) -> None:
        """A request has been answered."""
        self._requests[(("path", path), ("status", str(status)))] += 1

    def used(self, model: str, prompt_tokens: int, completion_tokens: int) -> None:
        """Tokens were read and sampled."""
        self._prompt_tokens[(("model", model),)] += prompt_tokens
        self._completion_tokens[(("model", model),)] += completion_tokens

    def text(self, engine: EngineStatistics) -> str:
        """All of them, with the engine's own."""
        parts = [
            _metric("requests_total", "counter", "Requests that were answered.", self._requests),
            _metric(
                "prompt_tokens_total", "counter", "Prompt tokens of finished replies.", self._prompt_tokens
            ),
            _metric(
                "completion_tokens_total", "counter", "Tokens of finished replies.", self._completion_tokens
            ),
            _metric("running", "gauge", "Requests in hand.", {(): self.running}),
            _metric("engine_running", "gauge", "Sequences that decode.", {(): engine.running}),
            _metric("engine_waiting", "gauge", "Sequences that wait for a place.", {(): engine.waiting}),
            _metric(
                "engine_tokens_total",
                "counter",
                "Tokens that the engine sampled, those of aborted requests included.",
                {(): engine.generated_tokens},
            ),
        ]
        return "".join(line + "\n" for part in parts for line in part)


def _metric(name: str, kind: str, about: str, values: Mapping[Labels, int]) -> Iterable[str]:
    full = f"{PREFIX}_{name}"
    yield f"# HELP {full} {about}"
    yield f"# TYPE {full} {kind}"
    for labels, value in sorted(values.items()):
        written = ",".join(f'{label}="{_escape(text)}"' for label, text in labels)
        yield f"{full}{{{written}}} {value}" if written else f"{full} {value}"


def _escape(text: str) -> str:
    return text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
