"""The test_runner tool: tests of the workspace, run in the sandbox and counted.

The counts are what a run says of itself, for whoever wrote the tests; a verdict on somebody else's code
needs a judge that the code cannot talk to.
"""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Final, Literal

import anyio.to_thread

from ....configs.tools import TestRunnerSettings
from ....messages.base import Message
from ....messages.turns import ToolResult
from ...sandbox.command_policy import CommandPolicy
from ...sandbox.commands import CommandResult, CommandSandbox
from ...sandbox.errors import SandboxError
from ...sandbox.workspace import Workspace
from ..base import Tool, ToolError
from ..definition import EpisodeContext, EpisodeTool, ToolHost
from ..function_tool import tool
from .files import as_observation
from .shell import as_result

Framework = Literal["pytest", "unittest", "asserts"]

_RUNNER: Final = Path(__file__).with_name("assert_runner.py")
_MAX_BYTES: Final = 2**20
_UNITTEST: Final = re.compile(
    r"^\s*(import unittest|from unittest)|\(\s*(unittest\.)?TestCase\s*\)", re.MULTILINE
)
_PYTEST: Final = re.compile(r"^\s*(import pytest|from pytest)|^(async )?def test_|^class Test", re.MULTILINE)
_PYTEST_COUNT: Final = re.compile(r"(\d+) (passed|failed|error|errors|skipped|xfailed|xpassed)\b")
_UNITTEST_RAN: Final = re.compile(r"^Ran (\d+) tests?", re.MULTILINE)
_UNITTEST_COUNT: Final = re.compile(r"(failures|errors|skipped|expected failures|unexpected successes)=(\d+)")


class Counts(Message):
    """What became of the tests."""

    passed: int = 0
    failed: int = 0
    errors: int = 0
    """Tests that could not be run to their end, and files that could not be read."""
    skipped: int = 0

    def __str__(self) -> str:
        skipped = f", {self.skipped} skipped" if self.skipped else ""
        return f"{self.passed} passed, {self.failed} failed, {self.errors} errors{skipped}"


class TestRunner:
    """Runs tests of one workspace."""

    __test__ = False  # not a test itself, whatever its name

    def __init__(
        self,
        settings: TestRunnerSettings,
        workspace: Workspace,
        sandbox: CommandSandbox,
        rules: CommandPolicy,
    ) -> None:
        """`sandbox` is a part of the box."""
        self._settings = settings
        self._workspace = workspace
        self._sandbox = sandbox
        self._rules = rules

    def __repr__(self) -> str:
        return f"<TestRunner {self._workspace!r}>"

    @tool
    async def test_runner(
        self, path: str, framework: Literal["auto", "pytest", "unittest", "asserts"] = "auto"
    ) -> ToolResult:
        """Runs the tests in a Python file of the workspace; the first line says how many passed and failed.

        Args:
            path: the file
            framework: auto looks into the file; asserts runs plain assert statements
        """
        source = await anyio.to_thread.run_sync(self._read, path)
        chosen = choose_framework(source) if framework == "auto" else framework
        limit_s = self._settings.timeout_s
        try:
            result = await self._sandbox.run(
                command_of(chosen, path),
                workdir=self._workspace.root,
                stdin=_RUNNER.read_bytes() if chosen == "asserts" else b"",
                timeout_s=limit_s,
            )
        except SandboxError as error:
            raise ToolError(str(error), "crashed") from error
        return self._result(chosen, result, limit_s)

    def _read(self, path: str) -> str:
        self._rules.check_path(path)
        with as_observation(path):
            return self._workspace.read_bytes(path, max_bytes=_MAX_BYTES).decode("utf-8", "replace")

    def _result(self, framework: Framework, result: CommandResult, limit_s: float) -> ToolResult:
        """All that was printed, under the counts. Tests that fail are a result, too, but not `ok`."""
        shown = as_result(result, limit_s, self._settings.max_chars)
        if result.ending not in ("ok", "error"):
            return shown
        counts = count(framework, f"{result.stdout}\n{result.stderr}")
        if counts is None:
            return shown if not shown.ok else shown.model_copy(update={"ok": False, "failure": "error"})
        ok = result.ending == "ok" and not counts.failed and not counts.errors
        output = f"{framework}: {counts}\n{shown.output}" if not ok else f"{framework}: {counts}"
        return ToolResult(output=output, ok=ok, failure="" if ok else "error", duration_s=result.duration_s)


def choose_framework(source: str) -> Framework:
    """What a file of tests is written for.

    >>> choose_framework("assert 1 + 1 == 2")
    'asserts'
    """
    if _UNITTEST.search(source):
        return "unittest"
    return "pytest" if _PYTEST.search(source) else "asserts"


def command_of(framework: Framework, path: str) -> list[str]:
    """The command line that runs a file. `asserts` expects its runner on standard input."""
    if framework == "pytest":
        options = [
            "-q",
            "--tb=short",
            "--color=no",
            "-p",
            "no:cacheprovider",
            "--rootdir=.",
            "-c",
            "/dev/null",
        ]
        return ["python", "-B", "-m", "pytest", *options, "--", f"./{path}"]
    if framework == "unittest":
        return ["python", "-B", "-m", "unittest", path]
    return ["python", "-B", "-", path]


def count(framework: Framework, output: str) -> Counts | None:
    """The counts in what a framework printed; None if there are none.

    >>> count("pytest", "F.\\n1 failed, 1 passed in 0.01s")
    Counts(passed=1, failed=1, errors=0, skipped=0)
    """
    if framework == "unittest":
        return _unittest_counts(output)
    lines = output.strip().splitlines()
    line = next((line for line in reversed(lines) if _PYTEST_COUNT.search(line)), None)
    if line is None:
        return None
    found = {name.removesuffix("s"): int(number) for number, name in _PYTEST_COUNT.findall(line)}
    return Counts(
        passed=found.get("passed", 0) + found.get("xpassed", 0),
        failed=found.get("failed", 0),
        errors=found.get("error", 0),
        skipped=found.get("skipped", 0) + found.get("xfailed", 0),
    )


def _unittest_counts(output: str) -> Counts | None:
    ran = _UNITTEST_RAN.search(output)
    if ran is None:
        return None
    found = {name: int(number) for name, number in _UNITTEST_COUNT.findall(output[ran.end() :])}
    failed = found.get("failures", 0) + found.get("unexpected successes", 0)
    errors = found.get("errors", 0)
    skipped = found.get("skipped", 0) + found.get("expected failures", 0)
    passed = max(0, int(ran[1]) - failed - errors - skipped)
    return Counts(passed=passed, failed=failed, errors=errors, skipped=skipped)


def _prepare(host: ToolHost) -> Callable[[EpisodeContext], Tool]:
    settings, sandbox, policy = host.settings.toolbox.test_runner, host.command_sandbox, host.policy
    return lambda episode: TestRunner(settings, episode.workspace, sandbox, policy).test_runner


TEST_RUNNER: Final = EpisodeTool(
    spec=lambda _: TestRunner.test_runner,
    prepare=_prepare,
    limits=lambda settings: (settings.toolbox.sandbox, settings.toolbox.test_runner),
    prints=True,
)
