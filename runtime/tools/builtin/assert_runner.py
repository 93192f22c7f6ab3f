"""Runs a file of plain asserts: what the test_runner tool starts where there is no framework.

Each top-level statement runs on its own, so that one wrong assert does not hide the next; each function
`test_…` without parameters runs after them. Prints what failed, and the counts as the last line.
Standard library only: it runs in the sandbox, from its standard input.
"""

import ast
import inspect
import sys
from collections.abc import Callable


def run(path: str) -> int:
    """Run the file; the exit code is 1 where something failed."""
    with open(path, encoding="utf-8") as file:
        source = file.read()
    scope: dict[str, object] = {"__name__": "tests", "__file__": path}
    passed = failed = errors = 0
    for statement in ast.parse(source, path).body:
        code = compile(ast.Module([statement], []), path, "exec")
        ending = attempt(lambda code=code: exec(code, scope), f"line {statement.lineno}")  # type: ignore[misc]  # noqa: S102
        passed += ending == "" and isinstance(statement, ast.Assert)
        failed += ending == "failed"
        errors += ending == "error"
    for name, function in list(scope.items()):
        if (
            name.startswith("test_")
            and inspect.isfunction(function)
            and not inspect.signature(function).parameters
        ):
            ending = attempt(function, name)
            passed += ending == ""
            failed += ending == "failed"
            errors += ending == "error"
    print(f"{passed} passed, {failed} failed, {errors} errors")
    return 1 if failed or errors else 0


def attempt(act: Callable[[], object], where: str) -> str:
    """`failed` for a wrong assert, `error` for anything else, empty if it went well."""
    try:
        act()
    except AssertionError as error:
        print(f"FAILED {where}: {error}" if str(error) else f"FAILED {where}")
        return "failed"
    except Exception as error:
        print(f"ERROR {where}: {type(error).__name__}: {error}")
        return "error"
    return ""


if __name__ == "__main__":
    sys.path.insert(0, ".")
    sys.exit(run(sys.argv[1]))
