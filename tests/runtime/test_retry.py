"""Requests that may be repeated are asked again where the actor died over them, and nowhere else."""

import pytest

from agentfactory.runtime import ref
from agentfactory.runtime.errors import ActorDown, AskTimeout
from agentfactory.runtime.ref import RETRY_ATTEMPTS, ask_with_retry
from tests.actors.peers import Peer
from tests.runtime.players import Add, Total

DOWN = ActorDown("peer", "it was killed")


@pytest.fixture(autouse=True)
def no_pause(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ref, "RETRY_PAUSE_S", 0.0)


async def test_an_actor_that_died_is_asked_until_it_answers() -> None:
    peer = Peer(DOWN, DOWN, Total(value=7))
    assert await ask_with_retry(peer.ref(), Add(amount=1), timeout_s=1.0) == Total(value=7)
    assert peer.heard == [Add(amount=1)] * 3


async def test_an_actor_that_dies_again_and_again_is_given_up() -> None:
    peer = Peer(DOWN)
    with pytest.raises(ActorDown):
        await ask_with_retry(peer.ref(), Add(amount=1), timeout_s=1.0)
    assert len(peer.heard) == RETRY_ATTEMPTS


@pytest.mark.parametrize(
    "error", [ActorDown("peer", "gone", permanent=True), AskTimeout("no answer"), ValueError("ours")]
)
async def test_whatever_else_went_wrong_is_raised_at_once(error: Exception) -> None:
    peer = Peer(error)
    with pytest.raises(type(error)) as raised:
        await ask_with_retry(peer.ref(), Add(amount=1), timeout_s=1.0)
    assert raised.value is error
    assert len(peer.heard) == 1
