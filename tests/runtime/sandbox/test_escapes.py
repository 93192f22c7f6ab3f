"""Attempts to escape, against every sandbox that claims to hold them, and without one to see them work."""

import asyncio
import os
import platform
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path
from tempfile import TemporaryFile
from typing import NamedTuple

import pytest
import pytest_asyncio
from escape_attempts import ATTEMPTS, PRELUDE, Attempt
from escape_fixture import Scene

from agentfactory.configs.roles import SandboxSettings
from agentfactory.configs.sandbox import CommandSandboxSettings
from agentfactory.runtime.sandbox.commands import CommandSandbox
from agentfactory.runtime.sandbox.errors import SandboxError
from agentfactory.runtime.sandbox.python import PythonSandbox

TIMEOUT_S = 1.5
OUTPUT_BYTES = 20_000
CONTROLS = [attempt for attempt in ATTEMPTS if attempt.control]

pytestmark = [
    pytest.mark.asyncio(loop_scope="module"),
    pytest.mark.skipif(sys.platform != "linux", reason="needs Linux"),
]


class Ran(NamedTuple):
    """What an attempt printed, and how it ended."""

    output: str
    ending: str


Runner = Callable[[str], Awaitable[Ran]]


@pytest.fixture(scope="module")
def scene() -> Iterator[Scene]:
    scene = Scene()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AGENTFACTORY_SECRET", scene.secret)
        with open(scene.outside / "secret", "rb") as held:
            os.set_inheritable(held.fileno(), True)
            yield scene
    scene.close()


@pytest_asyncio.fixture(scope="module", loop_scope="module", params=["python", "bubblewrap", "landlock"])
async def runner(request: pytest.FixtureRequest, scene: Scene) -> AsyncIterator[tuple[str, Runner]]:
    """A way to run an attempt at one level; skipped where the level does not claim to hold here."""
    if request.param == "python":
        cells = PythonSandbox(SandboxSettings(timeout_s=TIMEOUT_S, output_bytes=OUTPUT_BYTES))

        async def run_cell(code: str) -> Ran:
            result = await cells.run(code)
            return Ran(result.output, result.failure or "ok")

        await cells.start()
        yield request.param, run_cell
        await cells.aclose()
        return
    settings = CommandSandboxSettings(
        level=request.param, timeout_s=TIMEOUT_S, output_bytes=OUTPUT_BYTES, memory_mb=256, tmp_mb=32
    )
    commands = CommandSandbox(settings)
    try:
        await commands.start()
    except SandboxError as error:
        pytest.skip(f"does not hold here: {error}")
    python = await usable_python(commands, scene.workdir)

    async def run_command(code: str) -> Ran:
        argv = [python, "-I", "-S", "-B", "-c", code]
        status, stdout, stderr, ending, _ = await commands.run(argv, workdir=scene.workdir)
        return Ran(f"{stdout}{stderr}", ending if ending != "ok" or not status else "error")

    yield request.param, run_command
    await commands.aclose()


async def usable_python(commands: CommandSandbox, workdir: Path) -> str:
    """This Python, or the system's where this one lies in a folder that nobody may enter."""
    for python in (sys.executable, "/usr/bin/python3"):
        if (await commands.run([python, "-c", "import ctypes"], workdir=workdir)).status == 0:
            return python
    pytest.skip("there is no Python that a sandboxed program can run")


def script(scene: Scene, attempt: Attempt) -> str:
    body = "\n".join(f"    {line}" for line in attempt.code.splitlines())
    failed = "except BaseException as error:\n    print('failed:', type(error).__name__, error)\n"
    return f"{PRELUDE}\nT = {scene.targets()!r}\ntry:\n{body}\n{failed}"


def skip_elsewhere(attempt: Attempt) -> None:
    if platform.machine() != "x86_64" and "call(" in attempt.code + PRELUDE:
        pytest.skip("system calls are numbered as on x86_64")


@pytest.mark.parametrize("attempt", ATTEMPTS, ids=lambda attempt: attempt.name)
async def test_an_escape_is_contained(attempt: Attempt, runner: tuple[str, Runner], scene: Scene) -> None:
    skip_elsewhere(attempt)
    level, run = runner
    if level == "python" and attempt.commands_only:
        pytest.skip("a cell runs no programs")
    ran = await run(script(scene, attempt))
    breaches = scene.breaches(ran.output)
    if breaches:
        scene.reset()
    assert not breaches, ran
    if level == "python":  # the other levels start anew for each call
        assert (await run("print(6 * 7)")).output == "42", "the sandbox itself has suffered"


@pytest.mark.parametrize("attempt", CONTROLS, ids=lambda attempt: attempt.name)
async def test_without_a_sandbox_the_same_look_sees_the_escape(attempt: Attempt, scene: Scene) -> None:
    skip_elsewhere(attempt)
    argv = [sys.executable, "-I", "-S", "-B", "-c", script(scene, attempt)]
    with TemporaryFile() as output:  # not a pipe: what an attempt leaves behind would hold it open
        await asyncio.to_thread(
            subprocess.run,
            argv,
            cwd=scene.workdir,
            stdout=output,
            stderr=subprocess.STDOUT,
            stdin=subprocess.DEVNULL,
            close_fds=False,
            timeout=30,
            check=False,
        )
        output.seek(0)
        printed = output.read().decode("utf-8", "replace")
    breaches = scene.breaches(printed)
    scene.reset()
    if not breaches and any(why in printed for why in ("not permitted", "not implemented", "not supported")):
        pytest.skip("this machine does not let us do it either")
    assert breaches, printed


async def test_the_suite_is_as_large_as_promised() -> None:
    names = {attempt.name for attempt in ATTEMPTS}
    assert len(names) == len(ATTEMPTS)
    assert len(names) >= 60
