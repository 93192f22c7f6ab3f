"""A GGUF file in this process, by llama-cpp-python.

The library computes in a thread of its own and serves one request at a time; a request that is given
up ends at its next token, and the next one waits for that.
"""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import structlog
from pydantic import ValidationError

from ....configs.chat_models import LlamaCppModelSettings
from ....configs.errors import SettingsError
from ....messages.chat import Capabilities, ChatRequest, JsonObject
from ..errors import BrokenReply, ContextTooLong, ModelClosed, ModelError, RequestRefused
from ..openai_schema import ChatCompletionChunk, read_chunk, write_messages, write_tools
from .base import BackendStream, ChatBackend, ClientBackend, StreamAccumulator

if TYPE_CHECKING:
    from llama_cpp import Llama

CAPABILITIES = Capabilities(
    streaming=True,
    tools=True,
    json_schema=True,
    temperature=True,
    top_p=True,
    top_k=True,
    seed=True,
    stop=True,
)
_END = object()
log: structlog.typing.FilteringBoundLogger = structlog.get_logger()

CLOSE_S = 30.0
"""The longest that closing waits for the token that is being computed."""


class LlamaCppBackend(ClientBackend):
    """One model file."""

    package, extra = "llama_cpp", "llama-cpp"
    capabilities = CAPABILITIES

    def __init__(self, settings: LlamaCppModelSettings) -> None:
        super().__init__()
        self._file = Path(settings.file).expanduser()
        self.name = self._file.name
        self._settings = settings
        self._model: Llama | None = None
        self._free = asyncio.Lock()
        if not self._file.is_file():
            raise SettingsError(f"there is no model file {settings.file!r}; expected a GGUF file")

    def _connect(self) -> None:
        """Load the file. Raises SettingsError where it is none."""
        from llama_cpp import Llama

        settings = self._settings
        try:
            self._model = Llama(
                model_path=str(self._file),
                n_ctx=settings.context_tokens,
                n_gpu_layers=settings.gpu_layers,
                n_threads=settings.threads,
                chat_format=settings.chat_format,
                verbose=False,
            )
        except (ValueError, RuntimeError, OSError) as error:
            raise SettingsError(f"{self._file}: llama.cpp cannot load this file: {error}") from error

    async def stream(self, request: ChatRequest, *, live: bool) -> BackendStream:
        """See `Backend.stream`."""
        accumulator = StreamAccumulator()
        await self._free.acquire()
        if self._model is None:
            self._free.release()
            raise ModelClosed(f"{self.name} is not loaded")
        # Whoever gives up goes at once; the model is free again when the library has let go of it.
        thread = _Thread(self._model.create_chat_completion, _body(request), self._free.release)
        try:
            while (chunk := await thread.next()) is not None:
                text = read_chunk(accumulator, ChatCompletionChunk.model_validate(chunk))
                if text:
                    yield text
        finally:
            thread.stop()
        yield accumulator.reply()

    def translate(self, error: Exception) -> ModelError | None:
        """See `Backend.translate`."""
        if isinstance(error, json.JSONDecodeError | ValidationError):
            return BrokenReply(f"{self.name}: not a reply that can be read: {error}")
        if isinstance(error, ValueError):
            kind = ContextTooLong if "context window" in str(error) else RequestRefused
            return kind(f"{self.name}: {error}")
        if isinstance(error, RuntimeError):
            return BrokenReply(f"{self.name}: llama.cpp failed: {error}")
        return None

    async def aclose(self) -> None:
        """Free the model once nothing runs on it; one that the library does not let go of is left."""
        model, self._model = self._model, None
        try:
            async with asyncio.timeout(CLOSE_S):
                await self._free.acquire()
        except TimeoutError:
            log.error("llama.cpp does not let go of the model", file=str(self._file), after_s=CLOSE_S)
            return
        try:
            if model is not None:
                await asyncio.to_thread(model.close)
        finally:
            self._free.release()


class _Thread:
    """Runs a blocking iterator beside the event loop."""

    def __init__(
        self, make: Callable[..., Iterator[object]], arguments: JsonObject, ended: Callable[[], None]
    ) -> None:
        """`ended` is called on the event loop when the iterator has been left."""
        self._make = make
        self._arguments = arguments
        self._items: asyncio.Queue[object] = asyncio.Queue()
        self._loop = asyncio.get_running_loop()
        self._stopped = threading.Event()
        self._ended = ended
        threading.Thread(target=self._run, name="llama_cpp", daemon=True).start()

    async def next(self) -> object | None:
        """The next item, None at the end; raises what the iterator raised."""
        item = await self._items.get()
        if isinstance(item, Exception):
            raise item
        return None if item is _END else item

    def stop(self) -> None:
        """Ask it to stop at its next item."""
        self._stopped.set()

    def _run(self) -> None:
        try:
            for item in self._make(**self._arguments):
                if self._stopped.is_set():
                    break
                self._hand(item)
            self._hand(_END)
        except Exception as error:
            self._hand(error)
        finally:
            self._tell(self._ended)

    def _hand(self, item: object) -> None:
        self._tell(partial(self._items.put_nowait, item))

    def _tell(self, call: Callable[[], None]) -> None:
        with suppress(RuntimeError):  # the loop is closed: nobody waits any more
            self._loop.call_soon_threadsafe(call)


def _body(request: ChatRequest) -> JsonObject:
    sampling = request.sampling
    body: JsonObject = {
        "messages": write_messages(request.messages),
        "stream": True,
        "temperature": sampling.temperature,
        "top_p": sampling.top_p,
        "top_k": sampling.top_k,
        "min_p": 0.0,
        "repeat_penalty": 1.0,
        "max_tokens": sampling.max_tokens,
        "stop": list(sampling.stop),
        "seed": sampling.seed,
    }
    if request.tools:
        body["tools"] = write_tools(request.tools)
    if request.output_schema is not None:
        body["response_format"] = {"type": "json_object", "schema": request.output_schema}
    return body


BACKEND = ChatBackend(LlamaCppModelSettings, LlamaCppBackend, lambda settings: CAPABILITIES)
