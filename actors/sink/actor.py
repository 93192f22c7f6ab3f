"""The TrajectorySink.

Consumes StoreTrajectories and FindTrajectories; produces Stored, FoundTrajectories and the fact
TrajectoryStored; waits for the disk; unblocked by it.

Invariants: what is acknowledged is on disk; an episode id is stored once, whoever sends it again;
requests that arrive while the disk works are committed together, with one fsync.
"""

import json
from collections.abc import Sequence
from pathlib import Path

import anyio
import structlog

from ...configs.roles import SinkSettings
from ...messages.trajectories import (
    FindTrajectories,
    FoundTrajectories,
    Stored,
    StoreTrajectories,
    TrajectoryStored,
)
from ...runtime.actor import Actor
from ...runtime.topics import Topics
from .segments import SegmentOffset, SegmentWriter, read_at, read_lines

log = structlog.get_logger("sink")


class TrajectorySink(Actor):
    """Makes trajectories durable, in groups."""

    def __init__(self, settings: SinkSettings, folder: Path, topics: Topics | None = None) -> None:
        self.max_batch = settings.max_batch
        self._segment_bytes = settings.segment_mb << 20
        self._folder = folder
        self._topics = topics
        self._places: dict[str, SegmentOffset] = {}
        self._writer: SegmentWriter

    async def start(self) -> None:
        """Open the last segment and learn which episodes are stored."""
        await anyio.to_thread.run_sync(self._open)

    async def aclose(self) -> None:
        """Close the segment."""
        if hasattr(self, "_writer"):
            self._writer.close()

    def _open(self) -> None:
        """In a thread, to the end: what it has opened is closed even if nobody waits any more."""
        self._writer = SegmentWriter(self._folder, self._segment_bytes)
        self._places = _index(self._folder)
        log.info("segments opened", folder=str(self._folder), episodes=len(self._places))

    async def store(self, messages: Sequence[StoreTrajectories]) -> Sequence[Stored]:
        """Answer once the bytes of all of them are on disk."""
        fresh: dict[str, bytes] = {}
        stored: list[Stored] = []
        for message in messages:
            before = len(fresh)
            lines = zip(message.episode_ids, message.lines, strict=True)
            fresh.update((name, line) for name, line in lines if name not in self._places)
            new = len(fresh) - before
            stored.append(Stored(stored=new, duplicates=len(message.lines) - new))
        if fresh:
            places = await anyio.to_thread.run_sync(self._writer.commit, list(fresh.values()))
            self._places.update(zip(fresh, places, strict=True))
            log.info(
                "trajectories stored",
                new=len(fresh),
                bytes=sum(map(len, fresh.values())),
                in_all=len(self._places),
            )
            if self._topics is not None:
                await self._topics.publish(TrajectoryStored(episode_ids=tuple(fresh)))
        return stored

    async def find(self, message: FindTrajectories) -> FoundTrajectories:
        """Read stored trajectories back."""
        places = [self._places[episode] for episode in message.episode_ids if episode in self._places]
        found = await anyio.to_thread.run_sync(lambda: tuple(read_at(place) for place in places))
        return FoundTrajectories(trajectories=found)


def _index(folder: Path) -> dict[str, SegmentOffset]:
    """Episode ids and where they lie; a line that cannot be read is skipped here and named by readers."""
    places: dict[str, SegmentOffset] = {}
    for place, line in read_lines(folder):
        try:
            places[str(json.loads(line)["episode_id"])] = place
        except (ValueError, KeyError, TypeError):
            continue
    return places
