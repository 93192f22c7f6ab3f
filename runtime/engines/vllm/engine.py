"""vLLM's AsyncLLM behind the engine's interface.

vLLM runs the model in processes of its own and does the batching. Here requests are checked and counted,
and adapters get a new number and folder for each load: vLLM caches them, and the prefixes computed with
them, by number, so what was loaded before can never be served under a newer name.

Invariants:
  - an adapter is dropped when its last request has ended, and takes no new one after that was asked for;
  - a request is answered with what was sampled under the adapter that it names, or with an error;
  - log-probabilities are those of the distribution that the token was drawn from.
"""

from __future__ import annotations

import asyncio
import gc
import itertools
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import structlog

from ....configs.models import ModelSettings, VllmEngineSettings
from ....messages.adapters import LoadAdapter
from ....messages.generation import Completion, EngineStatistics, Generate
from ....messages.turns import FinishReason
from ..base import (
    AdapterRejected,
    BadRequest,
    EngineClosed,
    EngineError,
    EngineFailed,
    OnTokens,
    RequestLimits,
    UnknownAdapter,
    check_request,
)
from .process import has_died, shut_down, start_llm

if TYPE_CHECKING:
    from vllm import SamplingParams
    from vllm.lora.request import LoRARequest
    from vllm.outputs import RequestOutput
    from vllm.v1.engine.async_llm import AsyncLLM

log = structlog.get_logger("engine")

SHUTDOWN_S = 10.0
WATCH_S = 1.0
"""Between two looks at whether vLLM is alive; one that runs at the second look at a dead one is ended."""
_SEED_MASK = (1 << 63) - 1
"""A larger seed does not reach vLLM's process; a negative one means none there."""
_REASONS: dict[str | None, FinishReason] = {"stop": "stop", "length": "length", "abort": "abort"}


@dataclass(eq=False)
class _Adapter:
    """One loaded adapter, and how many requests run on it."""

    request: LoRARequest
    sha256: str
    running: int = 0
    leaving: bool = False
    idle: asyncio.Event = field(default_factory=asyncio.Event)

    def __post_init__(self) -> None:
        self.idle.set()


