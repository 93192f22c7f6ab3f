"""Holds the arrows of the design: which room may import which, and how large a piece may grow."""

import ast
from collections.abc import Iterator

import pytest

from tests.architecture import ROOT, Import, Module, Project

MAY_IMPORT: dict[str, set[str]] = {
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
MAX_FOLDER_MODULES = 15
LARGE_FOLDERS = {
    "configs": (16, "a module for each section of the settings; they are read together"),
    "runtime": (16, "the actor's parts, and two that the prompt needs without anyio"),
    "messages": (16, "fifteen subjects, and the program that prints their schemas"),
}
SMALL_LINES = 60
SMALL_MODULES = {
    "agentfactory/cli/doctor.py": "a command, found by its name",
    "agentfactory/cli/process_setup.py": "runs before anything else is imported",
    "agentfactory/environments.py": "a public module: users import it",
    "runtime/llm/factory.py": "the public way to a chat model",
    "runtime/tools/mcp/server.py": "the server beside the client",
    "training/advantages.py": "computed without torch, which the method around it needs",
}
"""Modules under `SMALL_LINES` with one importer, and why they are not a part of that one."""
BANNED_STEMS = {
    *("utils", "util", "helpers", "misc", "common"),
    *(
        "cell",
        "hand",
        "shelf",
        "lane",
        "band",
        "crew",
        "door",
        "gate",
        "purse",
        "napping",
        "lessons",
        "errands",
    ),
    *("held", "parking", "live", "slots", "pace", "faults", "asking", "guard", "tally", "turn", "walls"),
    *("zygote", "breakout", "foreign", "forked", "quick", "trial", "spaces", "words", "dialect", "stainless"),
}
"""Drawers for odds and ends, and words of nobody else's: `docs/glossary.md` has the field's."""
LIVE_ENVIRONMENT = "cluster/environment/live.py"
"""Beside `local` and `recorded`: a kind of environment has that name for its users."""


@pytest.fixture(scope="module")
def project() -> Project:
    return Project()


def imports(project: Project) -> Iterator[tuple[Module, Import]]:
    return ((module, found) for module in project.modules for found in module.imports)


def complaint(module: Module, found: Import, why: str) -> str:
    return f"{module.place}:{found.line}: imports {found.module}: {why}"


def test_no_room_imports_from_above(project: Project) -> None:
    wrong = [
        complaint(
            module, found, f"{module.room} may import {sorted(MAY_IMPORT[module.room]) or 'nothing of ours'}"
        )
        for module, found in imports(project)
        if found.package in MAY_IMPORT
        and found.package not in {module.room, *MAY_IMPORT[module.room]}
        and found.module != "agentfactory"  # the package itself, to know where it lies
    ]
    assert not wrong, "\n".join(wrong)


def test_rooms_import_one_another_relatively(project: Project) -> None:
    """No room is looked for outside the package: there, it may be a user's."""
    wrong = [
        f"{module.place}:{node.lineno}: {ast.unparse(node)}"
        for module in project.modules
        for node in ast.walk(module.tree)
        if isinstance(node, ast.ImportFrom)
        and not node.level
        and (node.module or "").partition(".")[0] in MAY_IMPORT
    ]
    assert not wrong, "\n".join(wrong)


def test_the_bridge_takes_only_errors_from_the_runtime(project: Project) -> None:
    wrong = [
        complaint(module, found, "the bridge may use runtime.errors only")
        for module, found in imports(project)
        if module.room == "bridge"
        and found.package == "runtime"
        and not found.module.startswith("runtime.errors.")
    ]
    assert not wrong, "\n".join(wrong)


def test_roles_do_not_import_one_another(project: Project) -> None:
    roles = {
        "coordinator",
        "ingestor",
        "retriever",
        "searcher",
        "sink",
        "student",
        "teacher",
        "trainer",
        "verifier",
    }
    assert roles <= {path.stem for path in (ROOT / "actors").iterdir()}
    wrong = [
        complaint(module, found, "actors know one another as refs only")
        for module, found in imports(project)
        if module.room == "actors"
        and len(own := module.name.split(".")) > 1
        and found.package == "actors"
        and (other := found.module.split(".")[1]) in roles
        and other != own[1]
    ]
    assert not wrong, "\n".join(wrong)


def test_there_is_no_circle_between_modules(project: Project) -> None:
    circles = project.circles()
    assert not circles, "\n".join(" -> ".join(circle) for circle in circles)


def test_only_the_ray_transport_and_the_cluster_know_ray(project: Project) -> None:
    wrong = [
        complaint(module, found, "Ray handles never leave the Ray transport")
        for module, found in imports(project)
        if found.package == "ray"
        and not module.name.startswith(("runtime.on_ray", "cluster"))
        and not (module.name == "runtime.telemetry" and found.lazy)
    ]
    assert not wrong, "\n".join(wrong)


def test_heavy_libraries_are_imported_only_where_they_are_needed(project: Project) -> None:
    wrong = [
        complaint(module, found, "import it inside the function that needs it")
        for module, found in imports(project)
        if found.package in HEAVY
        and not found.lazy
        and not module.name.startswith((*HEAVY_ENGINE_MODULES, "training."))
    ]
    assert not wrong, "\n".join(wrong)


def test_files_stay_readable_in_one_sitting(project: Project) -> None:
    wrong = [
        f"{module.place}: {module.lines} lines" for module in project.modules if module.lines > MAX_FILE_LINES
    ]
    assert not wrong, "\n".join(wrong)


def test_functions_stay_short(project: Project) -> None:
    wrong = [
        f"{module.place}:{node.lineno}: {node.name} has {lines} lines"
        for module in project.modules
        for node in module.functions
        if (lines := (node.end_lineno or node.lineno) - node.lineno + 1) > MAX_FUNCTION_LINES
    ]
    assert not wrong, "\n".join(wrong)


def test_folders_stay_small_enough_to_read(project: Project) -> None:
    folders = {folder: count for folder, count in project.folders().items() if count > MAX_FOLDER_MODULES}
    assert folders == {folder: count for folder, (count, _) in LARGE_FOLDERS.items()}


def test_no_small_module_is_a_part_of_its_one_importer(project: Project) -> None:
    assert {str(module.place) for module in project.small_parts(SMALL_LINES)} == set(SMALL_MODULES)


def test_no_class_name_stands_twice(project: Project) -> None:
    assert not project.same_names()


def test_modules_are_named_by_what_kind_of_thing_they_are(project: Project) -> None:
    wrong = [
        str(module.place)
        for module in project.modules
        if module.path.stem in BANNED_STEMS and str(module.place) != LIVE_ENVIRONMENT
    ]
    assert not wrong, f"name it by what is in it: {wrong}"


def test_the_figures_of_the_structure_can_be_printed(capsys: pytest.CaptureFixture[str]) -> None:
    from tests.architecture_report import main

    main(["--list"])
    printed = capsys.readouterr().out
    assert f"modules{len(Project().modules):>48}" in printed
    assert "exception classes" in printed
