"""A program that reads a prompt and writes an answer: Claude's CLI, a script, anything.

It runs without a shell, in a process group of its own that is killed as a whole when the time is up,
the caller gives up, or it writes too much.
"""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import signal
from contextlib import suppress
from pathlib import Path

from ....configs.chat_models import CommandModelSettings
from ....configs.errors import SettingsError
from ....messages.chat import (
    AssistantMessage,
    Capabilities,
    ChatRequest,
    ConversationMessage,
    JsonObject,
    Usage,
    UserMessage,
)
from ..errors import BrokenReply, CommandFailed, ModelError
from .base import Backend, BackendReply, BackendStream, ChatBackend, split_system
from .boundary import redact

ALWAYS = ("PATH", "HOME", "LANG")
"""Variables that every program gets."""
LAST_LINE_CHARS = 300


class CommandBackend(Backend):
    """One program, started anew for each request."""

    def __init__(self, settings: CommandModelSettings) -> None:
        self.name = settings.argv[0]
        _check(settings)
        self.capabilities = capabilities(settings)
        self._settings = settings
        names = (*ALWAYS, *settings.environment)
        self._environment = {name: os.environ[name] for name in names if name in os.environ}
        self.secrets = tuple(self._environment[name] for name in settings.environment if name in os.environ)

    async def stream(self, request: ChatRequest, *, live: bool) -> BackendStream:
        """The whole answer at once."""
        arguments, prompt = _fill(request, self._settings)
        out = await self._run(arguments, prompt)
        yield _read(out, self._settings, self.name)

    def translate(self, error: Exception) -> ModelError | None:
        """The operating system's errors."""
        if isinstance(error, OSError | ValueError):
            return CommandFailed(f"{self.name}: cannot be run: {error}")
        return None

    async def _run(self, arguments: list[str], prompt: str) -> bytes:
        limit = self._settings.max_output_kb * 1024
        transport, output = await asyncio.get_running_loop().subprocess_exec(
            lambda: _OutputProtocol(limit),
            *arguments,
            cwd=self._settings.folder,
            env=self._environment,
            start_new_session=True,
        )
        try:
            _feed(transport, prompt.encode())
            await output.ended
        finally:
            _kill(transport)
            await asyncio.shield(output.gone)
        status = transport.get_returncode()
        if status:
            lines = output.streams[2].decode(errors="replace").strip().splitlines()
            last = redact(lines[-1] if lines else "(nothing on stderr)", self.secrets)
            raise CommandFailed(f"{self.name}: {_ending(status)}: {last[:LAST_LINE_CHARS]}")
        return bytes(output.streams[1])


class _OutputProtocol(asyncio.SubprocessProtocol):
    """Output of the program, up to a limit."""

    def __init__(self, limit: int) -> None:
        loop = asyncio.get_running_loop()
        self.streams = {1: bytearray(), 2: bytearray()}
        self.ended: asyncio.Future[None] = loop.create_future()
        """Done when the program has ended and all that it wrote was read, or it wrote too much."""
        self.gone: asyncio.Future[None] = loop.create_future()
        """Done when the process is reaped and its pipes are closed."""
        self._limit = limit

    def pipe_data_received(self, fd: int, data: bytes) -> None:
        """Keep it. What comes after the limit is let go."""
        if self.ended.done():
            return
        self.streams[fd] += data
        if len(self.streams[fd]) > self._limit:
            self.ended.set_exception(
                CommandFailed(f"it wrote more than {self._limit >> 10} KB (max_output_kb)")
            )

    def connection_lost(self, exc: Exception | None) -> None:
        """Nothing more will come."""
        self.gone.set_result(None)
        if not self.ended.done():
            self.ended.set_result(None)


def capabilities(settings: CommandModelSettings) -> Capabilities:
    """Only what the arguments have a place for."""
    return Capabilities(temperature=any("{temperature}" in argument for argument in settings.argv))


