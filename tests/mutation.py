"""Which line could go without a test noticing?

    python -m tests.mutation runtime/mailbox.py tests/runtime/test_mailbox.py

In a copy of the tree the module is changed in one place at a time: a statement is deleted, a condition
negated, a returned value swapped. The named tests run on each mutant until the first that fails, and the
mutants that none of them noticed are listed. Exit code 0 when there are none, 1 when there are some, 2 when
the tests fail without any change.

The tests of a mutant run in a fork of a process that holds all they import but what depends on the module:
tools for mutation testing start an interpreter for each, and most of our tests take less time than their
imports. A mutant that hangs counts as noticed.
"""

import argparse
import ast
import compileall
import importlib
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Iterator, Sequence
from contextlib import redirect_stderr, redirect_stdout, suppress
from pathlib import Path
from typing import Final, NamedTuple, TypeGuard

ROOT: Final = Path(__file__).parents[1]
SLOWER: Final = 5.0
"""A mutant may take so many times as long as the unchanged module, and `SPARE_S` more."""
SPARE_S: Final = 30.0
_BROKEN: Final = 70
_DELETABLE: Final = (
    *(ast.Assign, ast.AugAssign, ast.Delete),
    *(ast.Raise, ast.Return, ast.Break, ast.Continue),
)
QUICK: Final = "not (ray or slow or long)"
"""What runs for each mutant."""
BASELINE_LIMIT_S: Final = 1800.0
QUIET: Final = frozenset({"log", "_LOG", "_log", "logger", "warnings"})
"""Whose calls tests need not notice."""


class Mutant(NamedTuple):
    """One change: `text` in place of the source from `begin` to `end` (offsets in bytes)."""

    line: int
    kind: str
    begin: int
    end: int
    text: str
    was: str

    def __str__(self) -> str:
        return f"{self.line}: {self.kind}: {self.was}"


def mutants(source: str) -> list[Mutant]:
    """All changes of this module, in the order of their lines."""
    return sorted(_Finder(source).found(), key=lambda mutant: (mutant.begin, mutant.kind))


class _Finder:
    """Walks a module's tree."""

    def __init__(self, source: str) -> None:
        self._data = source.encode()
        self._starts = [0]
        for line in self._data.splitlines(keepends=True):
            self._starts.append(self._starts[-1] + len(line))
        self._tree = ast.parse(source)

    def found(self) -> Iterator[Mutant]:
        """Everything that can be changed inside functions."""
        for function in ast.walk(self._tree):
            if isinstance(function, ast.FunctionDef | ast.AsyncFunctionDef):
                for statement in function.body:
                    yield from self._of(statement)

    def _of(self, node: ast.AST) -> Iterator[Mutant]:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            return  # `found` comes to it by itself
        if isinstance(node, ast.stmt):
            yield from self._of_statement(node)
        if isinstance(node, ast.If | ast.While | ast.IfExp):
            yield self._negated(node.test)
        if isinstance(node, ast.comprehension):
            yield from map(self._negated, node.ifs)
        for child in ast.iter_child_nodes(node):
            yield from self._of(child)

    def _of_statement(self, node: ast.stmt) -> Iterator[Mutant]:
        if isinstance(node, ast.Return) and _is_value(node.value):
            yield self._mutant("return swapped", node.value, _swapped(node.value))
        elif isinstance(node, _DELETABLE) or (isinstance(node, ast.Expr) and _does_something(node.value)):
            yield self._mutant("deleted", node, "pass")

    def _negated(self, test: ast.expr) -> Mutant:
        begin, end = self._span(test)
        return self._mutant("negated", test, f"(not ({self._data[begin:end].decode()}))")

    def _mutant(self, kind: str, node: ast.stmt | ast.expr, text: str) -> Mutant:
        begin, end = self._span(node)
        was = " ".join(self._data[begin:end].decode().split())
        return Mutant(node.lineno, kind, begin, end, text, was[:90])

    def _span(self, node: ast.stmt | ast.expr) -> tuple[int, int]:
        assert node.end_lineno is not None
        assert node.end_col_offset is not None
        begin = self._starts[node.lineno - 1] + node.col_offset
        return begin, self._starts[node.end_lineno - 1] + node.end_col_offset


def _swapped(value: ast.expr) -> str:
    if isinstance(value, ast.Constant) and isinstance(value.value, bool):
        return str(not value.value)
    if isinstance(value, ast.Compare | ast.BoolOp) or (
        isinstance(value, ast.UnaryOp) and isinstance(value.op, ast.Not)
    ):
        return f"(not ({ast.unparse(value)}))"
    return "None"


def _is_value(value: ast.expr | None) -> TypeGuard[ast.expr]:
    return value is not None and not (isinstance(value, ast.Constant) and value.value is None)


def _does_something(value: ast.expr) -> bool:
    """Whether an expression that stands alone is neither a docstring nor a line for the log."""
    call = value.func if isinstance(value, ast.Call) else None
    said = isinstance(call, ast.Attribute) and isinstance(call.value, ast.Name) and call.value.id in QUIET
    return not (said or isinstance(value, ast.Constant))


def dependents(folder: Path, module: Path) -> set[str]:
    """Names of the tree's modules that import this one, by however many steps; and its own."""
    imports: dict[str, set[str]] = {}
    for path in folder.rglob("*.py"):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        imports[_name(folder, path)] = {name for node in ast.walk(tree) for name in _imported(node)}
    reached = {_name(folder, module)}
    while more := {name for name, wanted in imports.items() if wanted & reached} - reached:
        reached |= more
    return reached


