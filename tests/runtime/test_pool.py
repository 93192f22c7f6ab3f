import asyncio

import pytest
from players import Add, Break, Hold, ListNotes, Note, Player, WaitFor

from agentfactory.runtime.errors import ActorDown, ActorStopped
from agentfactory.runtime.ref import ActorRef, PoolRef
from agentfactory.runtime.system import ActorSystem
from tests.actors.peers import Peer

pytestmark = pytest.mark.asyncio(loop_scope="module")


async def test_equals_take_turns(system: ActorSystem, register: ActorRef) -> None:
    pool = await system.spawn_pool(Player, register, name="pool", copies=2)
    for _ in range(6):
        await pool.ask(Add(amount=1), timeout_s=120)
    totals = [(await member.ask(Add(amount=0), timeout_s=120)).value for member in pool.members]
    assert totals == [3, 3]


async def test_the_least_loaded_is_asked(system: ActorSystem, register: ActorRef) -> None:
    pool = await system.spawn_pool(Player, register, name="pool", copies=2)
    holding = asyncio.create_task(pool.ask(Hold(name="it"), timeout_s=120))
    await register.ask(WaitFor(text="holding it"), timeout_s=120)
    assert sorted(member.pending for member in pool.members) == [0, 1]
    answers = [(await pool.ask(Add(amount=1), timeout_s=120)).value for _ in range(3)]
    assert answers == [1, 2, 3], "all by the one that is free"
    await register.tell(Note(text="release it"))
    await holding


async def test_a_member_that_is_gone_gets_nothing_more(system: ActorSystem, register: ActorRef) -> None:
    pool = await system.spawn_pool(Player, register, name="pool", copies=2)
    lost = pool.members[0]
    for _ in range(4):
        with pytest.raises(ActorDown):
            await lost.ask(Break(text="kaput"), timeout_s=120)
    with pytest.raises(ActorDown, match="will not be restarted"):
        await lost.ask(Add(amount=1), timeout_s=120)
    answers = [(await pool.ask(Add(amount=1), timeout_s=120)).value for _ in range(4)]
    assert answers == [1, 2, 3, 4]
    assert "gone" in repr(pool)


async def test_what_died_with_a_member_is_not_sent_again(system: ActorSystem, register: ActorRef) -> None:
    pool = await system.spawn_pool(Player, register, name="pool", copies=2)
    with pytest.raises(ActorDown, match="kaput"):
        await pool.ask(Break(text="kaput"), timeout_s=120)
    restarts = [(await system.describe(member.name)).actor.restarts for member in pool.members]
    assert sorted(restarts) == [0, 1]


async def test_a_broadcast_reaches_all(system: ActorSystem, register: ActorRef) -> None:
    pool = await system.spawn_pool(Player, register, name="pool", copies=2)
    await pool.broadcast(Note(text="hear me"))
    await register.ask(WaitFor(text="hear me", times=2), timeout_s=120)


async def test_a_member_is_gone_by_its_own_end_and_not_by_that_of_another_it_asked() -> None:
    passes_on = Peer(ActorDown("far away", "gone", permanent=True)).ref("first")
    restarted = Peer(ActorDown("second", "killed")).ref("second")
    stopped = Peer(ActorStopped("third")).ref("third")
    pool = PoolRef("pool", (passes_on, restarted, stopped))
    for member in pool.members:
        with pytest.raises((ActorDown, ActorStopped)):
            await member.ask(ListNotes(), timeout_s=1.0)
    assert repr(pool) == "<PoolRef pool: 0, 0, gone pending>"
    assert pool.candidates() == (passes_on, restarted)
    assert pool.least_loaded() is not pool.least_loaded(), "equals take turns"
    alone = PoolRef("alone", (stopped,))
    assert alone.candidates() == (stopped,), "where all are gone, all are asked"
