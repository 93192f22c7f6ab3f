"""Engines without a model: one that answers after a fixed time, one that plays a script.

They spell their replies with a model's own tokenizer where they are given one; otherwise a token
id is a code point, and a reply ends with `EOS_ID`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import NamedTuple

from ...configs.models import SimulatedEngineSettings
from ...messages.adapters import LoadAdapter
from ...messages.generation import Completion, EngineStatistics, Generate
from ...messages.turns import FinishReason
from .base import BadRequest, EngineClosed, EngineError, EngineFailed, OnTokens, SchemaRefused, UnknownAdapter
from .chat.format import ChatFormat

EOS_ID = 0

Reply = Callable[[tuple[int, ...], str | None], str]
"""Chooses a reply by the prompt's tokens and the adapter's name."""


def spell(text: str) -> tuple[int, ...]:
    """The token ids of `text`."""
    return tuple(map(ord, text))


def read(token_ids: Sequence[int]) -> str:
    """The text of token ids, without the end of sequence."""
    return "".join(chr(token) for token in token_ids if token != EOS_ID)


class _Run(NamedTuple):
    """A request that has not been answered."""

    adapter: str | None
    ended: asyncio.Future[FinishReason]


class ScriptedEngine:
    """Answers what its script says: for tests of whoever talks to an engine.

    A script is a function of prompt and adapter, or a list that is played once, in order. An
    EngineError in the list, or raised by the function, is raised to the caller.

        engine = ScriptedEngine(["Answer: 4", EngineFailed("out of memory")])
    """

    def __init__(
        self,
        script: Reply | Sequence[str | EngineError],
        chat: ChatFormat | None = None,
        seconds_per_request: float = 0.0,
    ) -> None:
        self._reply = script if callable(script) else _play(script)
        self._spell = chat.encode if chat else spell
        self._eos_id = min(chat.eos_ids) if chat else EOS_ID
        self._seconds = seconds_per_request
        self._adapters: dict[str, None] = {}
        self._running: dict[str, _Run] = {}
        self._idle = asyncio.Condition()
        self._closed = False
        self._requests = self._generated = self._prompted = 0
        self.seen: list[Generate] = []
        """Every request, in the order of arrival."""
        self.ended_sessions: list[str] = []
        self.asleep = False

    async def start(self) -> None:
        """Nothing to load."""

    async def generate(self, request: Generate, on_tokens: OnTokens | None = None) -> Completion:
        """The script's reply, cut at `max_tokens`, after `seconds_per_request`; nothing is told before."""
        if request.sampling.output_schema is not None:
            raise SchemaRefused("a script cannot be held to a JSON schema")
        if self.asleep:
            raise EngineFailed(f"request {request.request_id!r} came to an engine that sleeps")
        self._admit(request)
        ended: asyncio.Future[FinishReason] = asyncio.get_running_loop().create_future()
        self._running[request.request_id] = _Run(request.adapter, ended)
        try:
            text = self._reply(request.prompt_ids, request.adapter)
            reason = await self._wait(ended)
        finally:
            del self._running[request.request_id]
            async with self._idle:
                self._idle.notify_all()
        return self._complete(request, text, reason)

    def abort(self, request_ids: tuple[str, ...]) -> None:
        """Answer these requests now, with no tokens."""
        for request_id in request_ids:
            run = self._running.get(request_id)
            if run is not None and not run.ended.done():
                run.ended.set_result("abort")

    def end_sessions(self, sessions: tuple[str, ...]) -> None:
        """Noted in `ended_sessions`."""
        self.ended_sessions.extend(sessions)

    async def load_adapter(self, request: LoadAdapter) -> tuple[str, ...]:
        """Remember the name; the bytes are not looked at."""
        if request.adapter.name is not None:
            self._adapters[request.adapter.name] = None
        return tuple(self._adapters)

    async def unload_adapter(self, name: str) -> tuple[str, ...]:
        """Forget the name once nothing runs on it."""
        if name not in self._adapters:
            raise UnknownAdapter(f"adapter {name!r} is not loaded; loaded: {list(self._adapters)}")
        del self._adapters[name]
        async with self._idle:
            await self._idle.wait_for(lambda: all(run.adapter != name for run in self._running.values()))
        return tuple(self._adapters)

    async def sleep(self) -> None:
        """Noted in `asleep`. Raises EngineFailed while something runs."""
        if self._running:
            raise EngineFailed(f"put to sleep while {len(self._running)} requests run")
        self.asleep = True

    async def wake(self) -> None:
        """Noted, too."""
        self.asleep = False

    def statistics(self) -> EngineStatistics:
        """Counts only; nothing is ever busy here."""
        return EngineStatistics(
            running=len(self._running),
            requests=self._requests,
            generated_tokens=self._generated,
            prompt_tokens=self._prompted,
            adapters=tuple(self._adapters),
        )

    async def aclose(self) -> None:
        """Answer everything that runs with EngineClosed."""
        self._closed = True
        for run in self._running.values():
            if not run.ended.done():
                run.ended.set_exception(EngineClosed("the engine was closed while the request ran"))

    def _admit(self, request: Generate) -> None:
        if self._closed:
            raise EngineClosed("the engine is closed")
        if request.request_id in self._running:
            raise BadRequest(f"request {request.request_id!r} is already running")
        if request.adapter is not None and request.adapter not in self._adapters:
            raise UnknownAdapter(f"adapter {request.adapter!r} is not loaded; loaded: {list(self._adapters)}")
        self._note(request)

    def _note(self, request: Generate) -> None:
        self.seen.append(request)

    async def _wait(self, ended: asyncio.Future[FinishReason]) -> FinishReason:
        """Until the time is over, or the request was aborted or closed."""
        if ended.done() or self._seconds > 0:
            await asyncio.wait([ended], timeout=self._seconds)
        else:
            await asyncio.sleep(0)  # let others run, as any engine does
        return ended.result() if ended.done() else "stop"

    def _complete(self, request: Generate, text: str, reason: FinishReason) -> Completion:
        token_ids = () if reason == "abort" else (*self._spell(text), self._eos_id)
        limit = request.sampling.max_tokens
        if len(token_ids) > limit:
            token_ids, reason = token_ids[:limit], "length"
        self._requests += 1
        self._generated += len(token_ids)
        self._prompted += len(request.prompt_ids)
        return Completion(
            request_id=request.request_id,
            token_ids=token_ids,
            logprobs=(0.0,) * len(token_ids),
            finish_reason=reason,
            adapter=request.adapter,
        )


class SimulatedEngine(ScriptedEngine):
    """Gives the same reply to everything, after the same time: for benchmarks of the loop itself."""

    def __init__(self, settings: SimulatedEngineSettings, chat: ChatFormat | None = None) -> None:
        super().__init__(lambda prompt, adapter: settings.reply, chat, settings.seconds_per_request)

    def _note(self, request: Generate) -> None:
        """A benchmark's requests are not kept."""

    def end_sessions(self, sessions: tuple[str, ...]) -> None:
        """There is nothing to drop."""


def _play(script: Sequence[str | EngineError]) -> Reply:
    lines = iter(script)

    def next_line(prompt_ids: tuple[int, ...], adapter: str | None) -> str:
        line = next(lines, None)
        if line is None:
            raise EngineError(f"the script has no reply left after {len(script)}")
        if isinstance(line, EngineError):
            raise line
        return line

    return next_line
