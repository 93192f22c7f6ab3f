"""Tools: what a sandbox costs, one section after the other.

python -m benchmarks.tools
"""

import asyncio
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from agentfactory.configs.roles import SandboxSettings
from agentfactory.configs.sandbox import CommandSandboxSettings
from agentfactory.runtime.sandbox.commands import CommandSandbox
from agentfactory.runtime.sandbox.python import PythonSandbox
from benchmarks import _parser
from benchmarks._verifiers import judges
from benchmarks.figures import Figures, median

CODE = "total = sum(n * n for n in range(2000))\nprint(total)"
"""About 0.1 ms of work, as an agent's calculations are."""
CALLS = 400
PARALLEL_CALLS = 2000
PARALLEL = 4
COMMANDS = 30
WARM = """
import contextlib, io, sys
for line in sys.stdin:
    output = io.StringIO()
    with contextlib.redirect_stdout(output):
        exec(eval(line), {})
    print(repr(output.getvalue()), flush=True)
"""
"""A worker without any walls: code a line in, output a line out."""


async def sandboxed_python(figures: Figures) -> None:
    """One call after the other, each beside the same call in a bare worker; then as many as there can be."""
    sandbox = PythonSandbox(SandboxSettings(max_parallel=PARALLEL))
    await sandbox.start()
    with _bare_worker() as worker:
        bare, walled = [], []
        for _ in range(CALLS):
            bare.append(_ask(worker))
            started = time.perf_counter()
            result = await sandbox.run(CODE)
            walled.append(time.perf_counter() - started)
            assert result.ok, result
        worker.kill()
    started = time.perf_counter()
    results = await asyncio.gather(*(sandbox.run(CODE) for _ in range(PARALLEL_CALLS)))
    rate = PARALLEL_CALLS / (time.perf_counter() - started)
    assert all(result.ok for result in results)
    await sandbox.aclose()
    figures.add("python_bare_worker", 1000 * median(bare), "ms")
    figures.add("python_sandboxed", 1000 * median(walled), "ms")
    figures.add("python_sandbox_adds", 1000 * (median(walled) - median(bare)), "ms", "<=", 5)
    figures.add("python_calls", rate, "calls/s", ">=", 200)


def _bare_worker() -> "subprocess.Popen[str]":
    command = [sys.executable, "-I", "-S", "-c", WARM]
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


def _ask(worker: "subprocess.Popen[str]") -> float:
    assert worker.stdin is not None
    assert worker.stdout is not None
    started = time.perf_counter()
    worker.stdin.write(repr(CODE) + "\n")
    worker.stdin.flush()
    assert worker.stdout.readline()
    return time.perf_counter() - started


async def sandboxed_commands(figures: Figures) -> None:
    """`true`, at each level that holds here, from nothing to its end."""
    for level in ("bubblewrap", "landlock"):
        sandbox = CommandSandbox(CommandSandboxSettings.model_validate({"level": level}))
        await sandbox.start()
        with tempfile.TemporaryDirectory() as folder:
            results = [await sandbox.run(["true"], workdir=Path(folder)) for _ in range(COMMANDS)]
        await sandbox.aclose()
        figures.add(f"command_{level}", 1000 * median(result.duration_s for result in results), "ms")


SECTIONS: tuple[Callable[[Figures], object], ...] = (
    lambda figures: asyncio.run(sandboxed_python(figures)),
    lambda figures: asyncio.run(sandboxed_commands(figures)),
    lambda figures: asyncio.run(judges(figures)),
    _parser.measure,
)


def main() -> int:
    """Run all sections; 1 if a target is missed."""
    figures = Figures()
    for section in SECTIONS:
        section(figures)
    return figures.exit_code()


if __name__ == "__main__":
    sys.exit(main())
