"""The figures of the project's structure: `python -m tests.architecture_report [CHECKOUT ...]`.

With several checkouts there is a column for each: a change before and after.
"""

import argparse
import statistics
from collections.abc import Callable, Sequence
from pathlib import Path

from tests.architecture import ROOMS, ROOT, Project

SMALL = 60
LARGE_FOLDER = 15

Figure = Callable[[Project], object]
FIGURES: dict[str, Figure] = {
    "modules": lambda p: len(p.modules),
    "lines": lambda p: sum(m.lines for m in p.modules),
    "lines a module, mean": lambda p: round(statistics.mean(m.lines for m in p.modules)),
    "lines a module, median": lambda p: round(statistics.median(m.lines for m in p.modules)),
    "longest module": lambda p: max(m.lines for m in p.modules),
    "longest function": lambda p: max(
        (n.end_lineno or n.lineno) - n.lineno + 1 for m in p.modules for n in m.functions
    ),
    f"folders over {LARGE_FOLDER} modules": lambda p: sum(n > LARGE_FOLDER for n in p.folders().values()),
    "largest folder": lambda p: max(p.folders().values()),
    f"modules under {SMALL} lines with one importer": lambda p: len(p.small_parts(SMALL)),
    "public class names in several modules": lambda p: len(p.same_names()),
    "exception classes": lambda p: len(p.errors()),
    "circles of imports": lambda p: len(p.circles()),
    "comment lines, % of lines": lambda p: f"{p.comment_share:.1%}".rstrip("%"),
    **{f"modules in {room}/": lambda p, room=room: sum(m.room == room for m in p.modules) for room in ROOMS},
}


def main(argv: Sequence[str] | None = None) -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(prog="python -m tests.architecture_report", description=__doc__)
    parser.add_argument("checkouts", nargs="*", type=Path, default=[ROOT], metavar="CHECKOUT")
    parser.add_argument("--list", action="store_true", help="name the modules and classes that are counted")
    arguments = parser.parse_args(argv)
    projects = [Project(path.resolve()) for path in arguments.checkouts]
    for name, figure in FIGURES.items():
        print(f"{name:44}", *(f"{figure(project)!s:>10}" for project in projects))
    if arguments.list:
        _list(projects[-1])


def _list(project: Project) -> None:
    print("\nlarge folders:", {f: n for f, n in project.folders().items() if n > LARGE_FOLDER})
    print("\nsmall modules with one importer:")
    for module in project.small_parts(SMALL):
        print(f"  {module.place} ({module.lines}) <- {', '.join(project.importers[module.name])}")
    print("\nclass names in several modules:")
    for name, places in project.same_names().items():
        print(f"  {name}: {', '.join(places)}")
    print("\ncircles:")
    for circle in project.circles():
        print("  " + " -> ".join(circle))


if __name__ == "__main__":
    main()
