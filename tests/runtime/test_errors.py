import pickle

import pytest

from agentfactory.runtime.errors import ActorDown, ActorStopped
from agentfactory.runtime.ref import PoolRef


def test_actor_down_says_who_when_and_why() -> None:
    down = ActorDown("player", "ValueError: it broke", "Hold", 12, permanent=True)
    assert str(down) == (
        "actor 'player' died while handling Hold, 12 MB resident: ValueError: it broke; "
        "it will not be restarted"
    )


@pytest.mark.parametrize(
    "error", [ActorDown("player", "it broke", "Hold", 12, permanent=True), ActorStopped("player")]
)
def test_errors_survive_pickling(error: Exception) -> None:
    copy = pickle.loads(pickle.dumps(error))
    assert str(copy) == str(error)
    assert vars(copy) == vars(error)


def test_a_pool_has_members() -> None:
    with pytest.raises(ValueError, match="the pool 'empty' has no members"):
        PoolRef("empty", ())
