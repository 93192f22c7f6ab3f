"""Runs a few actors in every order of their steps.

A step is one word of the cache or one access of the store; every step waits for its turn, and one step
is taken at a time. The orders are counted through like the digits of a number: the first run takes the
first actor that can go on at every point, the next one differs in the last point that had a choice.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextvars import ContextVar
from functools import partial
from random import Random

from agentfactory.bridge.cache.base import CasValue
from agentfactory.bridge.cache.embedded import EmbeddedCache
from agentfactory.bridge.cache.items import VALUE
from agentfactory.bridge.cache.tier import CacheTier
from agentfactory.configs.data import CacheSettings
from agentfactory.configs.errors import AgentFactoryError

MARK_S = 60
KEY = b"iowarp:t:n"
_actor: ContextVar[int] = ContextVar("actor")
Actor = Callable[["World"], Awaitable[None]]


class World:
    """One run: a cache, a store with its history, and whose turn it is."""

    def __init__(self, warm: bool, crash: tuple[int, int] | None = None) -> None:
        """`warm`: the old value is cached. `crash`: who dies before which of its steps."""
        self.now = 0.0
        self.cache = EmbeddedCache(1 << 20, clock=lambda: self.now)
        self.history: list[bytes | None] = [b"old"]
        """What the store held under the name, in order."""
        self.acknowledged = 0
        """The latest state of the store that somebody was told of."""
        self.trace: list[str] = []
        self._tiers: list[CacheTier] = []
        self._warm = warm
        self._crash = crash
        self._steps: dict[int, int] = {}
        self._waiting: dict[int, list[asyncio.Future[None]]] = {}

    def tier(self) -> CacheTier:
        """As another process has it."""
        self._tiers.append(CacheTier(CacheSettings(), [Stepped(self)], lease_s=MARK_S))
        return self._tiers[-1]

    async def step(self, what: str) -> None:
        """Wait for the turn. Whoever crashes here waits for ever."""
        actor = _actor.get(-1)
        if actor < 0:
            return
        self._steps[actor] = self._steps.get(actor, 0) + 1
        turn = asyncio.get_running_loop().create_future()
        if self._crash != (actor, self._steps[actor]):
            self._waiting.setdefault(actor, []).append(turn)
            await turn
            self.trace.append(f"{actor}:{what}")
        else:
            self.trace.append(f"{actor} dies before {what}")
            await turn

    async def load(self) -> bytes | None:
        await self.step("load")
        return self.history[-1]

    async def put(self, value: bytes | None) -> int:
        """Which state this made."""
        await self.step(f"put {value!r}")
        self.history.append(value)
        return len(self.history) - 1

    async def write(self, tier: CacheTier, value: bytes) -> None:
        async def put() -> int:
            return await self.put(value)

        self.acknowledged = max(self.acknowledged, await tier.write_through("t", "n", put, value))

    async def write_with_others(self, tier: CacheTier, value: bytes) -> None:
        made = 0

        async def put() -> list[int | AgentFactoryError]:
            nonlocal made
            made = await self.put(value)
            return [made, AgentFactoryError("the store did not take it")]

        await tier.write_many_through({("t", "n"): value, ("t", "another"): b"not stored"}, put)
        self.acknowledged = max(self.acknowledged, made)

    async def destroy(self, tier: CacheTier, expected: bool) -> None:
        made = 0

        async def delete() -> list[tuple[str, str]]:
            nonlocal made
            made = await self.put(None)
            return [("t", "n")]

        await tier.delete_through([("t", "n")] if expected else [], delete)
        self.acknowledged = max(self.acknowledged, made)

    async def read(self, tier: CacheTier) -> None:
        floor = self.acknowledged
        value, hit = await tier.read_through("t", "n", self.load)
        assert value in self.history[floor:], (
            f"{value!r} (hit: {hit}) was read, of {self.history} from {floor} on; {' | '.join(self.trace)}"
        )

    async def check(self) -> None:
        """What is cached at the end is what is stored, now and when all marks have expired."""
        for _ in range(2):
            cached = await self.tier().get("t", "n")
            assert cached in (None, self.history[-1]), (
                f"{cached!r} is cached, {self.history} was stored; {' | '.join(self.trace)}"
            )
            self.now += MARK_S + 1

    async def run(self, actors: Sequence[Actor], choose: Callable[[int, int], int]) -> list[int]:
        """`choose(point, width)` says who goes on; how many could at each point."""
        if self._warm:
            await self.cache.set(KEY, VALUE + b"old", 3600)
        tasks = [asyncio.create_task(self._act(number, actor)) for number, actor in enumerate(actors)]
        widths: list[int] = []
        try:
            while await self._quiet(tasks):
                ready = sorted(self._waiting)
                actor = ready[choose(len(widths), len(ready))]
                widths.append(len(ready))
                turns = self._waiting[actor]
                turns.pop(0).set_result(None)
                if not turns:
                    del self._waiting[actor]
            for task in tasks:
                if task.done():
                    task.result()
            await self.check()
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.wait(tasks)
            for tier in self._tiers:
                await tier.aclose()
        return widths

    async def _act(self, number: int, actor: Actor) -> None:
        _actor.set(number)
        await actor(self)

    async def _quiet(self, tasks: Sequence["asyncio.Task[None]"]) -> bool:
        """Let everybody go on to the next step; whether there is one."""
        for _ in range(20):
            if all(task.done() or number in self._waiting for number, task in enumerate(tasks)):
                break
            await asyncio.sleep(0)
        return bool(self._waiting)


class Stepped:
    """The cache, a step for every word about the blob. Other keys are not of interest here."""

    name = "stepped"

    def __init__(self, world: World) -> None:
        self._world = world
        self._cache = world.cache

    async def _step(self, word: str, key: bytes) -> None:
        if key == KEY:
            await self._world.step(word)

    async def get(self, key: bytes) -> bytes | None:
        await self._step("get", key)
        return await self._cache.get(key)

    async def get_many(self, keys: Sequence[bytes]) -> dict[bytes, bytes]:
        return await self._cache.get_many(keys)

    async def lengths(self, keys: Sequence[bytes]) -> dict[bytes, int]:
        return await self._cache.lengths(keys)

    async def gets(self, key: bytes) -> CasValue | None:
        await self._step("gets", key)
        return await self._cache.gets(key)

    async def set(self, key: bytes, value: bytes, ttl_s: int) -> None:
        await self._step("set", key)
        await self._cache.set(key, value, ttl_s)

    async def add(self, key: bytes, value: bytes, ttl_s: int) -> bool:
        await self._step("add", key)
        return await self._cache.add(key, value, ttl_s)

    async def gets_many(self, keys: Sequence[bytes]) -> dict[bytes, CasValue]:
        for key in keys:
            await self._step("gets", key)
        return await self._cache.gets_many(keys)

    async def add_many(self, items: Mapping[bytes, bytes], ttl_s: int) -> frozenset[bytes]:
        for key in items:
            await self._step("add", key)
        return await self._cache.add_many(items, ttl_s)

    async def compare_and_set_many(self, items: Mapping[bytes, CasValue], ttl_s: int) -> frozenset[bytes]:
        for key in items:
            await self._step("cas", key)
        return await self._cache.compare_and_set_many(items, ttl_s)

    async def compare_and_set(self, key: bytes, value: bytes, token: int, ttl_s: int) -> bool:
        await self._step("cas", key)
        return await self._cache.compare_and_set(key, value, token, ttl_s)

    async def delete(self, key: bytes) -> None:
        await self._step("delete", key)
        await self._cache.delete(key)

    async def flush(self) -> None:
        await self._cache.flush()

    async def aclose(self) -> None:
        pass


async def orders(actors: Sequence[Actor], warm: bool) -> AsyncIterator[World]:
    """The world after every order of steps."""
    choices: list[int] = []
    while True:
        world = World(warm)
        widths = await world.run(actors, partial(_chosen, choices))
        yield world
        choices += [0] * (len(widths) - len(choices))
        while choices and choices[-1] + 1 >= widths[len(choices) - 1]:
            choices.pop()
        if not choices:
            return
        choices[-1] += 1


def _chosen(choices: Sequence[int], at: int, width: int) -> int:
    return choices[at] if at < len(choices) else 0


async def some_orders(
    actors: Sequence[Actor], warm: bool, number: int, crash: tuple[int, int] | None = None
) -> AsyncIterator[World]:
    """The world after orders drawn at random, the same ones every time."""
    dice = Random(0)
    for _ in range(number):
        world = World(warm, crash)
        await world.run(actors, lambda _, width: dice.randrange(width))
        yield world
