"""Holds the arrows of the design: which room may import which, and how large a piece may grow."""

import ast
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

ROOT = Path(__file__).parent.parent
MAY_IMPORT = {
    "messages": set(),
    "configs": {"messages"},
    "runtime": {"messages", "configs"},
    "training": {"messages", "configs"},
    "bridge": {"messages", "configs", "runtime"},
    "actors": {"messages", "configs", "runtime", "training", "bridge"},
    "cluster": {"messages", "configs", "runtime", "training", "bridge", "actors"},
    "agentfactory": {"messages", "configs", "runtime", "training", "bridge", "actors", "cluster"},
}
HEAVY = {"torch", "transformers", "vllm", "peft", "trl", "sentence_transformers"}
HEAVY_ENGINE_MODULES = ("runtime.engines.lora", "runtime.engines.batching.")
"""Imported lazily by the engines and the registry: everything else there starts without torch."""
MAX_FUNCTION_LINES = 60
MAX_FILE_LINES = 400


class Import(NamedTuple):
    """One import statement's module."""

    module: str
    line: int
    lazy: bool
    """Inside a function, or only for type checkers."""

    @property
    def package(self) -> str:
        return self.module.split(".")[0]


def sources() -> list[Path]:
    return sorted(path for room in MAY_IMPORT for path in (ROOT / room).rglob("*.py"))


def name_of(path: Path) -> str:
    """The module, without `agentfactory.` for the rooms beside that folder."""
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


def imports_of(path: Path) -> list[Import]:
    return list(_imports(ast.parse(path.read_text(encoding="utf-8")), name_of(path), path, lazy=False))


def _imports(node: ast.AST, module: str, path: Path, lazy: bool) -> Iterator[Import]:
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.Import):
            yield from (Import(alias.name, child.lineno, lazy) for alias in child.names)
        elif isinstance(child, ast.ImportFrom):
            base = _absolute(child, module, path)
            yield from (Import(f"{base}.{alias.name}", child.lineno, lazy) for alias in child.names)
        else:
            inside = isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef) or _for_type_checkers(child)
            yield from _imports(child, module, path, lazy or inside)


def _absolute(node: ast.ImportFrom, module: str, path: Path) -> str:
    if not node.level:
        return _without_package(node.module or "")
    parts = module.split(".")
    here = parts if path.stem == "__init__" else parts[:-1]
    found = ".".join([*here[: len(here) - node.level + 1], *([node.module] if node.module else [])])
    return _without_package(found)


def _without_package(module: str) -> str:
    """`agentfactory.runtime.actor` lies in the room `runtime`."""
    package, _, rest = module.partition(".")
    return rest if package == "agentfactory" and rest.partition(".")[0] in MAY_IMPORT else module


def _for_type_checkers(node: ast.AST) -> bool:
    return isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test)


@pytest.fixture(scope="module")
def imports() -> dict[Path, list[Import]]:
    return {path: imports_of(path) for path in sources()}


def complaint(path: Path, found: Import, why: str) -> str:
    return f"{path.relative_to(ROOT)}:{found.line}: imports {found.module}: {why}"


def test_no_room_imports_from_above(imports: dict[Path, list[Import]]) -> None:
    wrong = [
        complaint(path, found, f"{room} may import {sorted(MAY_IMPORT[room]) or 'nothing of ours'}")
        for path, all_found in imports.items()
        for found in all_found
        if (room := path.relative_to(ROOT).parts[0]) != found.package
        and found.package in MAY_IMPORT
        and found.package not in MAY_IMPORT[room]
        and found.module != "agentfactory"  # the package itself, to know where it lies
    ]
    assert not wrong, "\n".join(wrong)


def test_the_bridge_takes_only_errors_from_the_runtime(imports: dict[Path, list[Import]]) -> None:
    wrong = [
        complaint(path, found, "the bridge may use runtime.errors only")
        for path, all_found in imports.items()
        for found in all_found
        if name_of(path).startswith("bridge")
        and found.package == "runtime"
        and not found.module.startswith("runtime.errors.")
    ]
    assert not wrong, "\n".join(wrong)


