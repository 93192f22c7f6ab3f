import asyncio
import threading
import time

from agentfactory.runtime.watchdog import EventLoopWatchdog


def hold_the_loop(reported: threading.Event) -> None:
    """Blocks the loop until the watchdog has written its report."""
    assert reported.wait(120)
    time.sleep(0.2)  # long enough for a second report of the same stall


async def test_a_stalled_loop_has_its_stacks_written() -> None:
    reports: list[tuple[float, str]] = []
    reported = threading.Event()

    def report(silent_s: float, stacks: str) -> None:
        reports.append((silent_s, stacks))
        reported.set()

    watch = EventLoopWatchdog(stall_s=0.05, report=report)
    watch.start()
    hold_the_loop(reported)
    await watch.aclose()
    silent_s, stacks = reports[0]
    assert silent_s > 0.05
    assert "hold_the_loop" in stacks.split("thread ")[1], "the loop's stack comes first"
    assert watch.stalls == 1, "one stall is reported once"


async def test_lag_is_measured_and_forgotten_once_it_has_been_read() -> None:
    watch = EventLoopWatchdog(stall_s=60)
    watch.start()
    await asyncio.sleep(0)  # the beat is asleep now
    time.sleep(0.4)  # noqa: ASYNC251 - the lag that is to be measured
    await asyncio.sleep(0.01)  # and has been late now
    assert watch.worst_lag_ms() > 100
    assert watch.worst_lag_ms() == 0
    await watch.aclose()


async def test_a_watch_ends_with_its_thread() -> None:
    watch = EventLoopWatchdog(stall_s=60)
    watch.start()
    await watch.aclose()
    assert "loop-watch" not in {thread.name for thread in threading.enumerate()}
