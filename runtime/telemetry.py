"""Logs (structlog) and metrics.

Log lines carry whatever ids the context has bound (`actor`, `episode_id`) and the run's, as JSON for
machines or in columns for people. Metrics are counters, gauges and histograms by name; inside a Ray
process they are exported through Ray's own metrics, so that its dashboard and Prometheus see them.
"""

import json
import logging
import sys
import time
from bisect import bisect_left
from collections.abc import Mapping, MutableMapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TextIO

import structlog
from pydantic_core import to_json

if TYPE_CHECKING:
    from ray.util import metrics

LEVELS = {"debug": 10, "info": 20, "warning": 30, "error": 40}


@dataclass(frozen=True, slots=True)
class LogSettings:
    """Where log lines go, and how they look."""

    level: Literal["debug", "info", "warning", "error"] = "info"
    format: Literal["json", "console"] = "json"
    folder: str | None = None
    """A folder that gets one file an actor; None writes to stderr."""
    run_id: str = ""


class _Sink:
    """Where this process writes: one object for good, since loggers are cached with it.

    A line that cannot be written (the disk is full) is counted as lost: a log must not end a run.
    """

    def __init__(self) -> None:
        self._file: TextIO | None = None
        self.lost = 0

    def open(self, folder: str | None, name: str) -> None:
        """From now on write to `folder/name.log`, or to stderr."""
        if self._file is not None:
            with suppress(OSError):
                self._file.close()
            self._file = None
        if folder is not None:
            Path(folder).mkdir(parents=True, exist_ok=True)
            self._file = (Path(folder) / f"{name}.log").open("a", buffering=1, encoding="utf-8")

    def isatty(self) -> bool:
        """Whether a person is looking."""
        return self._file is None and sys.stderr.isatty()

    def write(self, text: str) -> int:
        """Write to where `open` pointed."""
        try:
            return (self._file or sys.stderr).write(text)
        except OSError:
            self.lost += 1
            return 0

    def flush(self) -> None:
        """Flush it."""
        with suppress(OSError):
            (self._file or sys.stderr).flush()


_sink = _Sink()
_process: dict[str, str] = {}
"""Ids that every line of this process carries."""


def _strict_json(event: object, **options: Any) -> str:
    """A line that every reader of JSON takes: what is not finite is text."""
    try:
        return json.dumps(event, allow_nan=False, **options)
    except ValueError:
        return to_json(event, inf_nan_mode="strings", fallback=repr).decode()


def configure_logging(settings: LogSettings, actor: str = "driver") -> None:
    """Set up structlog, and the standard library's logging, for this process."""
    _sink.open(settings.folder, actor)
    _process.clear()
    if settings.run_id:
        _process["run_id"] = settings.run_id
    renderer: structlog.typing.Processor = (
        structlog.processors.JSONRenderer(_strict_json)
        if settings.format == "json"
        else structlog.dev.ConsoleRenderer(colors=_sink.isatty())
    )
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            _add_process,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.StackInfoRenderer(),
            structlog.processors.format_exc_info,
            renderer,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(LEVELS[settings.level]),
        logger_factory=structlog.WriteLoggerFactory(file=_sink),  # type: ignore[arg-type]
        cache_logger_on_first_use=False,  # a module that spoke before this would keep its old level
    )
    logging.basicConfig(stream=_sink, level=LEVELS[settings.level], force=settings.folder is not None)


def ensure_logging(settings: LogSettings) -> None:
    """Set logging up unless the program has: structlog's own default would write to stdout."""
    if not structlog.is_configured():
        configure_logging(settings)


def _add_process(
    _: structlog.typing.WrappedLogger, __: str, event: MutableMapping[str, object]
) -> MutableMapping[str, object]:
    for key, value in _process.items():
        event.setdefault(key, value)
    return event


