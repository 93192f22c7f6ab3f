"""Worker of the engine: one thread that owns the model and does all torch work.

Consumes commands from its inbox; produces callbacks, handed to `deliver` once per step; waits for a
command while nothing is queued or active; unblocked by any command.
Invariants: every command that is owed an answer gets exactly one; after a failure every command is
answered with that failure, until the worker is closed.
"""

from __future__ import annotations

import asyncio
import contextlib
import queue
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import TypeVar

import torch

from ....configs.errors import AgentFactoryError
from ....configs.models import ModelSettings, TransformersEngineSettings
from ....messages.adapters import LoadAdapter
from ....messages.generation import EngineStatistics
from ...errors import copy_error
from ..base import AdapterRejected, EngineClosed, EngineError, EngineFailed, RequestLimits
from ..chat.format import ChatFormat
from .base_model import load_base, probe
from .scheduler import Scheduler
from .sequence import SequenceState, StoppingCriteria

T = TypeVar("T")

Callback = Callable[[], None]
"""Settles one future, or streams tokens; to be called on the event loop."""


@dataclass(frozen=True, slots=True)
class SubmitSequence:
    """Run this sequence."""

    sequence: SequenceState


@dataclass(frozen=True, slots=True)
class AbortRequests:
    """Stop these requests."""

    request_ids: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class DropSessions:
    """Drop these sessions' caches."""

    sessions: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class LoadLora:
    """Load an adapter."""

    request: LoadAdapter
    answer: asyncio.Future[tuple[str, ...]]


@dataclass(frozen=True, slots=True)
class UnloadLora:
    """Unload an adapter."""

    name: str
    answer: asyncio.Future[tuple[str, ...]]


@dataclass(frozen=True, slots=True)
class CloseWorker:
    """Answer everything and end."""


Command = SubmitSequence | AbortRequests | DropSessions | LoadLora | UnloadLora | CloseWorker


