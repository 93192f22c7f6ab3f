"""Continuous batching on transformers: the engine of small machines.

This file is the event loop's side: it checks requests, hands them to the worker's thread, and
settles their futures when the worker reports, once per step. `worker` runs the thread, `scheduler`
decides who runs, `lane` holds one adapter version, `slots` the key-value cache, `step` and
`attention` the forward pass.

    engine = TransformersEngine(ModelSettings(), TransformersEngineSettings())
    await engine.start()
    completion = await engine.generate(Generate(request_id="1", prompt_ids=…, sampling=…))
"""

from __future__ import annotations

import asyncio
from collections import deque

import structlog

from ...configs.models import ModelSettings, TransformersEngineSettings
from ...messages.adapters import LoadAdapter
from ...messages.generation import Completion, EngineStatistics, Generate
from .base import EngineClosed, OnTokens
from .requests import Limits, check_request
from .row import Row
from .worker import Abort, Close, EndSessions, Load, Outcome, Submit, Unload, Worker

log = structlog.get_logger("engine")

CLOSE_S = 30.0
"""How long the worker may take for the step it is at, and for its last answers."""


class TransformersEngine:
    """See `runtime.engines.base.Engine`."""

    def __init__(self, model: ModelSettings, settings: TransformersEngineSettings) -> None:
        self._model = model
        self._settings = settings
        self._worker: Worker | None = None
        self._limits: Limits | None = None
        self._rows: dict[str, Row] = {}
        """Not yet answered, by request id."""
        self._overflow: deque[Row] = deque()
        """Those of them for which the worker's queue has no room."""
        self._closed = False

    async def start(self) -> None:
        """Load the model in the worker's thread. Raises EngineFailed, or SettingsError for a bad model."""
        if self._closed or self._worker is not None:
            raise EngineClosed("an engine starts once; make a new one")
        loop = asyncio.get_running_loop()
        started: asyncio.Future[Limits] = loop.create_future()

        def deliver(outcomes: list[Outcome]) -> bool:
            try:
                loop.call_soon_threadsafe(_settle_all, outcomes)
            except RuntimeError:  # the loop is closed
                return False
            return True

        self._worker = Worker(self._model, self._settings, deliver, started)
        self._limits = await started

    async def generate(self, request: Generate, on_tokens: OnTokens | None = None) -> Completion:
        """Continue a prompt; `on_tokens` hears once per step. Cancelling the call aborts the request."""
        worker, limits = self._running()
        check_request(request, self._rows, limits)
        row = Row.of(request, asyncio.get_running_loop().create_future(), on_tokens)
        self._rows[request.request_id] = row
        self._submit(row, worker)
        try:
            return await row.answer
        except asyncio.CancelledError:
            self.abort((request.request_id,))
            raise
        finally:
            del self._rows[request.request_id]
            self._submit_overflow(worker)

    def abort(self, request_ids: tuple[str, ...]) -> None:
        """Free these requests' rows at the next step; their callers get what was sampled so far."""
        for row in [row for row in self._overflow if row.request.request_id in request_ids]:
            self._overflow.remove(row)
            if not row.answer.done():
                row.answer.set_result(row.completion("abort"))
        if self._worker is not None and not self._closed:
            self._worker.put(Abort(request_ids))

    def end_sessions(self, sessions: tuple[str, ...]) -> None:
        """Free the rows kept for these sessions."""
        if self._worker is not None and not self._closed:
            self._worker.put(EndSessions(sessions))

    async def load_adapter(self, request: LoadAdapter) -> tuple[str, ...]:
        """Check and load an adapter between two steps. Raises AdapterRejected."""
        worker, _ = self._running()
        answer: asyncio.Future[tuple[str, ...]] = asyncio.get_running_loop().create_future()
        worker.put(Load(request, answer))
        return await answer

    async def unload_adapter(self, name: str) -> tuple[str, ...]:
        """Wait for the adapter's last request, then drop it. Raises UnknownAdapter."""
        worker, _ = self._running()
        answer: asyncio.Future[tuple[str, ...]] = asyncio.get_running_loop().create_future()
        worker.put(Unload(name, answer))
        return await answer

    async def sleep(self) -> None:
        """It keeps its memory."""

    async def wake(self) -> None:
        """It had kept its memory."""

    def statistics(self) -> EngineStatistics:
        """Since the start; `waiting` counts the callers that wait for room in the queue, too."""
        if self._worker is None:
            return EngineStatistics()
        known = self._worker.statistics()
        return known.model_copy(update={"waiting": known.waiting + len(self._overflow)})

    async def aclose(self) -> None:
        """Answer all that wait with EngineClosed and end the worker's thread."""
        if self._closed:
            return
        self._closed = True
        while self._overflow:
            row = self._overflow.popleft()
            if not row.answer.done():
                row.answer.set_exception(EngineClosed("the engine was closed while this waited"))
        if self._worker is not None:
            self._worker.put(Close())
            if not await asyncio.to_thread(self._worker.join, CLOSE_S):
                log.error("the engine's thread does not end; it is left to itself", after_s=CLOSE_S)
                self._fail_rest()

    def _fail_rest(self) -> None:
        """The worker will answer nobody any more."""
        for row in self._rows.values():
            if not row.answer.done():
                row.answer.set_exception(EngineClosed("the engine was closed while this ran"))

    def _running(self) -> tuple[Worker, Limits]:
        if self._closed:
            raise EngineClosed("the engine is closed")
        if self._worker is None or self._limits is None:
            raise EngineClosed("the engine was not started")
        return self._worker, self._limits

    def _submit(self, row: Row, worker: Worker) -> None:
        self._overflow.append(row)
        self._submit_overflow(worker)

    def _submit_overflow(self, worker: Worker) -> None:
        """Hand over as many as the worker has room for."""
        room = self._settings.max_batch + self._settings.max_waiting
        while self._overflow and len(self._rows) - len(self._overflow) < room and not self._closed:
            worker.put(Submit(self._overflow.popleft()))


def _settle_all(outcomes: list[Outcome]) -> None:
    for settle in outcomes:
        settle()
