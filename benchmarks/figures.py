"""Figures measured against targets: one line each, and an exit code."""

import operator
import statistics
from collections.abc import Callable, Iterable
from typing import Literal, NamedTuple

Op = Literal[">=", "<=", ">", "<"]
_MET: dict[str, Callable[[float, float], bool]] = {
    ">=": operator.ge, "<=": operator.le, ">": operator.gt, "<": operator.lt,
}  # fmt: skip


class Figure(NamedTuple):
    """One measured value. Without `op` it is shown for information only."""

    name: str
    value: float
    unit: str
    op: Op | None
    target: float

    @property
    def met(self) -> bool:
        """Whether the target is met."""
        return self.op is None or _MET[self.op](self.value, self.target)

    def __str__(self) -> str:
        line = f"figure {self.name} {self.value:.4g} {self.unit}"
        return line if self.op is None else f"{line} target {self.op} {self.target:g}"


class Figures:
    """Collects figures and prints each as it comes.

    A worked example::

        figures = Figures()
        figures.add("ray_tell_vs_raw", 24.1, "x", ">=", 20)  # figure ray_tell_vs_raw 24.1 x target >= 20
        raise SystemExit(figures.exit_code())
    """

    def __init__(self) -> None:
        self.all: list[Figure] = []

    def add(self, name: str, value: float, unit: str, op: Op | None = None, target: float = 0.0) -> Figure:
        """Record and print one figure."""
        figure = Figure(name, value, unit, op, target)
        self.all.append(figure)
        print(figure, flush=True)
        return figure

    def exit_code(self) -> int:
        """1 if any target is missed; says which."""
        missed = [figure for figure in self.all if not figure.met]
        for figure in missed:
            print(f"missed {figure.name}: {figure.value:.4g}, not {figure.op} {figure.target:g}", flush=True)
        return 1 if missed else 0


def median(values: Iterable[float]) -> float:
    """Median: one odd run on a busy machine does not move it."""
    return statistics.median(values)
