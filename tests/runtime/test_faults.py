import pytest
import ray.exceptions

from agentfactory.runtime.errors import ActorDown, ActorStopped, AskTimeout, TransportError
from agentfactory.runtime.on_ray.errors import map_ray_error

pytestmark = pytest.mark.ray  # imports it, though it starts none


def died(text: str) -> ray.exceptions.ActorDiedError:
    """As Ray makes it, except for the context that only its own code can build."""
    error = ray.exceptions.ActorDiedError()
    error.error_msg = text
    return error


@pytest.mark.parametrize(
    ("error", "expected", "text"),
    [
        (
            died("The actor is dead because it was killed by `ray.kill`."),
            ActorStopped,
            "actor 'player' has been stopped",
        ),
        (
            died("Worker exit type: INTENDED_USER_EXIT Worker exit detail: asked to exit."),
            ActorStopped,
            "actor 'player' has been stopped",
        ),
        (
            died("… because all references to the actor were removed …"),
            ActorStopped,
            "actor 'player' has been stopped",
        ),
        (
            died("Its worker died. Some common causes include: (1) much text"),
            ActorDown,
            "actor 'player' died, 12 MB resident: its process was lost: Its worker died.; "
            "it will not be restarted",
        ),
        (
            ray.exceptions.ActorUnavailableError("away", None),
            ActorDown,
            "actor 'player' died, 12 MB resident: its process was lost",
        ),
        (
            ray.exceptions.OutOfMemoryError("too much"),
            ActorDown,
            "actor 'player' died, 12 MB resident: its process was killed: the node ran out of memory",
        ),
        (ValueError("no such name"), ActorStopped, "actor 'player' has been stopped"),
        (AskTimeout("late"), AskTimeout, "late"),
        (OSError("no route"), TransportError, "Ray could not reach 'player': OSError: no route"),
    ],
)
def test_what_ray_says_is_translated_at_the_boundary(
    error: Exception, expected: type[Exception], text: str
) -> None:
    fault = map_ray_error(error, "player", memory_mb=12)
    assert (type(fault), str(fault)) == (expected, text)
    assert fault is error or fault.__cause__ is error