def _name(folder: Path, path: Path) -> str:
    parts = path.relative_to(folder).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def _imported(node: ast.AST) -> Iterator[str]:
    if isinstance(node, ast.Import):
        yield from (alias.name for alias in node.names)
    elif isinstance(node, ast.ImportFrom) and node.module:
        yield node.module
        yield from (f"{node.module}.{alias.name}" for alias in node.names)


class Copy:
    """A copy of the tree in which a module can be changed, and the tests run in forks."""

    def __init__(self, folder: Path, module: str, tests: Sequence[str], only: str) -> None:
        self._folder = folder
        self._only = only
        self._module = folder / module
        self._tests = tests
        files = subprocess.run(
            ["git", "ls-files", "-co", "--exclude-standard"],
            cwd=ROOT,
            capture_output=True,
            text=True,
            check=True,
        )
        for name in files.stdout.splitlines():
            if (ROOT / name).is_file():
                (folder / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy2(ROOT / name, folder / name)
        compileall.compile_dir(str(folder), quiet=2)
        self.source = self._module.read_text(encoding="utf-8")

    def load(self) -> None:
        """Import into this process what the tests import and the module's changes cannot reach."""
        os.chdir(self._folder)
        sys.path[:] = [str(self._folder), *(p for p in sys.path if Path(p or ".").resolve() != ROOT)]
        os.environ["PYTHONPATH"] = str(self._folder)
        for name in [name for name in sys.modules if name.partition(".")[0] == "tests"]:
            del sys.modules[name]  # this module's own package lies elsewhere
        listed = self._folder / "imported.txt"
        if self._forked(BASELINE_LIMIT_S, listed) != 0:
            self.show_failure()
            raise SystemExit(2)
        changing = dependents(self._folder, self._module)
        for name in listed.read_text(encoding="utf-8").split():
            if name not in changing:
                with suppress(Exception):  # what cannot be imported alone is imported by the tests
                    importlib.import_module(name)
        for name in changing:
            sys.modules.pop(name, None)

    def run(self, limit_s: float) -> int:
        """The tests' exit code; a signal's negative number where they were ended."""
        return self._forked(limit_s, None)

    def change(self, mutant: Mutant | None) -> None:
        """Put this change, or none, into the module."""
        data = self.source.encode()
        if mutant is not None:
            data = data[: mutant.begin] + mutant.text.encode() + data[mutant.end :]
        self._module.write_bytes(data)
        for kept in self._module.parent.glob(f"__pycache__/{self._module.stem}.*.pyc"):
            kept.unlink()

    def show_failure(self) -> None:
        """What the tests said."""
        print((self._folder / "output.txt").read_text(encoding="utf-8", errors="replace")[-4000:])

    def _forked(self, limit_s: float, listed: Path | None) -> int:
        sys.stdout.flush()
        child = os.fork()
        if child == 0:
            code = _BROKEN
            try:
                os.setsid()
                code = self._test(listed)
            except BaseException:
                traceback.print_exc(file=sys.__stderr__)
            finally:
                os._exit(code)  # never back into what the parent is in
        ends = time.monotonic() + limit_s
        while time.monotonic() < ends:
            done, status = os.waitpid(child, os.WNOHANG)
            if done:
                break
            time.sleep(0.02)
        with suppress(ProcessLookupError):  # whatever the tests have left
            os.killpg(child, signal.SIGKILL)
        if not done:
            _, status = os.waitpid(child, 0)
        return os.waitstatus_to_exitcode(status)

    def _test(self, listed: Path | None) -> int:
        import pytest

        sys.dont_write_bytecode = True
        options = ["-x", "-q", "-p", "no:cacheprovider", "-p", "no:xdist", "-m", QUICK, "-k", self._only]
        options += ["-W", "ignore::pytest.PytestAssertRewriteWarning"]  # its plugins are there already
        with open("output.txt", "w", encoding="utf-8") as output:
            os.dup2(output.fileno(), 1)
            os.dup2(output.fileno(), 2)
            with redirect_stdout(output), redirect_stderr(output):
                code = int(pytest.main([*options, *self._tests]))
        if listed is not None:
            listed.write_text("\n".join(n for n in sys.modules if "test" not in n), encoding="utf-8")
        return code


def survivors(module: str, tests: Sequence[str], only: str, lines: range) -> list[Mutant]:
    """The mutants that the tests do not notice; says on the way how it goes."""
    with tempfile.TemporaryDirectory(prefix="mutation-") as folder:
        copy = Copy(Path(folder), module, tests, only)
        copy.load()
        began = time.monotonic()
        if copy.run(BASELINE_LIMIT_S) != 0:
            copy.show_failure()
            raise SystemExit(2)
        limit_s = SLOWER * (time.monotonic() - began) + SPARE_S
        found = [mutant for mutant in mutants(copy.source) if mutant.line in lines]
        print(f"{module}: {len(found)} mutants, at most {limit_s:.0f} s each", flush=True)
        left = []
        for mutant in found:
            copy.change(mutant)
            if copy.run(limit_s) == 0:
                left.append(mutant)
                print(f"  survives {module}:{mutant}", flush=True)
        print(f"{module}: {len(found) - len(left)} of {len(found)} mutants were noticed", flush=True)
        return left


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m tests.mutation", description=__doc__.splitlines()[0])  # type: ignore[union-attr]
    parser.add_argument("module", help="the file to change, from the repository's root")
    parser.add_argument("tests", nargs="+", help="what pytest is to run")
    parser.add_argument("--only", default="", help="run only tests whose names match, as pytest's -k")
    parser.add_argument("--lines", default="1-1000000", help="change only these, as 20-60")
    asked = parser.parse_args()
    first, _, last = asked.lines.partition("-")
    lines = range(int(first), int(last or first) + 1)
    raise SystemExit(1 if survivors(asked.module, asked.tests, asked.only, lines) else 0)


if __name__ == "__main__":
    main()
