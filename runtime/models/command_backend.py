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
from asyncio.subprocess import PIPE, Process
from contextlib import suppress
from pathlib import Path

from configs.chat_models import CommandModelSettings
from configs.errors import SettingsError
from messages.chat import (
    AssistantMessage,
    Capabilities,
    ChatRequest,
    ConversationMessage,
    JsonObject,
    Usage,
    UserMessage,
)
from runtime.models.backend import Backend, BackendReply, Pieces, split_system
from runtime.models.errors import BrokenReply, CommandFailed, ModelError
from runtime.models.keys import without_secrets

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

    async def pieces(self, request: ChatRequest, *, live: bool) -> Pieces:
        """The whole answer at once."""
        arguments, prompt = _fill(request, self._settings)
        out = await self._run(arguments, prompt)
        yield _read(out, self._settings, self.name)

    def translate(self, error: Exception) -> ModelError | None:
        """What the operating system says."""
        if isinstance(error, OSError | ValueError):
            return CommandFailed(f"{self.name}: cannot be run: {error}")
        return None

    async def _run(self, arguments: list[str], prompt: str) -> bytes:
        process = await asyncio.create_subprocess_exec(
            *arguments,
            stdin=PIPE,
            stdout=PIPE,
            stderr=PIPE,
            cwd=self._settings.folder,
            env=self._environment,
            start_new_session=True,
        )
        try:
            limit = self._settings.max_output_kb * 1024
            async with asyncio.TaskGroup() as group:
                group.create_task(_feed(process, prompt.encode()))
                out = group.create_task(_read_all(process.stdout, limit))
                err = group.create_task(_read_all(process.stderr, limit))
            status = await process.wait()
        except ExceptionGroup as failed:
            raise failed.exceptions[0] from None
        finally:
            await _kill(process)
        if status:
            lines = err.result().decode(errors="replace").strip().splitlines()
            last = without_secrets(lines[-1] if lines else "(nothing on stderr)", self.secrets)
            raise CommandFailed(f"{self.name}: {_ending(status)}: {last[:LAST_LINE_CHARS]}")
        return out.result()


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


async def _feed(process: Process, data: bytes) -> None:
    """Write the prompt; a program need not read it."""
    assert process.stdin is not None
    with suppress(BrokenPipeError, ConnectionResetError):
        process.stdin.write(data)
        await process.stdin.drain()
    process.stdin.close()


async def _read_all(stream: asyncio.StreamReader | None, limit: int) -> bytes:
    assert stream is not None
    data = bytearray()
    while piece := await stream.read(65536):
        data += piece
        if len(data) > limit:
            raise CommandFailed(f"it wrote more than {limit >> 10} KB (max_output_kb)")
    return bytes(data)


async def _kill(process: Process) -> None:
    """The whole group: what the program started goes with it."""
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    await asyncio.shield(process.wait())


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
    said = [f"{names[m.role]}: {m.text}" for m in messages if isinstance(m, UserMessage | AssistantMessage)]
    return "\n\n".join([*said, "Assistant:"])


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