class VllmEngine:
    """See `runtime.engines.base.Engine`."""

    def __init__(self, model: ModelSettings, settings: VllmEngineSettings) -> None:
        self._model = model
        self._settings = settings
        self._llm: AsyncLLM | None = None
        self._folder: Path | None = None
        self._numbers = itertools.count(1)
        self._adapters: dict[str, _Adapter] = {}
        self._running: dict[str, asyncio.Timeout] = {}
        """Requests, and what ends each of them when the engine is closed or has died."""
        self._nothing_runs = asyncio.Event()
        self._watching: asyncio.Task[None] | None = None
        self._loading = asyncio.Lock()
        self._done = EngineStatistics()
        self._busy_since = 0.0
        self._limits = RequestLimits(settings.max_context, 0)
        self._closed = False

    async def start(self) -> None:
        """Start vLLM and load the model. Raises EngineFailed, SettingsError."""
        if self._closed or self._llm is not None:
            raise EngineClosed("an engine starts once; make a new one")
        try:
            async with asyncio.timeout(self._settings.start_timeout_s):
                llm = await start_llm(self._model, self._settings)
        except TimeoutError:
            limit_s = self._settings.start_timeout_s
            raise EngineFailed(f"vLLM did not start within {limit_s:g} s (engine.start_timeout_s)") from None
        config = llm.model_config
        self._limits = RequestLimits(config.max_model_len, config.get_vocab_size(), constrains_output=True)
        self._folder = Path(tempfile.mkdtemp(prefix="agentfactory-adapters-"))
        self._llm = llm
        self._watching = asyncio.create_task(self._watch(llm), name="vllm-watch")

    async def generate(self, request: Generate, on_tokens: OnTokens | None = None) -> Completion:
        """Continue a prompt; `on_tokens` hears of each output. Cancelling the call aborts the request."""
        llm = self._live()
        check_request(request, self._running, self._limits)
        with self._using(request.adapter) as lora:
            try:
                async with asyncio.timeout(None) as until_ended:
                    with self._counted(request, until_ended):
                        output = await self._output(llm, request, lora, on_tokens)
            except TimeoutError:
                if self._closed:
                    raise EngineClosed("the engine was closed while this ran") from None
                raise EngineFailed("vLLM's engine has died, and did not say so to this request") from None
        completion = _completion(request, output)
        done = self._done
        self._done = done.model_copy(
            update={
                "requests": done.requests + 1,
                "generated_tokens": done.generated_tokens + len(completion.token_ids),
                "prompt_tokens": done.prompt_tokens + len(request.prompt_ids),
                "cached_tokens": done.cached_tokens + completion.cached_tokens,
            }
        )
        return completion

    def abort(self, request_ids: tuple[str, ...]) -> None:
        """Stop these requests; their callers get what was sampled so far."""
        running = [number for number in request_ids if number in self._running]
        if self._llm is not None and running and not self._closed:
            task = asyncio.ensure_future(self._llm.abort(running))
            task.add_done_callback(_note_failure)

    def end_sessions(self, sessions: tuple[str, ...]) -> None:
        """vLLM keeps prefixes by their content, and drops the oldest where room is needed."""

    async def load_adapter(self, request: LoadAdapter) -> tuple[str, ...]:
        """Check and load an adapter under a number of its own. Raises AdapterRejected."""
        llm = self._live()
        name = request.adapter.name
        if name is None:
            raise AdapterRejected("version 0 is the base model: there is nothing to load")
        async with self._loading:
            known = self._adapters.get(name)
            lora = await asyncio.to_thread(self._write, request)
            if known is not None and known.sha256 == lora.sha256 and not known.leaving:
                return tuple(self._adapters)
            try:
                if not await llm.add_lora(lora.request):
                    raise AdapterRejected(f"{name}: vLLM does not take it")
            except EngineError:
                raise
            except Exception as error:  # vLLM has no type for it: whatever is wrong with these files
                raise self._failure(
                    error, AdapterRejected(f"{name}: vLLM cannot load it: {error}")
                ) from error
            if known is not None:
                await self._drop(name, known)
            self._adapters[name] = lora
        return tuple(self._adapters)

    async def unload_adapter(self, name: str) -> tuple[str, ...]:
        """Take no more requests for it, wait for its last one, drop it. Raises UnknownAdapter."""
        self._live()
        adapter = self._adapters.get(name)
        if adapter is None:
            raise UnknownAdapter(f"{name!r} is not loaded; loaded: {', '.join(self._adapters) or 'none'}")
        await self._drop(name, adapter)
        return tuple(self._adapters)

    async def sleep(self) -> None:
        """Move the weights to the processor's memory and drop the caches, where `engine.sleep` is set."""
        if self._settings.sleep:
            await self._live().sleep(level=1)

    async def wake(self) -> None:
        """Bring them back."""
        if self._settings.sleep and await self._live().is_sleeping():
            await self._live().wake_up()

    def statistics(self) -> EngineStatistics:
        """Since the start."""
        return self._done.model_copy(
            update={"running": len(self._running), "adapters": tuple(self._adapters), "busy_s": self._busy()}
        )

    async def aclose(self) -> None:
        """Answer all that run with EngineClosed, and end vLLM's processes."""
        if self._closed:
            return
        self._closed = True
        llm, self._llm = self._llm, None
        if self._watching is not None:
            self._watching.cancel()
            await asyncio.wait((self._watching,))
        if llm is not None:
            self._end_running()
            if self._running:
                self._nothing_runs.clear()
                with suppress(TimeoutError):
                    await asyncio.wait_for(self._nothing_runs.wait(), SHUTDOWN_S)
            if llm.output_handler is not None:  # else it takes the end of vLLM's process for a fault
                llm.output_handler.cancel()
                await asyncio.wait((llm.output_handler,), timeout=SHUTDOWN_S)
            await shut_down(llm, SHUTDOWN_S)
            del llm
            await asyncio.to_thread(gc.collect)  # it would complain if it were found at the interpreter's end
            if self._folder is not None:
                await asyncio.to_thread(shutil.rmtree, self._folder, True)

    async def _watch(self, llm: AsyncLLM) -> None:
        """End the requests that outlive vLLM's process."""
        known = False
        while True:
            await asyncio.sleep(WATCH_S)
            if known:
                self._end_running()
            known = has_died(llm)

    def _end_running(self) -> None:
        """Wake those who wait for vLLM."""
        for until_ended in self._running.values():
            if not until_ended.expired():
                until_ended.reschedule(0)

    async def _output(
        self, llm: AsyncLLM, request: Generate, lora: LoRARequest | None, on_tokens: OnTokens | None
    ) -> RequestOutput:
        from vllm.exceptions import VLLMClientError
        from vllm.inputs.engine import tokens_input

        prompt = tokens_input(list(request.prompt_ids))
        params = _sampling(request, self._limits.max_context, live=on_tokens is not None)
        last: RequestOutput | None = None
        told = 0
        try:
            async for output in llm.generate(prompt, params, request.request_id, lora_request=lora):
                last = output
                if on_tokens is not None:
                    on_tokens(*_sampled(output, told))
                    told = len(output.outputs[0].token_ids)
        except (VLLMClientError, ValueError) as error:
            raise BadRequest(f"request {request.request_id!r}: {error}") from error
        except Exception as error:  # an engine that died, or a bug in it
            raise self._failure(error, EngineFailed(f"vLLM failed: {error}")) from error
        if self._closed:
            raise EngineClosed("the engine was closed while this ran")
        if last is None:
            raise EngineFailed(f"vLLM gave no answer to request {request.request_id!r}")
        return last

    def _failure(self, error: Exception, otherwise: EngineError) -> EngineError:
        """The error for a failure of vLLM: the end of it, or of this request only."""
        if self._closed:
            return EngineClosed("the engine was closed while this ran")
        if self._llm is not None and self._llm.errored:
            return EngineFailed(f"vLLM's engine has died: {error}")
        return otherwise

    async def _drop(self, name: str, adapter: _Adapter) -> None:
        adapter.leaving = True
        await adapter.idle.wait()
        if self._adapters.get(name) is adapter:
            del self._adapters[name]
            await self._live().remove_lora(adapter.request.lora_int_id)
            await asyncio.to_thread(shutil.rmtree, adapter.request.lora_path, True)

    @contextmanager
    def _using(self, name: str | None) -> Iterator[LoRARequest | None]:
        """Keep an adapter from being dropped. Raises UnknownAdapter."""
        if name is None:
            yield None
            return
        adapter = self._adapters.get(name)
        if adapter is None or adapter.leaving:
            raise UnknownAdapter(f"{name!r} is not loaded; loaded: {', '.join(self._adapters) or 'none'}")
        adapter.running += 1
        adapter.idle.clear()
        try:
            yield adapter.request
        finally:
            adapter.running -= 1
            if not adapter.running:
                adapter.idle.set()

    @contextmanager
    def _counted(self, request: Generate, until_ended: asyncio.Timeout) -> Iterator[None]:
        if not self._running:
            self._busy_since = time.monotonic()
        self._running[request.request_id] = until_ended
        try:
            yield
        finally:
            busy_s = self._busy()
            del self._running[request.request_id]
            if not self._running:
                self._nothing_runs.set()
                self._done = self._done.model_copy(update={"busy_s": busy_s})

    def _busy(self) -> float:
        """Seconds in which requests ran."""
        return self._done.busy_s + (time.monotonic() - self._busy_since if self._running else 0.0)

    def _live(self) -> AsyncLLM:
        if self._closed:
            raise EngineClosed("the engine is closed")
        if self._llm is None:
            raise EngineClosed("the engine was not started")
        return self._llm

    def _write(self, request: LoadAdapter) -> _Adapter:
        """The adapter's files in a folder of its own, checked. Blocks."""
        from vllm.lora.request import LoRARequest

        from ..lora import read_files

        lora, config = read_files(request, self._model.locate())
        name = str(request.adapter.name)
        rank = max((config.rank(module) for module in lora.pairs), default=config.r)
        if rank > self._settings.max_lora_rank:
            limit = self._settings.max_lora_rank
            raise AdapterRejected(f"{name}: its rank is {rank}, engine.max_lora_rank is {limit}")
        assert self._folder is not None  # made by `start`
        number = next(self._numbers)
        folder = self._folder / f"{name}-{number}"
        folder.mkdir()
        (folder / "adapter_config.json").write_bytes(request.config_json)
        (folder / "adapter_model.safetensors").write_bytes(request.weights)
        return _Adapter(LoRARequest(f"{name}-{number}", number, str(folder)), lora.sha256)


