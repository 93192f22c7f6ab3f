"""Who runs when: the queue, the lanes, the parked sessions. No thread and no waiting in here.

Rows join a lane between steps, first come first served, while fewer than `max_batch` are active.
A step feeds every lane that has active rows once.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable
from typing import NamedTuple

from transformers import PreTrainedModel

from ...configs.models import TransformersEngineSettings
from ...messages.adapters import LoadAdapter
from ...messages.generation import EngineStatistics
from ...messages.turns import FinishReason
from .adapters import layered, merged, read_adapter
from .attention import LayerShape
from .base import AdapterRejected, UnknownAdapter
from .lane import Lane
from .parking import ParkedSessions
from .row import Row
from .slots import Layout
from .stopping import StopRules

PREFILL_TOKENS = 4096
"""Prompt tokens that may join in one step, so that a wave of prompts does not stall who decodes."""


class Ended(NamedTuple):
    """A row that has left, and why."""

    row: Row
    reason: FinishReason


class Scheduler:
    """One base model and its lanes."""

    def __init__(
        self,
        base: PreTrainedModel,
        layers: list[LayerShape],
        stop_rules: StopRules,
        settings: TransformersEngineSettings,
        base_name: str,
    ) -> None:
        self._base, self._base_name = base, base_name
        self._layout = Layout(layers, base.dtype, base.device)
        self._settings = settings
        self._stop_rules = stop_rules
        self._lanes: dict[str | None, Lane] = {None: Lane("", base, self._layout, settings.max_context)}
        self._rows: dict[str, Row] = {}
        """Queued and active, by request id."""
        self._watched: dict[str, Row] = {}
        """Those of them whose tokens somebody hears of."""
        self._queue: deque[Row] = deque()
        self._parked = ParkedSessions(settings.max_parked)
        self._active = 0
        self._done = EngineStatistics()
        self.busy_s = 0.0

    @property
    def has_work(self) -> bool:
        """Whether a step would do anything."""
        return bool(self._rows)

    @property
    def adapters(self) -> tuple[str, ...]:
        """Names that requests may use now."""
        return tuple(name for name, lane in self._lanes.items() if name is not None and not lane.closing)

    def submit(self, row: Row) -> None:
        """Queue a row. Raises UnknownAdapter."""
        name = row.request.adapter
        lane = self._lanes.get(name)
        if lane is None or lane.closing:
            raise UnknownAdapter(f"adapter {name!r} is not loaded; loaded: {list(self.adapters)}")
        lane.users += 1
        self._rows[row.request.request_id] = row
        if row.on_tokens is not None:
            self._watched[row.request.request_id] = row
        self._queue.append(row)

    def abort(self, request_ids: Iterable[str]) -> list[Ended]:
        """Take these out of the queue or their slot; unknown ids are ignored."""
        rows = [row for row in map(self._rows.get, request_ids) if row is not None]
        for row in rows:
            if row.band is None:
                self._queue.remove(row)
            else:
                row.band.free(row)
                self._active -= 1
            self._leave(row)
        return [Ended(row, "abort") for row in rows]

    def forget_all(self) -> list[Row]:
        """Everything that is owed an answer, when no further step can be made."""
        rows = list(self._rows.values())
        self._rows.clear()
        self._watched.clear()
        self._queue.clear()
        self._active = 0
        return rows

    def end_sessions(self, sessions: Iterable[str]) -> None:
        """Free the parked rows of these sessions."""
        self._parked.end(sessions)

    def load(self, request: LoadAdapter) -> tuple[str, ...]:
        """Make a lane for the adapter; the same bytes again change nothing. Raises AdapterRejected."""
        name = request.adapter.name
        if name is None:
            return self.adapters  # version 0 is the base model
        lora = read_adapter(request, self._base, self._base_name)
        known = self._lanes.get(name)
        if known is None:
            quantized = getattr(self._base, "is_quantized", False)
            model = layered(self._base, lora) if quantized else merged(self._base, lora)
            self._lanes[name] = Lane(lora.sha256, model, self._layout, self._settings.max_context)
        elif known.closing or known.sha256 != lora.sha256:
            raise AdapterRejected(f"{name} is loaded with other weights, or going; use a new version")
        return self.adapters

    def unload(self, name: str) -> None:
        """Refuse new requests; the lane goes when its last one has ended (see `is_gone`)."""
        lane = self._lanes.get(name)
        if lane is None or lane.closing:
            raise UnknownAdapter(f"adapter {name!r} is not loaded; loaded: {list(self.adapters)}")
        lane.closing = True
        self._drop_if_unused(name)

    def is_gone(self, name: str) -> bool:
        """Whether an unloaded adapter's lane has been dropped."""
        return name not in self._lanes

    def step(self) -> list[Ended]:
        """Let queued rows join, and sample one token for every active row; returns who ended."""
        lanes = list(self._lanes.values())
        for lane in lanes:
            lane.begin_step()
        self._admit()
        ended: list[Ended] = []
        tokens = 0
        for lane in lanes:
            if lane.active:
                for row, token in lane.step():
                    tokens += 1
                    reason = self._stop_rules.finish_reason(row, token)
                    if reason is not None:
                        ended.append(Ended(row, reason))
        for row, _ in ended:
            self._parked.park(row)
            self._active -= 1
            self._leave(row)
        self._count(steps=1, generated_tokens=tokens)
        return ended

    def news(self) -> list[Callable[[], None]]:
        """What those who listen are to be told, each call once."""
        return [tell for row in self._watched.values() if (tell := row.news()) is not None]

    def statistics(self) -> EngineStatistics:
        """Totals, and what is going on. May be called from another thread."""
        now = {"running": self._active, "waiting": len(self._rows) - self._active}
        return self._done.model_copy(update=now | {"adapters": self.adapters, "busy_s": self.busy_s})

    def _admit(self) -> None:
        budget = PREFILL_TOKENS
        while self._queue and budget > 0 and self._active < self._settings.max_batch:
            row = self._queue.popleft()
            self._lanes[row.request.adapter].join(row, self._parked.take(row))
            self._active += 1
            budget -= len(row.tokens) - row.reused
            self._count(requests=1, prompt_tokens=len(row.tokens), cached_tokens=row.reused)

    def _leave(self, row: Row) -> None:
        name = row.request.adapter
        del self._rows[row.request.request_id]
        self._watched.pop(row.request.request_id, None)
        self._lanes[name].users -= 1
        self._drop_if_unused(name)

    def _drop_if_unused(self, name: str | None) -> None:
        lane = self._lanes[name]
        if name is not None and lane.closing and lane.users == 0:
            self._parked.drop_adapter(name)
            self._lanes.pop(name).give_back()

    def _count(self, **more: int) -> None:
        totals = {name: getattr(self._done, name) + value for name, value in more.items()}
        self._done = self._done.model_copy(update=totals)
