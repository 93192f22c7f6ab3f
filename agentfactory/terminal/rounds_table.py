"""Rounds of a run in a terminal: a table as wide as there is room, and a round as one line."""

from collections.abc import Callable, Sequence
from typing import Final, NamedTuple

from rich.box import SIMPLE_HEAD
from rich.cells import cell_len
from rich.table import Table
from rich.text import Text

from ..messages.runs import RoundFinished
from ..report.formats import (
    compact_duration,
    count,
    domain_names,
    duration,
    interval,
    percent,
    plain,
    score_of,
)

GAP: Final = 2
"""Blanks between two columns."""
MAX_NAME: Final = 10
"""Characters of a domain's name."""
NOTHING: Final = "–"


class Column(NamedTuple):
    """One figure of each round."""

    name: str
    priority: int
    """Where the room is short the highest numbers go first."""
    value: Callable[[RoundFinished], str]
    style: str = ""


def rounds_table(rounds: Sequence[RoundFinished], limit: int, width: int) -> Table:
    """A row for each round; where there are more than `limit`, the first and the last ones.

    Every column that is shown is shown whole: where `width` is too small for all, the least telling ones
    are left out.
    """
    shown = _shown(rounds, limit)
    table = Table(box=SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False, show_edge=False, header_style="dim")
    columns = fitting(columns_of(rounds), [one for one in shown if one is not None], width)
    for column in columns:
        table.add_column(column.name, justify="right", no_wrap=True)
    for one in shown:
        if one is None:
            table.add_row("⋮", *[""] * (len(columns) - 1), style="dim")
        else:
            latest = one is rounds[-1]
            table.add_row(*(_cell(column, one, latest=latest) for column in columns))
    return table


def columns_of(rounds: Sequence[RoundFinished]) -> list[Column]:
    """All columns, from left to right."""
    names = domain_names(rounds)
    return [
        Column("ver", 0, lambda one: str(one.version)),
        Column("pass@1", 0, lambda one: percent(one.pass_at_1), "bold"),
        Column("95%", 3, lambda one: interval(one.ci95), "dim"),
        *(Column(plain(name, MAX_NAME), 1, _of_domain(name)) for name in names),
        Column("reward", 2, lambda one: f"{one.mean_reward:.3f}"),
        Column("tools", 4, lambda one: percent(one.tool_use)),
        Column("stale", 9, lambda one: f"{one.staleness:.2f}" if one.version else NOTHING),
        Column("asked", 7, lambda one: f"{one.asked_difficulty:.2f}"),
        Column("proposed", 8, _proposed),
        Column("tokens", 10, lambda one: count(one.tokens)),
        Column("rollout", 5, lambda one: compact_duration(one.rollout_s)),
        Column("train", 6, lambda one: compact_duration(one.train_s)),
    ]


def fitting(columns: Sequence[Column], rounds: Sequence[RoundFinished], width: int) -> list[Column]:
    """The columns that there is room for, in their order. The first two are always there."""
    sizes = [max([cell_len(c.name), *(cell_len(c.value(one)) for one in rounds)]) + GAP for c in columns]
    chosen: set[int] = set()
    room = width + GAP
    for index in sorted(range(len(columns)), key=lambda index: columns[index].priority):
        if columns[index].priority and sizes[index] > room:
            continue
        chosen.add(index)
        room -= sizes[index]
    return [column for index, column in enumerate(columns) if index in chosen]


def round_line(one: RoundFinished) -> str:
    """A round on one line, for logs."""
    failed = f"  {one.failed} failed" if one.failed else ""
    several = one.domains if len(one.domains) > 1 else ()
    domains = "".join(f"  {score.domain} {percent(score.pass_at_1)}" for score in several)
    made = (
        f"  staleness {one.staleness:.2f}  rollout {duration(one.rollout_s)}  train {duration(one.train_s)}"
        if one.version
        else ""
    )
    return (
        f"version {one.version}  pass@1 {percent(one.pass_at_1)} ({interval(one.ci95)}, n={one.n}){domains}"
        f"  reward {one.mean_reward:.3f}  tools {percent(one.tool_use)}"
        f"  difficulty asked {one.asked_difficulty:.2f}, proposed {_proposed(one)}"
        f"  {count(one.tokens)} tokens{made}{failed}"
    )


def _proposed(one: RoundFinished) -> str:
    return NOTHING if one.proposed_difficulty is None else f"{one.proposed_difficulty:.2f}"


def _of_domain(name: str) -> Callable[[RoundFinished], str]:
    def value(one: RoundFinished) -> str:
        score = score_of(one, name)
        return percent(score.pass_at_1) if score else NOTHING

    return value


def _shown(rounds: Sequence[RoundFinished], limit: int) -> list[RoundFinished | None]:
    """The rounds that have a row; None for those in between that have none."""
    left_out = len(rounds) - limit
    if left_out <= 0:
        return list(rounds)
    return [rounds[0], None, *rounds[left_out + 2 :]]


def _cell(column: Column, one: RoundFinished, *, latest: bool) -> Text:
    style = "bold green" if latest and column.style == "bold" else column.style
    return Text(column.value(one), style)