def _sampling(request: Generate, max_context: int, *, live: bool) -> SamplingParams:
    from vllm import SamplingParams
    from vllm.sampling_params import RequestOutputKind, StructuredOutputsParams

    asked = request.sampling
    schema = asked.output_schema
    return SamplingParams(
        temperature=asked.temperature,
        top_p=asked.top_p,
        top_k=asked.top_k,
        max_tokens=min(asked.max_tokens, max_context - len(request.prompt_ids)),
        stop=list(asked.stop),
        seed=None if asked.seed is None else asked.seed & _SEED_MASK,
        structured_outputs=None if schema is None else StructuredOutputsParams(json=schema),
        logprobs=0,
        output_kind=RequestOutputKind.CUMULATIVE if live else RequestOutputKind.FINAL_ONLY,
    )


def _completion(request: Generate, output: RequestOutput) -> Completion:
    token_ids, logprobs = _sampled(output)
    return Completion(
        request_id=request.request_id,
        token_ids=token_ids,
        logprobs=logprobs,
        finish_reason=_REASONS.get(output.outputs[0].finish_reason, "stop"),
        adapter=request.adapter,
        cached_tokens=output.num_cached_tokens or 0,
    )


def _sampled(output: RequestOutput, known: int = 0) -> tuple[tuple[int, ...], tuple[float, ...]]:
    """The tokens after the first `known`, and their log-probabilities."""
    (sampled,) = output.outputs
    token_ids, logprobs = tuple(sampled.token_ids[known:]), (sampled.logprobs or [])[known:]
    return token_ids, tuple(
        chances[token].logprob for token, chances in zip(token_ids, logprobs, strict=True)
    )


def _note_failure(task: asyncio.Future[None]) -> None:
    if not task.cancelled() and task.exception() is not None:
        log.warning("requests could not be aborted", reason=str(task.exception()))
