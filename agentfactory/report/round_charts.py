"""Charts over the policy's versions, from the rounds' evaluations."""

import itertools
from collections.abc import Sequence
from typing import Final, TypeVar

from matplotlib.axes import Axes
from matplotlib.ticker import FuncFormatter, MaxNLocator, PercentFormatter

from ..messages.runs import RoundFinished
from .chart_style import (
    BLUE,
    GREEN,
    INK,
    MUTED,
    ORANGE,
    PAPER,
    PURPLE,
    RED,
    EndLabel,
    empty_chart,
    label_ends,
)
from .formats import domain_names, percent, plain, score_of
from .held_out import HeldOut, Share, band_names
from .history import RunHistory

MAX_POINTS: Final = 400
MAX_BARS: Final = 24
MAX_MARKERS: Final = 40
MAX_NAME: Final = 14
"""Characters of a domain's name beside its line."""
DOMAIN_COLOURS: Final = (GREEN, ORANGE, PURPLE, RED)

Item = TypeVar("Item")


def thin(items: Sequence[Item], limit: int = MAX_POINTS) -> list[Item]:
    """Every n-th item, always with the last one.

    >>> thin(range(10), limit=4)
    [0, 3, 6, 9]
    """
    step = -(-len(items) // limit) if items else 1
    kept = list(items[::step])
    return kept if not items or (len(items) - 1) % step == 0 else [*kept, items[-1]]


def learning_curve(history: RunHistory, axes: Axes) -> None:
    """pass@1 of each version, with its interval."""
    axes.set_title("Held-out pass@1")
    rounds = thin(history.evaluated)
    if not rounds:
        return empty_chart(axes, "no version has been evaluated yet")
    versions = [r.version for r in rounds]
    low, high = [r.ci95[0] for r in rounds], [r.ci95[1] for r in rounds]
    axes.fill_between(versions, low, high, color=BLUE, alpha=0.18, linewidth=0)
    marker = "o" if len(rounds) <= MAX_MARKERS else ""
    shares = [r.pass_at_1 for r in rounds]
    axes.plot(versions, shares, color=BLUE, marker=marker, markersize=4.5, linewidth=_width(rounds))
    if len(rounds) == 1:
        axes.errorbar(versions, shares, [[shares[0] - low[0]], [high[0] - shares[0]]], color=BLUE, capsize=4)
    axes.set_ylim(0, 1)
    axes.yaxis.set_major_formatter(PercentFormatter(1.0))
    _versions(axes, versions)
    ends = _domain_curves(axes, rounds)
    if len(rounds) > 1:
        _point_out(axes, rounds)
        name = "all " if ends else ""
        ends.append(EndLabel(f"{name}{percent(shares[-1])}", shares[-1], BLUE))
        label_ends(axes, versions[-1], ends)
    else:
        label_ends(axes, versions[0] + 0.1, [*ends, EndLabel(percent(shares[0]), shares[0], INK)])


def _domain_curves(axes: Axes, rounds: Sequence[RoundFinished]) -> list[EndLabel]:
    """A thin line for each domain, where there are several; returns the names of their ends."""
    ends: list[EndLabel] = []
    for domain, colour in zip(domain_names(rounds), itertools.cycle(DOMAIN_COLOURS)):
        scores = [(one.version, score) for one in rounds if (score := score_of(one, domain))]
        xs, ys = [version for version, _ in scores], [score.pass_at_1 for _, score in scores]
        axes.plot(xs, ys, color=colour, linewidth=1.4, marker="o", markersize=2.5)
        ends.append(EndLabel(plain(domain, MAX_NAME), ys[-1], colour))
    return ends


def _width(points: Sequence[Item]) -> float:
    """Of a line: thinner where it is crowded."""
    return 2.4 if len(points) <= MAX_MARKERS else 1.4


def _point_out(axes: Axes, rounds: Sequence[RoundFinished]) -> None:
    """Write the first share near its point, where no line passes: over all that is there, or under it."""
    first = rounds[0]
    near = [
        one for one in rounds if one.version - first.version <= 0.25 * (rounds[-1].version - first.version)
    ]
    taken = [
        share for one in (*near, rounds[0]) for share in (*one.ci95, *(d.pass_at_1 for d in one.domains))
    ]
    over = max(taken) < 0.85
    axes.annotate(
        percent(first.pass_at_1),
        xy=(first.version, max(taken) if over else min(taken)),
        xytext=(0, 7 if over else -7),
        textcoords="offset points",
        ha="left",
        va="bottom" if over else "top",
        fontweight="bold",
        fontsize=11,
        color=INK,
    )


def tool_use(history: RunHistory, axes: Axes) -> None:
    """Draw how many episodes call a tool, and how often."""
    axes.set_title("Tool use")
    rounds = thin(history.evaluated)
    sampled = thin(sorted(history.by_version.items()))
    if not rounds and not sampled:
        return empty_chart(axes, "no episode has been judged yet")
    ends: list[tuple[float, EndLabel]] = []
    marker = "o" if len(rounds) <= MAX_MARKERS else ""
    if rounds:
        xs, ys = [float(r.version) for r in rounds], [r.tool_use for r in rounds]
        axes.plot(xs, ys, color=BLUE, marker=marker, markersize=4.5, linewidth=_width(rounds))
        ends.append((xs[-1], EndLabel("share that call,\nheld out", ys[-1], BLUE)))
    if sampled:
        xs, ys = [float(v) for v, _ in sampled], [groups.mean_tool_calls for _, groups in sampled]
        axes.plot(xs, ys, color=ORANGE, marker=marker, markersize=4, linewidth=1.7)
        ends.append((xs[-1], EndLabel("calls an episode,\ntraining", ys[-1], ORANGE)))
    axes.set_ylim(0, max(1.05, axes.get_ylim()[1]))
    _versions(axes, [x for x, _ in ends])
    label_ends(axes, max(x for x, _ in ends), [label for _, label in ends])


def timings(history: RunHistory, axes: Axes) -> None:
    """Seconds of rollouts, training and evaluation for each version."""
    axes.set_title("Where the time went")
    rounds = thin(history.evaluated)
    parts = (
        ("rollouts", BLUE, [r.rollout_s for r in rounds]),
        ("training", ORANGE, [r.train_s for r in rounds]),
        ("evaluation", PURPLE, [r.eval_s for r in rounds]),
    )
    if not any(any(values) for _, _, values in parts):
        return empty_chart(axes, "no time has been recorded yet")
    versions = [r.version for r in rounds]
    for number, (name, colour, values) in enumerate(parts):
        if len(rounds) <= MAX_BARS:
            gap = min((b - a for a, b in itertools.pairwise(versions)), default=1)
            xs = [version + gap * 0.27 * (number - 1) for version in versions]
            axes.bar(xs, values, width=gap * 0.25, color=colour, label=name, linewidth=0)
        else:
            axes.plot(versions, values, color=colour, label=name, linewidth=1.5)
    axes.yaxis.set_major_locator(MaxNLocator(nbins=5))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g} s"))
    axes.set_ylim(0, axes.get_ylim()[1] * 1.18)
    axes.legend(
        loc="upper left", ncols=3, frameon=False, fontsize=9.5, labelcolor="linecolor",
        handlelength=0.9, handleheight=0.9, borderaxespad=0.1, columnspacing=1.2,
    )  # fmt: skip
    _versions(axes, versions)