def test_roles_do_not_import_one_another(imports: dict[Path, list[Import]]) -> None:
    no_roles = {"domains", "agents"}  # what roles and others are made of
    roles = {path.stem for path in (ROOT / "actors").iterdir() if path.is_dir()} - no_roles
    wrong = [
        complaint(path, found, "actors know one another as refs only")
        for path, all_found in imports.items()
        for found in all_found
        if (own := name_of(path).split("."))[0] == "actors"
        and len(own) > 1
        and found.package == "actors"
        and (other := found.module.split(".")[1]) in roles
        and other != own[1]
    ]
    assert not wrong, "\n".join(wrong)


def test_there_is_no_circle_between_modules(imports: dict[Path, list[Import]]) -> None:
    modules = {name_of(path) for path in imports}
    graph = {
        name_of(path): {_module_in(modules, found.module) for found in all_found if not found.lazy}
        for path, all_found in imports.items()
    }
    circles = _circles(graph)
    assert not circles, "\n".join(" -> ".join(circle) for circle in circles)


def _module_in(modules: set[str], imported: str) -> str:
    """`a.b.Name` names the module `a.b`."""
    while imported and imported not in modules:
        imported = imported.rpartition(".")[0]
    return imported


def _circles(graph: dict[str, set[str]]) -> list[list[str]]:
    found: list[list[str]] = []
    done: set[str] = set()

    def visit(module: str, trail: list[str]) -> None:
        if module in trail:
            found.append([*trail[trail.index(module) :], module])
        elif module not in done:
            for imported in sorted(graph.get(module, set()) - {"", module}):
                visit(imported, [*trail, module])
            done.add(module)

    for module in sorted(graph):
        visit(module, [])
    return found


def test_only_the_ray_transport_and_the_cluster_know_ray(imports: dict[Path, list[Import]]) -> None:
    wrong = [
        complaint(path, found, "Ray handles never leave the Ray transport")
        for path, all_found in imports.items()
        for found in all_found
        if found.package == "ray"
        and not name_of(path).startswith(("runtime.on_ray", "cluster"))
        and not (name_of(path) == "runtime.telemetry" and found.lazy)
    ]
    assert not wrong, "\n".join(wrong)


def test_heavy_libraries_are_imported_only_where_they_are_needed(imports: dict[Path, list[Import]]) -> None:
    wrong = [
        complaint(path, found, "import it inside the function that needs it")
        for path, all_found in imports.items()
        for found in all_found
        if found.package in HEAVY and not found.lazy and not _needs_tensors(path)
    ]
    assert not wrong, "\n".join(wrong)


def _needs_tensors(path: Path) -> bool:
    name = name_of(path)
    engine = name.startswith(HEAVY_ENGINE_MODULES)
    return engine or name.startswith("training.")


def test_files_stay_readable_in_one_sitting() -> None:
    lengths = {path: len(path.read_text(encoding="utf-8").splitlines()) for path in sources()}
    wrong = [f"{path.relative_to(ROOT)}: {n} lines" for path, n in lengths.items() if n > MAX_FILE_LINES]
    assert not wrong, "\n".join(wrong)


def test_functions_stay_short() -> None:
    wrong = [
        f"{path.relative_to(ROOT)}:{node.lineno}: {node.name} has {node.end_lineno - node.lineno + 1} lines"
        for path in sources()
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        and node.end_lineno is not None
        and node.end_lineno - node.lineno + 1 > MAX_FUNCTION_LINES
    ]
    assert not wrong, "\n".join(wrong)


def test_there_is_no_drawer_for_odds_and_ends() -> None:
    wrong = [path for path in sources() if path.stem in {"utils", "util", "helpers", "misc", "common"}]
    assert not wrong, f"name it by what is in it: {wrong}"
