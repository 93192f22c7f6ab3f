"""The TrajectorySink.

Consumes StoreTrajectories and FindTrajectories; produces Stored, FoundTrajectories and the fact
TrajectoryStored; waits for the disk; unblocked by it.

Invariants: what is acknowledged is on disk; an episode id is stored once, whoever sends it again;
requests that arrive while the disk works are committed together, with one fsync.
"""

import asyncio
import json
from pathlib import Path
from typing import NamedTuple

import anyio

from actors.sink.segments import Place, SegmentWriter, read_at, read_lines
from configs.roles import SinkSettings
from messages.trajectories import (
    FindTrajectories,
    FoundTrajectories,
    Stored,
    StoreTrajectories,
    TrajectoryStored,
)
from runtime.actor import Actor
from runtime.topics import Topics


class _Waiting(NamedTuple):
    """A request, already as lines: that is done while the disk works on the group before."""

    lines: dict[str, bytes]
    done: asyncio.Future[Stored]


class TrajectorySink(Actor):
    """Makes trajectories durable, in groups."""

    concurrency = 4096

    def __init__(self, settings: SinkSettings, folder: Path, topics: Topics | None = None) -> None:
        self._settings = settings
        self._folder = folder
        self._topics = topics
        self._places: dict[str, Place] = {}
        self._queue: list[_Waiting] = []
        self._arrived = asyncio.Event()
        self._writer: SegmentWriter

    async def start(self) -> None:
        """Open the last segment and learn which episodes are stored."""
        segment_bytes = self._settings.segment_mb << 20
        self._writer = await anyio.to_thread.run_sync(SegmentWriter, self._folder, segment_bytes)
        self._places = await anyio.to_thread.run_sync(_index, self._folder)

    async def aclose(self) -> None:
        """Close the segment."""
        if hasattr(self, "_writer"):
            self._writer.close()

    async def store(self, message: StoreTrajectories) -> Stored:
        """Answer once the bytes are on disk."""
        done: asyncio.Future[Stored] = asyncio.get_running_loop().create_future()
        lines = {
            trajectory.episode_id: trajectory.model_dump_json().encode() + b"\n"
            for trajectory in message.trajectories
        }
        self._queue.append(_Waiting(lines, done))
        self._arrived.set()
        return await done

    async def find(self, message: FindTrajectories) -> FoundTrajectories:
        """Read stored trajectories back."""
        places = [self._places[episode] for episode in message.episode_ids if episode in self._places]
        found = await anyio.to_thread.run_sync(lambda: tuple(read_at(place) for place in places))
        return FoundTrajectories(trajectories=found)

    async def run(self) -> None:
        """Commit whatever has come in, again and again."""
        while True:
            await self._arrived.wait()
            self._arrived.clear()
            while self._queue:
                await self._commit(self._next_group())

    def _next_group(self) -> list[_Waiting]:
        """The oldest requests, up to `max_group` trajectories (at least one request)."""
        count = size = 0
        for waiting in self._queue:
            size += len(waiting.lines)
            if count and size > self._settings.max_group:
                break
            count += 1
        group, self._queue = self._queue[:count], self._queue[count:]
        return group

    async def _commit(self, group: list[_Waiting]) -> None:
        fresh: dict[str, bytes] = {}
        stored: list[Stored] = []
        for waiting in group:
            new = {name: line for name, line in waiting.lines.items() if not self._knows(name, fresh)}
            fresh.update(new)
            stored.append(Stored(stored=len(new), duplicates=len(waiting.lines) - len(new)))
        try:
            if fresh:
                places = await anyio.to_thread.run_sync(self._writer.commit, list(fresh.values()))
                self._places.update(zip(fresh, places, strict=True))
        except Exception as error:
            for waiting in group:
                if not waiting.done.done():
                    waiting.done.set_exception(error)
            return
        for waiting, answer in zip(group, stored, strict=True):
            if not waiting.done.done():
                waiting.done.set_result(answer)
        if self._topics is not None and fresh:
            await self._topics.publish(TrajectoryStored(episode_ids=tuple(fresh)))

    def _knows(self, episode_id: str, pending: dict[str, bytes]) -> bool:
        return episode_id in self._places or episode_id in pending


def _index(folder: Path) -> dict[str, Place]:
    """Episode ids and where they lie; a line that cannot be read is skipped here and named by readers."""
    places: dict[str, Place] = {}
    for place, line in read_lines(folder):
        try:
            places[str(json.loads(line)["episode_id"])] = place
        except (ValueError, KeyError, TypeError):
            continue
    return places
