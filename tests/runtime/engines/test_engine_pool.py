"""Which replica a request goes to."""

import pytest

from agentfactory.messages.base import Message
from agentfactory.messages.generation import Completion, EndSessions, Generate, SamplingSettings
from agentfactory.runtime.engines import pool as pools
from agentfactory.runtime.engines.pool import EnginePool
from agentfactory.runtime.ref import ActorRef


class Replica:
    """Answers with its name."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.told: list[Message] = []

    async def tell(self, message: Message) -> None:
        self.told.append(message)

    async def ask(self, message: Message, timeout_s: float) -> Message:
        assert isinstance(message, Generate)
        return Completion(
            request_id=message.request_id,
            token_ids=(1,),
            logprobs=(0.0,),
            finish_reason="stop",
            adapter=self.name,
        )


@pytest.fixture
def replicas() -> list[Replica]:
    return [Replica(f"engine-{number}") for number in range(3)]


@pytest.fixture
def pool(replicas: list[Replica]) -> EnginePool:
    return EnginePool("engine", tuple(ActorRef(replica.name, replica) for replica in replicas))


async def served(pool: EnginePool, session: str | None = None) -> str:
    """Which replica it went to."""
    asked = Generate(request_id="r", prompt_ids=(1,), sampling=SamplingSettings(), session=session)
    return str((await pool.ask(asked, timeout_s=1.0)).adapter)


async def test_requests_without_a_session_take_turns(pool: EnginePool) -> None:
    assert sorted([await served(pool) for _ in range(6)]) == sorted(2 * [m.name for m in pool.members])


async def test_the_requests_of_a_session_stay_with_one_replica(pool: EnginePool) -> None:
    homes = {session: await served(pool, session) for session in "abcdef"}
    assert len(set(homes.values())) == 3
    for _ in range(4):
        assert {session: await served(pool, session) for session in "abcdef"} == homes


async def test_a_session_leaves_a_replica_with_far_more_work_than_the_others(pool: EnginePool) -> None:
    home = await served(pool, "s")
    busy = next(member for member in pool.members if member.name == home)
    busy.pending = pools.AFFINITY_MIN_PENDING
    assert await served(pool, "s") == home
    busy.pending = pools.AFFINITY_MIN_PENDING + 1
    moved = await served(pool, "s")
    assert moved != home
    busy.pending = 0
    assert await served(pool, "s") == moved


async def test_a_session_leaves_a_replica_that_is_gone_or_avoided(pool: EnginePool) -> None:
    first = await served(pool, "s")
    pool.avoid([first])
    second = await served(pool, "s")
    assert second != first
    next(member for member in pool.members if member.name == second).terminated = True
    third = await served(pool, "s")
    assert third not in {first, second}


async def test_avoided_replicas_get_nothing_new_until_they_are_back(pool: EnginePool) -> None:
    pool.avoid(["engine-0", "engine-1"])
    assert {await served(pool) for _ in range(6)} == {"engine-2"}
    pool.avoid(())
    assert {await served(pool) for _ in range(6)} == {"engine-0", "engine-1", "engine-2"}


async def test_where_all_are_avoided_those_that_live_are_asked(pool: EnginePool) -> None:
    pool.avoid([member.name for member in pool.members])
    pool.members[0].terminated = True
    assert {await served(pool) for _ in range(6)} == {"engine-1", "engine-2"}


async def test_only_a_sessions_own_replica_hears_of_its_end(
    pool: EnginePool, replicas: list[Replica]
) -> None:
    homes = {session: await served(pool, session) for session in "ab"}
    await pool.tell(EndSessions(sessions=("a", "b", "unknown")))
    for replica in replicas:
        own = tuple(session for session in "ab" if homes[session] == replica.name)
        assert replica.told == ([EndSessions(sessions=own)] if own else [])


async def test_only_so_many_sessions_are_remembered(
    pool: EnginePool, replicas: list[Replica], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pools, "MAX_SESSIONS", 2)
    for session in "abc":
        await served(pool, session)
    await pool.tell(EndSessions(sessions=("a",)))
    assert all(not replica.told for replica in replicas)
    await pool.tell(EndSessions(sessions=("b", "c")))
    assert sum(len(replica.told) for replica in replicas) == 2