def by_difficulty(held_out: HeldOut, axes: Axes) -> None:
    """pass@1 in each band of difficulty, of one or two versions."""
    names = band_names()
    two = held_out.compares
    sides = [(held_out.before, MUTED, 0.13 if two else 0.0)]
    if two:
        sides.append((held_out.after, BLUE, -0.13))
    for side, colour, offset in sides:
        for row, share in enumerate(side.bands):
            if share.n:
                _band(axes, row - offset, share, colour)
    axes.set_yticks(range(len(names)), names)
    axes.set_ylim(len(names) - 0.4, -0.6)
    axes.set_ylabel("difficulty")
    axes.set_xlim(0, 1)
    axes.xaxis.set_major_formatter(PercentFormatter(1.0))
    axes.grid(True, axis="x")
    axes.grid(False, axis="y")


def _band(axes: Axes, y: float, share: Share, colour: str) -> None:
    low, high = share.ci95
    axes.plot([low, high], [y, y], color=colour, linewidth=5, alpha=0.28)
    axes.plot([share.value], [y], marker="o", markersize=7, color=colour, markeredgecolor=PAPER)


def _versions(axes: Axes, versions: Sequence[float]) -> None:
    axes.set_xlabel("policy version (0 is the base model)")
    axes.xaxis.set_major_locator(MaxNLocator(nbins=10, integer=True, min_n_ticks=1))
    if len(set(versions)) == 1:
        axes.set_xlim(versions[0] - 1, versions[0] + 1)
        axes.set_xticks([versions[0]])
