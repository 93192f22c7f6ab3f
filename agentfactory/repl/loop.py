"""The loop: read a line, answer it, and go on whatever came of it.

Consumes lines; produces replies; waits for the line's agent; unblocked by its limits, and by Ctrl-C, which
ends the command and not the loop.
"""

import asyncio
import json
import signal
import sys
from collections.abc import AsyncGenerator, Iterable, Iterator
from contextlib import aclosing, contextmanager, suppress
from pathlib import Path
from typing import Final

from pydantic import JsonValue

from ..cluster.agents.blueprint_registry import BlueprintRegistry
from ..configs.data import DataSettings
from ..configs.errors import AgentFactoryError
from .commands import Quit, ReplCommands
from .conversation import Conversation
from .input_source import read_pipe, read_terminal
from .replies import CommandReply, ReplyLine, colours_wanted, show
from .session_manager import SessionManager

WELCOME: Final = "{name}: {about}. `help` shows what can be said; `quit` ends."


def run(
    name: str, registry: BlueprintRegistry, data: DataSettings, *, commands: tuple[str, ...], as_json: bool
) -> int:
    """Talk to an agent: `commands`, or else lines of standard input.

    Returns 0, or 1 where a command of a pipe or of `commands` was not carried out. Raises BadInput for a
    name that is none, before anything is opened.
    """
    blueprint = registry.get(name)
    folder = Path(data.folder)
    interactive = not commands and sys.stdin.isatty()
    if interactive and not as_json:
        about = blueprint.blueprint.description or blueprint.agent.type
        show([ReplyLine(WELCOME.format(name=name, about=about), "dim")], colours=colours_wanted())
    return asyncio.run(
        _run(
            name,
            SessionManager(registry, data, prepare=quiet_log),
            commands,
            folder if interactive else None,
            as_json,
        )
    )


def quiet_log() -> None:
    """Errors alone: the terminal is for people."""
    from ..runtime.telemetry import LogSettings, configure_logging  # slow to import

    configure_logging(LogSettings(level="error", format="console"))


async def _run(
    name: str, manager: SessionManager, commands: tuple[str, ...], prompt: Path | None, as_json: bool
) -> int:
    loop = Loop(Conversation(manager, name), as_json=as_json, forgiving=prompt is not None)
    try:
        manager.prefetch(name)
        if commands:
            lines = given(commands)
        else:
            lines = read_terminal(prompt, manager.registry.names) if prompt is not None else read_pipe()
        return await loop.work(lines)
    finally:
        await manager.aclose()


async def given(commands: Iterable[str]) -> AsyncGenerator[str, None]:
    """Lines that are known beforehand."""
    for command in commands:
        yield command


class Loop:
    """Answers lines until there are no more."""

    def __init__(
        self, conversation: Conversation, *, as_json: bool, forgiving: bool, echo: bool = False
    ) -> None:
        """`as_json`: one JSON object for each line. `forgiving`: a person is there, who sees what fails.

        `echo`: each line is shown before its answer.
        """
        self._echo = echo
        self._commands = ReplCommands(conversation)
        self._json = as_json
        self._forgiving = forgiving
        self._colours = colours_wanted()
        self._all_done = True

    async def work(self, lines: AsyncGenerator[str, None]) -> int:
        """Returns the exit code."""
        async with aclosing(lines):
            async for line in lines:
                if not line.strip():
                    continue
                try:
                    await self._interruptible(line)
                except Quit:
                    break
        return 0 if self._all_done or self._forgiving else 1

    async def _interruptible(self, line: str) -> None:
        """Answer a line; Ctrl-C ends the answer alone where a person can go on."""
        answering = asyncio.create_task(self._answer(line))
        with _on_interrupt(answering, wanted=self._forgiving) as interrupted:
            try:
                await answering
            except asyncio.CancelledError:
                if not interrupted:
                    raise
                self._failed(line, "interrupted; what was under way may have been done")

    async def _answer(self, line: str) -> None:
        parts: list[CommandReply] = []
        if self._echo:
            show([ReplyLine(f"agent> {line.strip()}", "bold")], colours=self._colours)
        try:
            async with aclosing(self._commands.answer(line)) as replies:
                async for reply in replies:
                    parts.append(reply)
                    self._all_done = self._all_done and reply.ok
                    if not self._json:
                        show(reply.lines, colours=self._colours)
        except AgentFactoryError as error:
            self._failed(line, str(error), parts)
            return
        if self._json:
            print(json.dumps({"input": line.strip(), "replies": _data(parts)}), flush=True)

    def _failed(self, line: str, problem: str, parts: list[CommandReply] | None = None) -> None:
        self._all_done = False
        if self._json:
            answer = {"input": line.strip(), "replies": _data(parts or []), "error": problem}
            print(json.dumps(answer), flush=True)
        else:
            show([ReplyLine(f"  {problem}", "bad")], colours=self._colours)


def _data(parts: list[CommandReply]) -> list[JsonValue]:
    return [dict(part.data) for part in parts if part.data]


@contextmanager
def _on_interrupt(task: "asyncio.Task[None]", *, wanted: bool) -> Iterator[list[bool]]:
    """While the block lasts Ctrl-C cancels the task; the list that is given tells of it."""
    told: list[bool] = []
    if not wanted:
        yield told
        return

    def cancel() -> None:
        told.append(True)
        task.cancel()

    loop = asyncio.get_running_loop()
    with suppress(NotImplementedError):
        loop.add_signal_handler(signal.SIGINT, cancel)
    try:
        yield told
    finally:
        with suppress(NotImplementedError):
            loop.remove_signal_handler(signal.SIGINT)
