"""`python -m benchmarks` runs every module of this package in turn and prints a summary."""

import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).parent
LIMIT_S = 3600


def main() -> int:
    """Run all; 1 if any target is missed or any module fails."""
    packages = [path.parent for path in HERE.glob("*/__main__.py")]
    names = sorted(path.stem for path in [*HERE.glob("[!_]*.py"), *packages] if path.stem != "figures")
    results: list[tuple[str, int, list[str]]] = []
    for name in names:
        print(f"== {name}", flush=True)
        results.append((name, *_run(name)))
    print("\n== summary")
    for name, code, lines in results:
        print(f"{'ok    ' if code == 0 else 'FAILED'} {name}")
        for line in lines:
            print(f"    {line}")
    return max((code != 0 for _, code, _ in results), default=False)


def _run(name: str) -> tuple[int, list[str]]:
    """Run one module; its exit code and its figures."""
    lines: list[str] = []
    command = [sys.executable, "-m", f"benchmarks.{name}"]
    with subprocess.Popen(command, cwd=HERE.parent, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        for line in process.stdout:
            print(line, end="", flush=True)
            if line.startswith(("figure ", "missed ")):
                lines.append(line.rstrip())
        return process.wait(timeout=LIMIT_S), lines


if __name__ == "__main__":
    sys.exit(main())