def _check(settings: CommandModelSettings) -> None:
    """Raises SettingsError where the program or the folder is not there."""
    folder, program = Path(settings.folder), settings.argv[0]
    if not folder.is_dir():
        raise SettingsError(f"folder: there is no folder {settings.folder!r} to run {program} in")
    if shutil.which(str(folder / program) if "/" in program else program) is None:
        raise SettingsError(f"argv: there is no program {program!r} that could be run")


def _feed(transport: asyncio.SubprocessTransport, data: bytes) -> None:
    """Write the prompt; a program need not read it."""
    stdin = transport.get_pipe_transport(0)
    assert isinstance(stdin, asyncio.WriteTransport)
    stdin.write(data)
    stdin.close()


def _kill(transport: asyncio.SubprocessTransport) -> None:
    """The whole group: what the program started goes with it."""
    with suppress(ProcessLookupError):
        os.killpg(transport.get_pid(), signal.SIGKILL)
    transport.close()


def _ending(status: int) -> str:
    return f"killed by signal {-status}" if status < 0 else f"ended with status {status}"


def _fill(request: ChatRequest, settings: CommandModelSettings) -> tuple[list[str], str]:
    """The arguments, and what goes to stdin."""
    template = " ".join(settings.argv)
    system, rest = split_system(request.messages)
    prompt = _transcript(rest)
    if system and "{system}" not in template:
        prompt = f"{system}\n\n{prompt}"
    values = {
        "{system}": system,
        "{model}": settings.model,
        "{temperature}": f"{request.sampling.temperature:g}",
        "{max_tokens}": str(request.sampling.max_tokens),
        "{prompt}": prompt,
    }
    return [_replace(argument, values) for argument in settings.argv], (
        "" if "{prompt}" in template else prompt
    )


def _replace(argument: str, values: dict[str, str]) -> str:
    """Each placeholder once, from left to right: what is filled in is not looked at again."""
    found = [(argument.find(placeholder), placeholder) for placeholder in values if placeholder in argument]
    if not found:
        return argument
    at, placeholder = min(found)
    return argument[:at] + values[placeholder] + _replace(argument[at + len(placeholder) :], values)


def _transcript(messages: list[ConversationMessage]) -> str:
    """A lone question as it is; a conversation with who said what."""
    if len(messages) == 1 and isinstance(messages[0], UserMessage):
        return messages[0].text
    names = {"user": "User", "assistant": "Assistant"}
    turns = [f"{names[m.role]}: {m.text}" for m in messages if isinstance(m, UserMessage | AssistantMessage)]
    return "\n\n".join([*turns, "Assistant:"])


def _read(out: bytes, settings: CommandModelSettings, name: str) -> BackendReply:
    text = out.decode(errors="replace")
    if settings.output == "text":
        return BackendReply(text.strip(), "stop", model=settings.model)
    try:
        found = json.loads(text)
    except ValueError as error:
        raise BrokenReply(f"{name}: its output is not JSON: {error}") from error
    reply = found.get(settings.reply_key) if isinstance(found, dict) else None
    if not isinstance(reply, str):
        raise BrokenReply(f"{name}: its JSON output has no text under {settings.reply_key!r}")
    if found.get("is_error") is True:
        raise CommandFailed(f"{name}: it answered with an error: {reply[:LAST_LINE_CHARS]}")
    return BackendReply(reply, "stop", model=settings.model, usage=_usage(found.get("usage")))


def _usage(counted: JsonObject | None) -> Usage | None:
    """In Anthropic's words, as Claude's CLI tells it."""
    if not isinstance(counted, dict):
        return None
    known = {key: value for key, value in counted.items() if isinstance(value, int)}
    cached = known.get("cache_read_input_tokens", 0)
    return Usage(
        prompt_tokens=known.get("input_tokens", 0) + known.get("cache_creation_input_tokens", 0) + cached,
        completion_tokens=known.get("output_tokens", 0),
        cached_tokens=cached,
    )


BACKEND = ChatBackend(CommandModelSettings, CommandBackend, capabilities)
