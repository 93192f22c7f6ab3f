"""Scheduler of continuous batching: the queue, the adapter runners, the parked sessions.

No thread and no waiting in here. Sequences join a runner between steps, first come first served, while
fewer than `max_batch` are active. A step feeds every runner that has active sequences once.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable
from typing import NamedTuple

from transformers import PreTrainedModel

from ....configs.models import TransformersEngineSettings
from ....messages.adapters import LoadAdapter
from ....messages.generation import EngineStatistics
from ....messages.turns import FinishReason
from ..base import AdapterRejected, UnknownAdapter
from ..lora import attach_lora, merge_lora, read_adapter
from .adapter_runner import AdapterRunner
from .base_model import LayerShape
from .kv_cache import KvCacheLayout
from .sequence import SequenceState, StoppingCriteria
from .session_cache import SessionKvCache

PREFILL_TOKENS = 4096
"""Prompt tokens that may join in one step, so that a wave of prompts does not stall who decodes."""


class FinishedSequence(NamedTuple):
    """A sequence that has left, and its finish reason."""

    sequence: SequenceState
    reason: FinishReason


class Scheduler:
    """One base model and its adapter runners."""

    def __init__(
        self,
        base: PreTrainedModel,
        layers: list[LayerShape],
        stopping_criteria: StoppingCriteria,
        settings: TransformersEngineSettings,
        base_name: str,
    ) -> None:
        self._base, self._base_name = base, base_name
        self._layout = KvCacheLayout(layers, base.dtype, base.device)
        self._settings = settings
        self._stopping_criteria = stopping_criteria
        self._runners: dict[str | None, AdapterRunner] = {
            None: AdapterRunner("", base, self._layout, settings.max_context)
        }
        self._sequences: dict[str, SequenceState] = {}
        """Queued and active, by request id."""
        self._watched: dict[str, SequenceState] = {}
        """Those of them whose tokens are streamed."""
        self._queue: deque[SequenceState] = deque()
        self._parked = SessionKvCache(settings.max_parked)
        self._active = 0
        self._done = EngineStatistics()
        self.busy_s = 0.0

    @property
    def has_work(self) -> bool:
        """A step would do something: sequences are queued or active."""
        return bool(self._sequences)

    @property
    def adapters(self) -> tuple[str, ...]:
        """Names that requests may use now."""
        return tuple(
            name for name, runner in self._runners.items() if name is not None and not runner.draining
        )

    def submit(self, sequence: SequenceState) -> None:
        """Queue a sequence. Raises UnknownAdapter."""
        name = sequence.request.adapter
        runner = self._runners.get(name)
        if runner is None or runner.draining:
            raise UnknownAdapter(f"adapter {name!r} is not loaded; loaded: {list(self.adapters)}")
        runner.refcount += 1
        self._sequences[sequence.request.request_id] = sequence
        if sequence.on_tokens is not None:
            self._watched[sequence.request.request_id] = sequence
        self._queue.append(sequence)

    def abort(self, request_ids: Iterable[str]) -> list[FinishedSequence]:
        """Remove these from the queue or the batch; unknown ids are ignored."""
        sequences = [sequence for sequence in map(self._sequences.get, request_ids) if sequence is not None]
        for sequence in sequences:
            if sequence.bucket is None:
                self._queue.remove(sequence)
            else:
                sequence.bucket.free(sequence)
                self._active -= 1
            self._leave(sequence)
        return [FinishedSequence(sequence, "abort") for sequence in sequences]

    def forget_all(self) -> list[SequenceState]:
        """Everything that is owed an answer, when no further step can be made."""
        sequences = list(self._sequences.values())
        self._sequences.clear()
        self._watched.clear()
        self._queue.clear()
        self._active = 0
        return sequences

    def end_sessions(self, sessions: Iterable[str]) -> None:
        """Free the parked caches of these sessions."""
        self._parked.end(sessions)

    def load(self, request: LoadAdapter) -> tuple[str, ...]:
        """Make a runner for the adapter; the same bytes again change nothing. Raises AdapterRejected."""
        name = request.adapter.name
        if name is None:
            return self.adapters  # version 0 is the base model
        lora = read_adapter(request, self._base, self._base_name)
        known = self._runners.get(name)
        if known is None:
            quantized = getattr(self._base, "is_quantized", False)
            model = attach_lora(self._base, lora) if quantized else merge_lora(self._base, lora)
            self._runners[name] = AdapterRunner(lora.sha256, model, self._layout, self._settings.max_context)
        elif known.draining or known.sha256 != lora.sha256:
            raise AdapterRejected(f"{name} is loaded with other weights, or going; use a new version")
        return self.adapters

    def unload(self, name: str) -> None:
        """Refuse new requests; the runner is dropped when its last one has ended (see `is_unloaded`)."""
        runner = self._runners.get(name)
        if runner is None or runner.draining:
            raise UnknownAdapter(f"adapter {name!r} is not loaded; loaded: {list(self.adapters)}")
        runner.draining = True
        self._drop_if_unused(name)

    def is_unloaded(self, name: str) -> bool:
        """An unloaded adapter's runner has been dropped."""
        return name not in self._runners

    def step(self) -> list[FinishedSequence]:
        """Admit queued sequences, and sample one token for every active one; returns those that finished."""
        runners = list(self._runners.values())
        for runner in runners:
            runner.begin_step()
        self._admit()
        finished: list[FinishedSequence] = []
        tokens = 0
        for runner in runners:
            if runner.active:
                for sequence, token in runner.step():
                    tokens += 1
                    reason = self._stopping_criteria.finish_reason(sequence, token)
                    if reason is not None:
                        finished.append(FinishedSequence(sequence, reason))
        for sequence, _ in finished:
            self._parked.park(sequence)
            self._active -= 1
            self._leave(sequence)
        self._count(steps=1, generated_tokens=tokens)
        return finished

    def pending_callbacks(self) -> list[Callable[[], None]]:
        """Callbacks for the tokens that have not been streamed yet, to be called on the event loop."""
        return [
            tell for sequence in self._watched.values() if (tell := sequence.pending_callback()) is not None
        ]

    def statistics(self) -> EngineStatistics:
        """Totals, and what is going on. May be called from another thread."""
        now = {"running": self._active, "waiting": len(self._sequences) - self._active}
        return self._done.model_copy(update=now | {"adapters": self.adapters, "busy_s": self.busy_s})

    def _admit(self) -> None:
        budget = PREFILL_TOKENS
        while self._queue and budget > 0 and self._active < self._settings.max_batch:
            sequence = self._queue.popleft()
            self._runners[sequence.request.adapter].join(sequence, self._parked.take(sequence))
            self._active += 1
            budget -= len(sequence.tokens) - sequence.reused
            self._count(requests=1, prompt_tokens=len(sequence.tokens), cached_tokens=sequence.reused)

    def _leave(self, sequence: SequenceState) -> None:
        name = sequence.request.adapter
        del self._sequences[sequence.request.request_id]
        self._watched.pop(sequence.request.request_id, None)
        self._runners[name].refcount -= 1
        self._drop_if_unused(name)

    def _drop_if_unused(self, name: str | None) -> None:
        runner = self._runners[name]
        if name is not None and runner.draining and runner.refcount == 0:
            self._parked.drop_adapter(name)
            self._runners.pop(name).release()

    def _count(self, **more: int) -> None:
        totals = {name: getattr(self._done, name) + value for name, value in more.items()}
        self._done = self._done.model_copy(update=totals)
