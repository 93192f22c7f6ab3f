import json
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import ClassVar

import pytest
import structlog

from agentfactory.runtime import telemetry
from agentfactory.runtime.telemetry import Histogram, LogSettings, Metrics, configure_logging


@pytest.fixture(autouse=True)
def logging_as_it_was() -> Iterator[None]:
    handlers, level = list(logging.root.handlers), logging.root.level
    yield
    configure_logging(LogSettings())  # closes the file
    structlog.reset_defaults()
    logging.root.handlers[:] = handlers
    logging.root.setLevel(level)


def lines(path: Path) -> list[dict[str, object]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def test_each_actor_has_a_log_file_with_its_ids(tmp_path: Path) -> None:
    configure_logging(LogSettings(folder=str(tmp_path), run_id="r1"), actor="verifier")
    log = structlog.get_logger()
    with structlog.contextvars.bound_contextvars(episode_id="e1"):
        log.info("judged", score=1)
    log.debug("not shown at this level")
    (line,) = lines(tmp_path / "verifier.log")
    assert (line["event"], line["level"], line["score"]) == ("judged", "info", 1)
    assert (line["run_id"], line["episode_id"]) == ("r1", "e1")


def test_a_line_of_the_log_is_strict_json_whatever_it_says(tmp_path: Path) -> None:
    configure_logging(LogSettings(folder=str(tmp_path)), actor="trainer")
    structlog.get_logger().info("step", loss=float("nan"), steps=[1, float("inf")])
    text = (tmp_path / "trainer.log").read_text(encoding="utf-8")
    assert json.loads(text, parse_constant=pytest.fail)["loss"] == "NaN"


def test_a_cached_logger_follows_to_a_new_file(tmp_path: Path) -> None:
    log = structlog.get_logger()
    for name in ("first", "second"):
        configure_logging(LogSettings(folder=str(tmp_path)), actor=name)
        log.info(f"in {name}")
    assert [line["event"] for line in lines(tmp_path / "first.log")] == ["in first"]
    assert [line["event"] for line in lines(tmp_path / "second.log")] == ["in second"]


def test_an_exception_is_written_with_its_traceback(tmp_path: Path) -> None:
    configure_logging(LogSettings(folder=str(tmp_path)), actor="a")
    try:
        raise ValueError("oh")
    except ValueError:
        structlog.get_logger().exception("it failed")
    assert "ValueError: oh" in str(lines(tmp_path / "a.log")[0]["exception"])


def test_the_standard_logging_goes_to_the_same_file(tmp_path: Path) -> None:
    configure_logging(LogSettings(folder=str(tmp_path)), actor="a")
    logging.getLogger("some.library").warning("beware")
    assert "beware" in (tmp_path / "a.log").read_text(encoding="utf-8")


def test_a_histogram_counts_at_or_below_each_bound() -> None:
    histogram = Histogram((1.0, 10.0))
    for value in (0.5, 1.0, 2.0, 11.0):
        histogram.observe(value)
    assert (histogram.counts, histogram.total) == ([2, 1, 1], 14.5)


class Recorder:
    """Stands in for Ray's metric classes."""

    made: ClassVar[list["Recorder"]] = []

    def __init__(self, name: str, **options: object) -> None:
        self.name = name
        self.calls: list[tuple[str, float]] = []
        Recorder.made.append(self)

    def inc(self, value: float, tags: dict[str, str]) -> None:
        self.calls.append((tags["actor"], value))

    set = observe = inc


def test_metrics_are_exported_to_ray_and_only_what_is_new(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(telemetry, "_in_ray", lambda: True)
    monkeypatch.setattr(Recorder, "made", [])
    for kind in ("Counter", "Gauge", "Histogram"):
        monkeypatch.setattr(f"ray.util.metrics.{kind}", Recorder)
    metrics = Metrics("student")
    metrics.count("episodes", 2)
    metrics.gauge("running", 5)
    metrics.observe("solve_s", 0.25)
    metrics.export(interval_s=0)
    metrics.count("episodes")
    metrics.export(interval_s=0)
    calls = {metric.name: metric.calls for metric in Recorder.made}
    assert calls == {
        "agentfactory_episodes": [("student", 2.0), ("student", 1.0)],
        "agentfactory_running": [("student", 5.0), ("student", 5.0)],
        "agentfactory_solve_s": [("student", 0.25)],
    }
    assert len(Recorder.made) == 3, "each is made once"


def test_a_total_that_starts_anew_with_a_new_actor_goes_on_counting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(telemetry, "_in_ray", lambda: True)
    monkeypatch.setattr(Recorder, "made", [])
    for kind in ("Counter", "Gauge"):
        monkeypatch.setattr(f"ray.util.metrics.{kind}", Recorder)
    metrics = Metrics("engine-0")
    for total in (5.0, 5.0, 2.0, 3.0):
        metrics.take({"tokens_total": total, "running": 1.0})
        metrics.export(interval_s=0)
    calls = {metric.name: [value for _, value in metric.calls] for metric in Recorder.made}
    assert calls["agentfactory_tokens_total"] == [5.0, 2.0, 1.0]
    assert calls["agentfactory_running"] == [1.0] * 4


def test_outside_ray_nothing_is_exported_and_nothing_piles_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(telemetry, "_in_ray", lambda: False)
    metrics = Metrics("student")
    for _ in range(5000):
        metrics.observe("solve_s", 0.1)
    metrics.export(interval_s=0)
    histogram = metrics.histograms["solve_s"]
    assert sum(histogram.counts) == 5000
    assert len(histogram.fresh) <= telemetry.MAX_FRESH
