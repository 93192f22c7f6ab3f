"""`report.html`: one file that needs nothing else. Whatever a model wrote is escaped on its way in."""

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Final, NamedTuple

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from ..configs.base_config import BaseConfig
from ..configs.settings import Settings
from ..messages.runs import DomainScore, RoundFinished, StepFinished
from . import formats
from .chart_style import as_svg
from .charts import Panel, bands_panel
from .examples import ShownExample, shown
from .formats import domain_names, score_of
from .held_out import HeldOut, band_names, calibrations
from .report_data import ReportData
from .round_charts import thin

FOLDER: Final = Path(__file__).parent
MAX_ROWS: Final = 500


class Card(NamedTuple):
    """One number of the summary."""

    name: str
    before: str
    """Empty where there is only one value."""
    value: str
    detail: str


class Chart(NamedTuple):
    """A chart as it stands in the page."""

    title: str
    caption: str
    svg: Markup


class RoundRow(NamedTuple):
    """One round, and the step that made its version."""

    round: RoundFinished
    step: StepFinished | None
    scores: list[DomainScore | None]
    """For each domain, where there are several."""
    teacher_reward: float | None
    """Mean of what the Teacher's proposals earned on the way to the version."""


class DomainRow(NamedTuple):
    """One domain in the first round and the last."""

    name: str
    n: int
    scores: list[DomainScore | None]


class Setting(NamedTuple):
    """One value, and whether somebody chose it."""

    key: str
    value: str
    default: str
    """Empty where the value is the default."""


def headline(findings: ReportData) -> str:
    """Outcome of the run, in one line."""
    rounds = findings.history.evaluated
    if not rounds:
        return "Not evaluated yet"
    if len(rounds) == 1:
        return f"pass@1 {formats.percent(rounds[0].pass_at_1)} at version {rounds[0].version}"
    steps = formats.plural(len(findings.history.steps), "training step")
    before, after = formats.percent(rounds[0].pass_at_1), formats.percent(rounds[-1].pass_at_1)
    return f"pass@1 {before} → {after} in {steps}"


def subtitle(findings: ReportData) -> str:
    """Preset, model, length and end of the run."""
    history, settings = findings.history, findings.settings
    tasks = f"{formats.count(history.evaluated[-1].n)} held-out episodes" if history.rounds else ""
    parts = (
        f"preset {settings.name}",
        f"model {settings.model.source}",
        f"seed {history.seed}" if history.seed is not None else "",
        tasks,
        f"{formats.duration(history.wall_s)} of work",
        status(findings),
    )
    return "   ·   ".join(part for part in parts if part)


def status(findings: ReportData) -> str:
    """End of the run, if it has ended."""
    history = findings.history
    if history.finished is not None:
        return {
            "rounds": "finished",
            "drained": "drained",
            "frontier_exhausted": "ended: no tasks left inside the frontier",
        }[history.finished.reason]
    return "failed" if history.failures else "unfinished"


def render_page(findings: ReportData, panels: Sequence[Panel]) -> str:
    """The whole page."""
    environment = Environment(
        loader=FileSystemLoader(FOLDER),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(
        percent=formats.percent,
        interval=formats.interval,
        duration=formats.duration,
        count=formats.count,
        plural=formats.plural,
        figure=formats.figure,
        when=_when,
    )
    held_out = findings.held_out if findings.held_out and not findings.held_out.problem else None
    rounds = thin(findings.history.evaluated, MAX_ROWS)
    ends = rounds if len(rounds) < 2 else [rounds[0], rounds[-1]]
    domains = domain_names(rounds)
    return environment.get_template("page.html.j2").render(
        css=Markup((FOLDER / "page.css").read_text()),
        findings=findings,
        history=findings.history,
        headline=headline(findings),
        status=status(findings),
        cards=_cards(findings),
        charts=[_chart(panel) for panel in panels],
        held_out=held_out,
        bands=_chart(bands_panel(held_out)) if held_out else None,
        band_names=band_names(),
        examples=_examples(held_out),
        calibrations=calibrations(held_out),
        ends=ends,
        domains=[_domain_row(name, ends) for name in domains],
        rows=[
            RoundRow(
                one,
                findings.history.steps.get(one.version),
                [score_of(one, name) for name in domains],
                findings.history.teacher_rewards.get(one.version),
            )
            for one in rounds
        ],
        left_out=len(findings.history.rounds) - len(rounds),
        settings=list(_flat("", findings.settings, Settings())),
    )


def _chart(panel: Panel) -> Chart:
    return Chart(panel.title, panel.caption, Markup(as_svg(panel.draw, panel.name, panel.title)))


def _cards(findings: ReportData) -> list[Card]:
    history = findings.history
    rounds = history.evaluated
    cards: list[Card] = []
    if rounds:
        first, last = rounds[0], rounds[-1]
        several = len(rounds) > 1
        before = f"{formats.interval(first.ci95)} → " if several else ""
        cards = [
            Card(
                "held-out pass@1",
                formats.percent(first.pass_at_1) if several else "",
                formats.percent(last.pass_at_1),
                f"95% interval {before}{formats.interval(last.ci95)}",
            ),
            Card(
                "tool use",
                formats.percent(first.tool_use) if several else "",
                formats.percent(last.tool_use),
                "held-out episodes with a call",
            ),
        ]
    judged = history.fates["accepted"] + history.fates["filtered"]
    speed = formats.count(history.tokens / history.wall_s) if history.wall_s else "0"
    return [
        *cards,
        Card(
            "training episodes",
            "",
            formats.count(history.episodes),
            f"{formats.count(history.failed_episodes)} failed, left out of training",
        ),
        Card(
            "groups in the frontier",
            "",
            formats.percent(history.fates["accepted"] / judged) if judged else "–",
            f"of {formats.count(judged)}; {formats.count(history.dropped_stale)} dropped as stale",
        ),
        Card("time at work", "", formats.duration(history.wall_s), f"{speed} training tokens a second"),
    ]


def _domain_row(name: str, ends: Sequence[RoundFinished]) -> DomainRow:
    scores = [score_of(one, name) for one in ends]
    return DomainRow(name, max(score.n for score in scores if score), scores)


def _examples(held_out: HeldOut | None) -> list[ShownExample]:
    if held_out is None or not held_out.compares:
        return []
    return [shown(example) for example in held_out.examples]


def _flat(prefix: str, section: BaseConfig, defaults: BaseConfig | None) -> list[Setting]:
    """All values under dotted keys."""
    found: list[Setting] = []
    for name in type(section).model_fields:
        value = getattr(section, name)
        default = getattr(defaults, name, None)
        if isinstance(value, BaseConfig):
            same = default if type(default) is type(value) else None
            found.extend(_flat(f"{prefix}{name}.", value, same))
        else:
            changed = defaults is not None and value != default
            found.append(Setting(f"{prefix}{name}", _value(value), _value(default) if changed else ""))
    return found


def _value(value: object) -> str:
    if isinstance(value, tuple):
        return ", ".join(map(str, value))
    return "(empty)" if value == "" else str(value)


def _when(at: float) -> str:
    return time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime(at)) if at else "unknown"