class EngineWorker:
    """Owns the thread. All methods but `run` and those it calls belong to the event loop."""

    def __init__(
        self,
        model: ModelSettings,
        settings: TransformersEngineSettings,
        deliver: Callable[[list[Callback]], bool],
        started: asyncio.Future[RequestLimits],
    ) -> None:
        self._model = model
        self._settings = settings
        self._deliver = deliver
        self._started = started
        self._inbox: queue.SimpleQueue[Command] = queue.SimpleQueue()
        self._callbacks: list[Callback] = []
        self._unloads: list[UnloadLora] = []
        self._scheduler: Scheduler | None = None
        self._thread = threading.Thread(target=self._run, name="engine", daemon=True)
        self._thread.start()

    def put(self, command: Command) -> None:
        """Hand over a command; never blocks."""
        self._inbox.put(command)

    def statistics(self) -> EngineStatistics:
        """The scheduler's, or zeros before there is one."""
        return self._scheduler.statistics() if self._scheduler else EngineStatistics()

    def join(self, limit_s: float) -> bool:
        """Wait for the thread's end, at most `limit_s`; whether it has ended. Put `CloseWorker` first."""
        self._thread.join(limit_s)
        return not self._thread.is_alive()

    # Everything below runs on the worker's thread.

    def _run(self) -> None:
        with contextlib.suppress(_Closed):  # also where the event loop is gone: nobody waits any more
            self._work()

    def _work(self) -> None:
        try:
            with torch.inference_mode():
                self._scheduler = self._load()
                self._serve(self._scheduler)
        except _Closed:
            self._answer_all(EngineClosed("the engine was closed while this ran"))
        except BaseException as error:  # whatever it was, nobody may be left waiting
            failure = error if isinstance(error, AgentFactoryError) else _failed(error)
            while True:
                self._answer_all(failure)
                self._refuse(self._inbox.get(), failure)

    def _load(self) -> Scheduler:
        torch.set_num_threads(self._settings.threads)
        base = load_base(self._model)
        source = self._model.locate()
        chat = ChatFormat.load(source)
        config = base.config.get_text_config()
        longest = getattr(config, "max_position_embeddings", None) or self._settings.max_context
        limits = RequestLimits(min(self._settings.max_context, longest), config.vocab_size)
        settings = self._settings.model_copy(update={"max_context": limits.max_context})
        stopping_criteria = StoppingCriteria(chat.eos_ids, limits.max_context, chat.decode)
        scheduler = Scheduler(base, probe(base), stopping_criteria, settings, source)
        self._settle(self._started, limits)
        self._flush()
        return scheduler

    def _serve(self, scheduler: Scheduler) -> None:
        while True:
            self._take_commands(scheduler)
            if scheduler.has_work:
                began = time.perf_counter()
                for sequence, reason in scheduler.step():
                    self._settle(sequence.answer, sequence.completion(reason))
                self._callbacks += scheduler.pending_callbacks()
                scheduler.busy_s += time.perf_counter() - began
            self._answer_unloads(scheduler)
            self._flush()

    def _take_commands(self, scheduler: Scheduler) -> None:
        """Handle all queued commands; wait for one if there is nothing to compute."""
        if not scheduler.has_work:
            self._handle(self._inbox.get(), scheduler)
        while not self._inbox.empty():
            self._handle(self._inbox.get(), scheduler)

    def _handle(self, command: Command, scheduler: Scheduler) -> None:
        match command:
            case SubmitSequence(sequence):
                try:
                    scheduler.submit(sequence)
                except EngineError as error:
                    self._fail(sequence.answer, error)
            case AbortRequests(request_ids):
                for sequence, reason in scheduler.abort(request_ids):
                    self._settle(sequence.answer, sequence.completion(reason))
            case DropSessions(sessions):
                scheduler.end_sessions(sessions)
            case LoadLora(request, answer):
                self._load_adapter(request, answer, scheduler)
            case UnloadLora(name, answer):
                try:
                    scheduler.unload(name)
                    self._unloads.append(command)
                except EngineError as error:
                    self._fail(answer, error)
            case CloseWorker():
                raise _Closed

    def _load_adapter(
        self, request: LoadAdapter, answer: asyncio.Future[tuple[str, ...]], scheduler: Scheduler
    ) -> None:
        """A failure, be it out of memory, concerns this adapter alone: what was loaded stays in use."""
        try:
            self._settle(answer, scheduler.load(request))
        except EngineError as error:
            self._fail(answer, error)
        except Exception as error:
            rejected = AdapterRejected(f"{request.adapter.name} could not be loaded: {_describe(error)}")
            rejected.__cause__ = error
            self._fail(answer, rejected)

    def _answer_unloads(self, scheduler: Scheduler) -> None:
        for unload in [unload for unload in self._unloads if scheduler.is_unloaded(unload.name)]:
            self._unloads.remove(unload)
            self._settle(unload.answer, scheduler.adapters)

    def _settle(self, answer: asyncio.Future[T], value: T) -> None:
        self._callbacks.append(partial(_set_result, answer, value))

    def _fail(self, answer: asyncio.Future[T], error: BaseException) -> None:
        self._callbacks.append(partial(_set_exception, answer, error))

    def _flush(self) -> None:
        callbacks, self._callbacks = self._callbacks, []
        if callbacks and not self._deliver(callbacks):
            raise _Closed

    def _answer_all(self, error: AgentFactoryError) -> None:
        """Fail everything that is owed an answer: what is in the scheduler, and what is in the inbox."""
        for sequence in self._scheduler.forget_all() if self._scheduler else ():
            self._fail(sequence.answer, copy_error(error))
        for unload in self._unloads:
            self._fail(unload.answer, copy_error(error))
        self._unloads.clear()
        self._fail(self._started, copy_error(error))
        while not self._inbox.empty():
            self._refuse(self._inbox.get(), error)
        self._flush()

    def _refuse(self, command: Command, error: AgentFactoryError) -> None:
        match command:
            case SubmitSequence(sequence):
                self._fail(sequence.answer, copy_error(error))
            case LoadLora(_, answer) | UnloadLora(_, answer):
                self._fail(answer, copy_error(error))
            case CloseWorker():
                raise _Closed


class _Closed(Exception):
    """`CloseWorker` was taken from the inbox."""


def _set_result(answer: asyncio.Future[T], value: T) -> None:
    if not answer.done():  # the caller may have gone
        answer.set_result(value)


def _set_exception(answer: asyncio.Future[T], error: BaseException) -> None:
    if not answer.done():
        answer.set_exception(error)


def _failed(cause: BaseException) -> EngineFailed:
    failure = EngineFailed(f"the engine's worker failed: {_describe(cause)}; start a new engine")
    failure.__cause__ = cause
    return failure


def _describe(error: BaseException) -> str:
    return f"{type(error).__name__}: {error}"