@dataclass(slots=True)
class Histogram:
    """Counts of observations at or below each bound, and their sum."""

    bounds: tuple[float, ...]
    counts: list[int] = field(default_factory=list)
    total: float = 0.0
    fresh: list[float] = field(default_factory=list)
    """Observed since the last export, the first `MAX_FRESH` of them."""

    def __post_init__(self) -> None:
        self.counts = self.counts or [0] * (len(self.bounds) + 1)

    def observe(self, value: float) -> None:
        """Count one observation."""
        self.counts[bisect_left(self.bounds, value)] += 1
        self.total += value
        if len(self.fresh) < MAX_FRESH:
            self.fresh.append(value)


SECONDS = (0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0, 30.0, 100.0)
MAX_FRESH = 1000


class Metrics:
    """The counters, gauges and histograms of one actor.

    Values are kept here at the cost of a dictionary write and exported to Ray at most once a
    second by `export`, so that counting stays off the hot path.
    """

    def __init__(self, actor: str) -> None:
        self.actor = actor
        self.counters: dict[str, float] = {}
        self.gauges: dict[str, float] = {}
        self.histograms: dict[str, Histogram] = {}
        self._exporter = _Exporter(actor)
        self._exported_at = 0.0

    def count(self, name: str, amount: float = 1.0) -> None:
        """Add to a counter."""
        self.counters[name] = self.counters.get(name, 0.0) + amount

    def gauge(self, name: str, value: float) -> None:
        """Set a gauge."""
        self.gauges[name] = value

    def take(self, measures: Mapping[str, float]) -> None:
        """Set many at once: counters those called `…_total`, gauges the rest."""
        for name, value in measures.items():
            (self.counters if name.endswith("_total") else self.gauges)[name] = value

    def observe(self, name: str, value: float, bounds: tuple[float, ...] = SECONDS) -> None:
        """Put a value in a histogram."""
        if name not in self.histograms:
            self.histograms[name] = Histogram(bounds)
        self.histograms[name].observe(value)

    def export(self, interval_s: float = 1.0) -> None:
        """Hand the values to Ray's metrics, if this is a Ray process and `interval_s` has passed."""
        now = time.monotonic()
        if now - self._exported_at < interval_s or not _in_ray():
            return
        self._exported_at = now
        for name, value in self.counters.items():
            self._exporter.counter(name, value)
        for name, value in self.gauges.items():
            self._exporter.gauge(name, value)
        for name, histogram in self.histograms.items():
            self._exporter.histogram(name, histogram)


class _Exporter:
    """Ray's side of an actor's metrics: each is made once, then fed with what is new."""

    def __init__(self, actor: str) -> None:
        self._tags = {"actor": actor}
        self._counters: dict[str, metrics.Counter] = {}
        self._gauges: dict[str, metrics.Gauge] = {}
        self._histograms: dict[str, metrics.Histogram] = {}
        self._counted: dict[str, float] = {}

    def counter(self, name: str, value: float) -> None:
        if name not in self._counters:
            from ray.util import metrics

            self._counters[name] = metrics.Counter(_ray_name(name), tag_keys=("actor",))
        before = self._counted.get(name, 0.0)
        grown = value - before if value >= before else value  # a new actor counts from nothing
        if grown > 0:
            self._counters[name].inc(grown, self._tags)
        self._counted[name] = value

    def gauge(self, name: str, value: float) -> None:
        if name not in self._gauges:
            from ray.util import metrics

            self._gauges[name] = metrics.Gauge(_ray_name(name), tag_keys=("actor",))
        self._gauges[name].set(value, self._tags)

    def histogram(self, name: str, histogram: Histogram) -> None:
        if name not in self._histograms:
            from ray.util import metrics

            bounds = list(histogram.bounds)
            self._histograms[name] = metrics.Histogram(
                _ray_name(name), boundaries=bounds, tag_keys=("actor",)
            )
        for value in histogram.fresh:
            self._histograms[name].observe(value, self._tags)
        histogram.fresh.clear()


def _ray_name(name: str) -> str:
    return f"agentfactory_{name}"


def _in_ray() -> bool:
    ray = sys.modules.get("ray")
    return ray is not None and bool(ray.is_initialized())
