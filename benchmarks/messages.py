"""What a message costs: ours against raw Ray actor calls, and against autogen-core in one process.

Each pair is measured in turn, several times, on the same machine with the same 0.6 KB message; a
figure is the median of the ratios. Raw Ray is what a careful user would write: an async actor, one
call a message, many calls under way.
"""

import asyncio
import logging
import sys
import time
from collections.abc import Awaitable, Callable

import ray
import structlog

from agentfactory.runtime.on_ray.session import ray_session
from agentfactory.runtime.ref import ActorRef
from agentfactory.runtime.system import ActorSystem
from benchmarks._counting import Asked, CountAll, Counted, Counter, RawCounter, Told
from benchmarks.figures import Figures, median

ROUNDS = 7
ASKERS = 64
UNDER_WAY = 256
"""Raw calls under way at a time when nobody waits for the single answer: more gains nothing."""
TEXT = "x" * 560

Measure = Callable[[int], Awaitable[None]]


async def rate(measure: Measure, count: int) -> float:
    """Messages a second."""
    begin = time.perf_counter()
    await measure(count)
    return count / (time.perf_counter() - begin)


async def compare(
    name: str, ours: Measure, theirs: Measure, counts: tuple[int, int]
) -> tuple[float, float, float]:
    """Median rates of both sides, and the median ratio, over interleaved rounds."""
    await ours(counts[0] // 10)
    await theirs(counts[1] // 10)
    pairs = [(await rate(ours, counts[0]), await rate(theirs, counts[1])) for _ in range(ROUNDS)]
    print(f"# {name}: " + " ".join(f"{a:.0f}/{b:.0f}" for a, b in pairs), flush=True)
    return median(a for a, _ in pairs), median(b for _, b in pairs), median(a / b for a, b in pairs)


async def from_askers(count: int, ask: Callable[[int], Awaitable[object]]) -> None:
    """`count` asks from 64 askers, each of which waits for its answer before it asks again."""

    async def asker(first: int) -> None:
        for number in range(first, count, ASKERS):
            await ask(number)

    async with asyncio.TaskGroup() as group:
        for first in range(ASKERS):
            group.create_task(asker(first))


def our_tells(counter: ActorRef) -> Measure:
    """Tells, and one ask that shows that all have been handled."""

    async def measure(count: int) -> None:
        before = (await counter.ask(CountAll(), timeout_s=60)).number
        for number in range(count):
            await counter.tell(Told(number=number, text=TEXT))
        after = (await counter.ask(CountAll(), timeout_s=60)).number
        assert after - before == count, f"{after - before} of {count} tells arrived"

    return measure


def our_asks(counter: ActorRef) -> Measure:
    """Asks from 64 askers."""

    async def ask(number: int) -> None:
        assert (await counter.ask(Asked(number=number, text=TEXT), timeout_s=60)).number == number

    return lambda count: from_askers(count, ask)


def raw_tells(handle: "ray.actor.ActorHandle") -> Measure:
    """One call a message, a bounded number under way, waited for in bulk."""

    async def measure(count: int) -> None:
        for begin in range(0, count, UNDER_WAY):
            numbers = range(begin, min(count, begin + UNDER_WAY))
            await asyncio.gather(*[handle.told.remote(Told(number=n, text=TEXT)) for n in numbers])

    return measure


def raw_asks(handle: "ray.actor.ActorHandle") -> Measure:
    """One call a message from 64 askers."""

    async def ask(number: int) -> None:
        assert (await handle.asked.remote(Asked(number=number, text=TEXT))).number == number

    return lambda count: from_askers(count, ask)


async def on_ray(figures: Figures) -> None:
    """Figures (a) and (b)."""
    async with ray_session(), ActorSystem.open("ray") as system:
        counter = await system.spawn(Counter, name="counter")
        raw = ray.remote(RawCounter).options(num_cpus=0, max_concurrency=1000).remote()
        ours, theirs, ratio = await compare("ray tell", our_tells(counter), raw_tells(raw), (40_000, 2_000))
        figures.add("ray_tell", ours, "msg/s")
        figures.add("ray_raw_call", theirs, "msg/s")
        figures.add("ray_tell_vs_raw", ratio, "x", ">=", 20)
        ours, theirs, ratio = await compare("ray ask", our_asks(counter), raw_asks(raw), (8_000, 2_000))
        figures.add("ray_ask", ours, "msg/s")
        figures.add("ray_raw_ask", theirs, "msg/s")
        figures.add("ray_ask_vs_raw", ratio, "x", ">=", 3)


async def autogen_asks() -> tuple[Measure, Callable[[], Awaitable[None]]]:
    """autogen-core's runtime with one agent; the measure, and how to stop it."""
    from autogen_core import AgentId, MessageContext, RoutedAgent, SingleThreadedAgentRuntime, rpc

    class CounterAgent(RoutedAgent):
        """The same as an autogen agent."""

        @rpc
        async def asked(self, message: Asked, ctx: MessageContext) -> Counted:
            """Answer with its number."""
            return Counted(number=message.number)

    for name in ("autogen_core", "autogen_core.events"):
        logging.getLogger(name).setLevel(logging.CRITICAL)
    runtime = SingleThreadedAgentRuntime()
    await CounterAgent.register(runtime, "counter", lambda: CounterAgent("counts"))
    runtime.start()
    agent = AgentId("counter", "default")

    async def ask(number: int) -> None:
        answer = await runtime.send_message(Asked(number=number, text=TEXT), agent)
        assert answer.number == number

    return (lambda count: from_askers(count, ask)), runtime.stop


async def in_process(figures: Figures) -> None:
    """Figure (c)."""
    async with ActorSystem.open("local") as system:
        counter = await system.spawn(Counter, name="counter")
        try:
            theirs_measure, stop = await autogen_asks()
        except ImportError:
            print("# autogen-core is not installed: pip install autogen-core to compare", flush=True)
            await our_asks(counter)(5_000)
            rates = [await rate(our_asks(counter), 20_000) for _ in range(ROUNDS)]
            figures.add("local_ask", median(rates), "msg/s")
            return
        ours, theirs, ratio = await compare("local ask", our_asks(counter), theirs_measure, (20_000, 4_000))
        await stop()
        figures.add("local_ask", ours, "msg/s")
        figures.add("autogen_ask", theirs, "msg/s")
        figures.add("local_ask_vs_autogen", ratio, "x", ">=", 5)


def main() -> int:
    """Measure all, and say whether the targets are met."""
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.ERROR))
    figures = Figures()
    asyncio.run(in_process(figures))
    asyncio.run(on_ray(figures))
    return figures.exit_code()


if __name__ == "__main__":
    sys.exit(main())
