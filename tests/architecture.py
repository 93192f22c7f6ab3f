"""The structure of the project, read from its sources: modules, imports, classes, sizes.

`tests/test_architecture.py` holds rules about it, `python -m tests.architecture_report` prints its figures.
"""

import ast
import io
import tokenize
from collections import defaultdict
from collections.abc import Iterator
from functools import cached_property
from pathlib import Path
from typing import Final, NamedTuple

ROOT: Final = Path(__file__).parent.parent
ROOMS: Final = ("messages", "configs", "runtime", "training", "bridge", "actors", "cluster", "agentfactory")


class Import(NamedTuple):
    """One name that an import statement names."""

    module: str
    """`a.b.Name` for `from a.b import Name`, without `agentfactory.` for the rooms beside that folder."""
    line: int
    lazy: bool
    """Inside a function, or only for type checkers."""

    @property
    def package(self) -> str:
        return self.module.split(".")[0]


class Module:
    """One source file."""

    def __init__(self, root: Path, path: Path) -> None:
        self.path: Final = path
        self.place: Final = path.relative_to(root)
        self.name: Final = ".".join(self.place.with_suffix("").parts).removesuffix(".__init__")
        self.text: Final = path.read_text(encoding="utf-8")
        self.tree: Final = ast.parse(self.text)

    @property
    def room(self) -> str:
        return self.place.parts[0]

    @cached_property
    def lines(self) -> int:
        return len(self.text.splitlines())

    @cached_property
    def imports(self) -> list[Import]:
        return list(self._imports(self.tree, lazy=False))

    @cached_property
    def classes(self) -> list[ast.ClassDef]:
        """The public classes of the top level."""
        return [n for n in self.tree.body if isinstance(n, ast.ClassDef) and not n.name.startswith("_")]

    @cached_property
    def functions(self) -> list[ast.FunctionDef | ast.AsyncFunctionDef]:
        """All of them, methods and inner ones, too."""
        return [n for n in ast.walk(self.tree) if isinstance(n, ast.FunctionDef | ast.AsyncFunctionDef)]

    @cached_property
    def comment_lines(self) -> int:
        tokens = tokenize.generate_tokens(io.StringIO(self.text).readline)
        return len({token.start[0] for token in tokens if token.type == tokenize.COMMENT})

    def _imports(self, node: ast.AST, lazy: bool) -> Iterator[Import]:
        for child in ast.iter_child_nodes(node):
            if isinstance(child, ast.Import):
                for alias in child.names:
                    yield Import(_without_package(alias.name), child.lineno, lazy)
            elif isinstance(child, ast.ImportFrom):
                base = self._absolute(child)
                for alias in child.names:
                    yield Import(_without_package(f"{base}.{alias.name}"), child.lineno, lazy)
            else:
                inside = isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef) or _for_checkers(child)
                yield from self._imports(child, lazy or inside)

    def _absolute(self, node: ast.ImportFrom) -> str:
        if not node.level:
            return node.module or ""
        parts = self.name.split(".")
        here = parts if self.path.stem == "__init__" else parts[:-1]
        return ".".join([*here[: len(here) - node.level + 1], *([node.module] if node.module else [])])


class Project:
    """All modules of the rooms, and what follows from them together."""

    def __init__(self, root: Path = ROOT) -> None:
        paths = sorted(path for room in ROOMS for path in (root / room).rglob("*.py"))
        self.modules: Final = [Module(root, path) for path in paths]
        self.names: Final = {module.name: module for module in self.modules}

    def imported_by(self, module: Module, *, lazy: bool) -> set[str]:
        """The modules of ours that it imports; those inside functions only where `lazy`."""
        found = {self.home(each.module) for each in module.imports if lazy or not each.lazy}
        return found - {"", module.name}

    def home(self, imported: str) -> str:
        """The module in which a name lies that was imported; empty where it is not ours."""
        while imported and imported not in self.names:
            imported = imported.rpartition(".")[0]
        return imported

    @cached_property
    def importers(self) -> dict[str, set[str]]:
        """Who imports each module, anywhere."""
        found: dict[str, set[str]] = defaultdict(set)
        for module in self.modules:
            for imported in self.imported_by(module, lazy=True):
                found[imported].add(module.name)
        return found

    @property
    def comment_share(self) -> float:
        """Lines that hold a comment, of all lines."""
        return sum(m.comment_lines for m in self.modules) / sum(m.lines for m in self.modules)

    def circles(self) -> list[list[str]]:
        """Modules that import one another as they are imported, each circle once."""
        graph = {module.name: self.imported_by(module, lazy=False) for module in self.modules}
        found: list[list[str]] = []
        done: set[str] = set()

        def visit(name: str, trail: list[str]) -> None:
            if name in trail:
                found.append([*trail[trail.index(name) :], name])
            elif name not in done:
                for imported in sorted(graph.get(name, ())):
                    visit(imported, [*trail, name])
                done.add(name)

        for name in sorted(graph):
            visit(name, [])
        return found

    def folders(self) -> dict[str, int]:
        """How many modules lie in each folder itself, `__init__` apart."""
        counts: dict[str, int] = defaultdict(int)
        for module in self.modules:
            if module.path.stem != "__init__":
                counts[str(module.place.parent)] += 1
        return dict(counts)

    def small_parts(self, below: int) -> list[Module]:
        """Short modules that one other imports: parts of that one, most often."""
        return [
            module
            for module in self.modules
            if module.path.stem not in {"__init__", "__main__"}
            and module.lines < below
            and len(self.importers.get(module.name, ())) == 1
        ]

    def same_names(self) -> dict[str, list[str]]:
        """Public class names that stand in several modules."""
        found: dict[str, list[str]] = defaultdict(list)
        for module in self.modules:
            for node in module.classes:
                found[node.name].append(module.name)
        return {name: places for name, places in sorted(found.items()) if len(places) > 1}

    def errors(self) -> list[str]:
        """Classes of exceptions: by their base, as deep as the project's own go."""
        bases: dict[str, set[str]] = defaultdict(set)
        for module in self.modules:
            for node in ast.walk(module.tree):
                if isinstance(node, ast.ClassDef):
                    bases[node.name] |= {_last(base) for base in node.bases}
        found = {name for name, above in bases.items() if any(_is_error(base) for base in above)}
        while more := {name for name, above in bases.items() if above & found} - found:
            found |= more
        return sorted(found)


def _without_package(module: str) -> str:
    package, _, rest = module.partition(".")
    return rest if package == "agentfactory" and rest.partition(".")[0] in ROOMS else module


def _for_checkers(node: ast.AST) -> bool:
    return isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test)


def _last(node: ast.expr) -> str:
    return ast.unparse(node).rpartition(".")[2].partition("[")[0]


def _is_error(name: str) -> bool:
    return name in {"Exception", "BaseException"} or name.endswith(("Error", "Exception"))
