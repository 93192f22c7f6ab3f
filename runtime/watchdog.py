"""Event-loop lag, measured; and the stacks of a loop that has stalled, written down.

A task on the loop beats four times a second. A thread looks at the beats: the lag is how late they
come, and when none has come for `stall_s` seconds the thread writes the stacks of all threads to
the log, once for each stall. So a hang says where it hangs.
"""

import asyncio
import sys
import threading
import time
import traceback
from collections.abc import Callable

import structlog

log = structlog.get_logger("watchdog")

BEAT_S = 0.25


class EventLoopWatchdog:
    """Watches the event loop that `start` is called on."""

    def __init__(self, stall_s: float, report: Callable[[float, str], None] | None = None) -> None:
        self._stall_s = stall_s
        self._report = report or _log_stall
        self._last_beat = time.monotonic()
        self._worst_s = 0.0
        self._stop = threading.Event()
        self._beating: asyncio.Task[None] | None = None
        self._thread: threading.Thread | None = None
        self.stalls = 0

    def start(self) -> None:
        """Begin to watch the running loop."""
        self._last_beat = time.monotonic()
        self._beating = asyncio.create_task(self._beat(), name="loop-beat")
        loop_thread = threading.get_ident()
        self._thread = threading.Thread(
            target=self._watch, args=(loop_thread,), name="loop-watch", daemon=True
        )
        self._thread.start()

    async def aclose(self) -> None:
        """Stop watching."""
        self._stop.set()
        if self._beating is not None:
            self._beating.cancel()
            await asyncio.gather(self._beating, return_exceptions=True)
        if self._thread is not None:
            await asyncio.to_thread(self._thread.join, 5.0)

    def worst_lag_ms(self) -> float:
        """The worst lag since this was last asked, milliseconds."""
        worst, self._worst_s = self._worst_s, 0.0
        return round(worst * 1e3, 1)

    async def _beat(self) -> None:
        while True:
            await asyncio.sleep(BEAT_S)
            now = time.monotonic()
            self._worst_s = max(self._worst_s, now - self._last_beat - BEAT_S)
            self._last_beat = now

    def _watch(self, loop_thread: int) -> None:
        reported = 0.0
        while not self._stop.wait(min(BEAT_S, self._stall_s / 2)):
            last = self._last_beat
            silent_s = time.monotonic() - last
            if silent_s > self._stall_s and last != reported:
                reported = last
                self.stalls += 1
                self._report(silent_s, _stacks(first=loop_thread))


def _stacks(first: int) -> str:
    """The stacks of all threads, the event loop's first."""
    frames = sys._current_frames()
    names = {thread.ident: thread.name for thread in threading.enumerate()}
    order = sorted(frames, key=lambda ident: ident != first)
    return "\n".join(
        f"thread {names.get(ident, ident)}:\n{''.join(traceback.format_stack(frames[ident]))}"
        for ident in order
    )


def _log_stall(silent_s: float, stacks: str) -> None:
    log.error("event loop stalled", silent_s=round(silent_s, 1), stacks=stacks)
