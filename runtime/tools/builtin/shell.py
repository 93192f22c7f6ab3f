"""The shell tool: one program of a list, in the sandbox, without a shell."""

import difflib
import shlex
from collections.abc import Callable
from typing import Final

from ....configs.tools import ShellSettings
from ....messages.turns import Failure, ToolResult
from ...sandbox.command_policy import CommandPolicy
from ...sandbox.commands import CommandResult, CommandSandbox
from ...sandbox.errors import SandboxError
from ...sandbox.workspace import Workspace
from ..base import Tool, ToolError, sanitize_output
from ..definition import EpisodeContext, EpisodeTool, ToolHost
from ..function_tool import tool

_OPERATORS: Final = "();<>|&`\n"
_MAX_CHARACTERS: Final = 32_768
"""Of one command: what splits it takes quadratic time."""
_QUOTES: Final = "'\""
_STARTS_ANOTHER: Final = {"sort": ("--compress-program", "--files0-from")}
"""Arguments by which a harmless program starts another one, or reads names from elsewhere."""
_SAID: Final = {
    "timeout": "it was stopped: it took longer than {limit:g} s",
    "memory": "it was stopped: it used too much memory",
    "output": "it was stopped: too much output",
    "disk": "it was stopped: the workspace holds too many or too large files",
    "crashed": "it crashed",
    "forbidden": "it tried what it must not",
}


class Shell:
    """Runs programs in one workspace."""

    def __init__(
        self, settings: ShellSettings, workspace: Workspace, sandbox: CommandSandbox, rules: CommandPolicy
    ) -> None:
        """`sandbox` is a part of the box."""
        self._settings = settings
        self._workspace = workspace
        self._sandbox = sandbox
        self._rules = rules

    def __repr__(self) -> str:
        return f"<Shell {len(self._settings.commands)} commands, {self._workspace!r}>"

    @tool
    async def shell(self, command: str) -> ToolResult:
        """Runs one program with its arguments in the workspace and answers with what it printed.

        There are no pipes, no redirections, no variables and no patterns.

        Args:
            command: such as grep -n word file.txt
        """
        words = split_command(command)
        self._check(words)
        limit_s = self._settings.timeout_s
        try:
            result = await self._sandbox.run(words, workdir=self._workspace.root, timeout_s=limit_s)
        except SandboxError as error:
            raise ToolError(str(error), "crashed") from error
        return as_result(result, limit_s, self._settings.max_chars)

    def _check(self, words: list[str]) -> None:
        """Raises ToolError or AccessRefused for what is not on the list, or against the rules."""
        allowed = self._settings.commands
        name = words[0]
        if name not in allowed:
            close = difflib.get_close_matches(name, allowed, n=1)
            hint = f"did you mean {close[0]}?" if close else f"there are: {', '.join(allowed)}"
            raise ToolError(f"{name} is not among the programs that may be run; {hint}", "forbidden")
        for option in _STARTS_ANOTHER.get(name, ()):
            # A long option may be cut short as far as it stays clear.
            if any(len(word) > 2 and option.startswith(word.partition("=")[0]) for word in words[1:]):
                raise ToolError(f"{name} {option} is not allowed", "forbidden")
        self._rules.check_command(words)


def split_command(command: str) -> list[str]:
    """The words of a command. Raises ToolError for what only a shell could read.

    >>> split_command("grep -n 'a | b' notes.txt")
    ['grep', '-n', 'a | b', 'notes.txt']
    """
    command = command.strip()
    if len(command) > _MAX_CHARACTERS:
        raise ToolError(f"the command has {len(command)} characters, at most {_MAX_CHARACTERS} are read")
    operator = _first_operator(command)
    if operator:
        raise ToolError(
            f"{operator!r} is a shell's, and there is no shell: write one program with its arguments, "
            "and quote what is meant as it stands",
            "forbidden",
        )
    try:
        words = shlex.split(command)
    except ValueError as error:
        raise ToolError(f"the command cannot be read: {error}") from error
    if not words:
        raise ToolError("the command is empty; write a program with its arguments")
    return words


def _first_operator(command: str) -> str:
    """The first operator that stands outside of quotes; empty if there is none."""
    quote, escaped = "", False
    for character in command:
        if escaped:
            escaped = False
        elif character == "\\" and quote != "'":
            escaped = True
        elif quote:
            quote = "" if character == quote else quote
        elif character in _QUOTES:
            quote = character
        elif character in _OPERATORS:
            return character
    return ""


def as_result(result: CommandResult, limit_s: float, max_chars: int) -> ToolResult:
    """What a program printed, its complaints after it, and how it ended if not well."""
    printed = "\n".join(filter(None, (result.stdout.rstrip("\n"), result.stderr.rstrip("\n"))))
    if result.ending == "ok":
        output = sanitize_output(printed, max_chars) or "(no output)"
        return ToolResult(output=output, ok=True, duration_s=result.duration_s)
    said = _SAID.get(result.ending, "exit code {status}").format(limit=limit_s, status=result.status)
    failure: Failure = result.ending
    shown = sanitize_output(printed, max(0, max_chars - len(said) - 10))
    output = f"{shown}\nError: {said}" if shown else f"Error: {said}"
    return ToolResult(output=output, ok=False, failure=failure, duration_s=result.duration_s)


def _prepare(host: ToolHost) -> Callable[[EpisodeContext], Tool]:
    settings, sandbox, policy = host.settings.toolbox.shell, host.command_sandbox, host.policy
    return lambda episode: Shell(settings, episode.workspace, sandbox, policy).shell


SHELL: Final = EpisodeTool(
    spec=lambda _: Shell.shell,
    prepare=_prepare,
    limits=lambda settings: (settings.toolbox.sandbox, settings.toolbox.shell),
    prints=True,
)
