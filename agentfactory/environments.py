"""Environments from Python, in this process.

async with DataPlane.open() as data, open_environments(data) as environments:
    environment = await environments.open("training")
    seen = await environment.reset()

Those of a server are used alike: `cluster.environment.client.HttpEnvironments.connect(url)`.
"""

from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

from .actors.sink.segments import read_trajectories, segments
from .cluster.data_plane.tiers import spawn_data_access
from .cluster.environment.local import LocalEnvironments
from .cluster.environment.recorded import RecordedEpisode, recorded_episodes
from .configs.data import DataSettings
from .configs.errors import BadInput
from .configs.http_servers import EnvironmentServerSettings
from .data import DataPlane
from .messages.trajectories import Trajectory
from .runtime.system import ActorSystem
from .sessions import recorded


@asynccontextmanager
async def open_environments(
    data: DataPlane,
    settings: EnvironmentServerSettings | None = None,
    episodes: Sequence[RecordedEpisode] = (),
) -> AsyncIterator[LocalEnvironments]:
    """Environments on a data plane that is up. Each is to be closed by whoever opened it."""
    async with ActorSystem.open("local") as system:
        access = await spawn_data_access(system, data.settings)
        yield LocalEnvironments(access, data.settings, settings or EnvironmentServerSettings(), episodes)


def episodes_in(folders: Sequence[Path]) -> tuple[RecordedEpisode, ...]:
    """Recorded episodes of these folders: runs', or those of trajectories. Raises BadInput."""
    found: list[RecordedEpisode] = []
    for folder in folders:
        inside = folder / "trajectories"
        chosen = inside if inside.is_dir() else folder
        parts: Iterable[Path] = [chosen, *sorted(chosen.glob("*/"))]
        if not any(segments(part) for part in parts):
            raise BadInput(f"{folder}: there are no trajectories in it")
        found += recorded_episodes(trajectory for part in parts for trajectory in read_trajectories(part))
    return tuple(found)


def episodes_of(data: DataSettings) -> tuple[RecordedEpisode, ...]:
    """Recorded episodes of all that agents did on a data plane. Raises BadInput."""
    trajectories: Iterable[Trajectory] = recorded(data)
    return recorded_episodes(trajectories)
