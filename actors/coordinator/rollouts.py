"""Rollout scheduling with bounded staleness: leases groups, and keeps what comes back until it is trained on.

Consumes tasks; produces accepted groups; waits for room, for tasks and for groups; unblocked by each
entry of the record, and by the deadlines of the episodes.

How many groups may begin is one formula (`capacity`):

    capacity = min(max_concurrent − running, (η + version + 1)·B − (accepted + running))

over groups, where `accepted` counts all groups accepted since version 0 (AReaL, section 5.1). A group
that begins now belongs to batch number `(accepted + running) // B` at the latest, so it is trained on
by version `version + η` and is never more than η versions old. At η = 0 nothing begins before the
next version is there: exactly on-policy.
"""

import time
from collections.abc import Awaitable, Callable
from typing import Final

from anyio.abc import TaskGroup

from ...configs.roles import LoopSettings
from ...messages.adapters import AdapterRef
from ...messages.runs import EpisodeSample, GroupDropped, GroupFinished, GroupLeased
from ...messages.trajectories import Group, Trajectory
from .curriculum import TaskPrefetcher
from .episodes import GroupRunner
from .publisher import PolicyPublisher
from .run_state import JournaledState

RunGroup = Callable[[GroupLeased, AdapterRef], Awaitable[tuple[GroupFinished, Group]]]


class Rollouts:
    """Leases groups while there is room, and runs them."""

    def __init__(
        self,
        settings: LoopSettings,
        record: JournaledState,
        groups: GroupRunner,
        prefetcher: TaskPrefetcher,
        publisher: PolicyPublisher,
    ) -> None:
        self._settings = settings
        self._record = record
        self._groups = groups
        self._prefetcher = prefetcher
        self._publisher = publisher
        self._contents: dict[str, Group] = {}
        """Trajectories of the ready groups."""
        self._busy_since: float | None = None
        self._busy_s = 0.0
        self.running: set[str] = set()
        self.draining = False

    async def restore(self) -> None:
        """Fetch the groups that an earlier sitting accepted and did not train on."""
        for group_id, (lease, _) in self._record.state.ready.items():
            self._contents[group_id] = await self._groups.find(group_id, lease.episode_ids)

    async def admit(self, group: TaskGroup) -> None:
        """Give out work while there is room. Unfinished leases of an earlier sitting come first."""
        state = self._record.state
        for lease in list(state.open.values()):
            self._begin(group, lease, self._groups.resume)
        while not self.draining:
            if self._capacity() == 0:
                await self._record.changed.wait()
                continue
            proposal = await self._prefetcher.next()
            group_id = f"g{state.leased:06d}"
            lease = GroupLeased(
                group_id=group_id,
                proposal=proposal,
                episode_ids=tuple(f"{group_id}-{i}" for i in range(self._settings.group_size)),
                version=state.version,
                at=time.time(),
            )
            await self._record.add(lease)
            self._begin(group, lease, self._groups.run)

    async def drop_stale(self) -> None:
        """Let go of groups that would be trained on too late."""
        state = self._record.state
        for group_id, (_, finished) in list(state.ready.items()):
            if finished.oldest_version < state.version - self._settings.max_staleness:
                self._contents.pop(group_id, None)
                await self._record.add(
                    GroupDropped(
                        group_id=group_id,
                        oldest_version=finished.oldest_version,
                        version=state.version,
                        at=time.time(),
                    )
                )

    def contents(self, group_ids: list[str]) -> tuple[Group, ...]:
        """The trajectories of these ready groups."""
        return tuple(self._contents[group_id] for group_id in group_ids)

    def forget(self, group_ids: list[str]) -> None:
        """These have been trained on."""
        for group_id in group_ids:
            self._contents.pop(group_id, None)

    def pop_busy_seconds(self) -> float:
        """Seconds with rollouts under way since this was last asked."""
        if self._busy_since is not None:
            now = time.monotonic()
            self._busy_s += now - self._busy_since
            self._busy_since = now
        taken, self._busy_s = self._busy_s, 0.0
        return taken

    def _capacity(self) -> int:
        state = self._record.state
        return capacity(self._settings, state.version, len(state.ready), len(self.running), state.sampled)

    def _begin(self, group: TaskGroup, lease: GroupLeased, how: RunGroup) -> None:
        if self._busy_since is None:
            self._busy_since = time.monotonic()
        self.running.add(lease.group_id)
        group.start_soon(self._run, lease, how)

    async def _run(self, lease: GroupLeased, how: RunGroup) -> None:
        finished, group = await how(lease, self._publisher.current("student"))
        if finished.fate == "accepted":
            self._contents[lease.group_id] = group
        self.running.discard(lease.group_id)
        if not self.running and self._busy_since is not None:
            self._busy_s += time.monotonic() - self._busy_since
            self._busy_since = None
        await self._record.add(finished)
        sample = episode_sample(group)
        if sample is not None:
            await self._record.tell(sample)


def capacity(settings: LoopSettings, version: int, ready: int, running: int, sampled: int) -> int:
    """Groups that may begin now.

    Args:
        settings: the loop's.
        version: of the student's policy.
        ready: groups accepted and not yet trained on.
        running: groups leased and unfinished.
        sampled: groups finished since the last step, whatever their fate.

    >>> capacity(LoopSettings(batch_groups=4, max_staleness=0), version=0, ready=1, running=1, sampled=1)
    2
    """
    batch = settings.batch_groups
    accepted = version * batch + ready
    newest_batch = min(settings.max_staleness + version + 1, settings.rounds)
    room = min(
        settings.max_concurrent_groups - running,
        newest_batch * batch - (accepted + running),
        settings.max_groups_per_step * (1 + settings.max_staleness) - (sampled + running),
    )
    return max(0, room)


MAX_SAMPLE_CHARACTERS: Final = 200
"""Of each text."""


def episode_sample(group: Group) -> EpisodeSample | None:
    """The first judged episode that called a tool, else the first one; None where none is judged."""
    judged = [each for each in group.trajectories if each.verdict is not None]
    chosen = next((each for each in judged if any(turn.calls for turn in each.turns)), None)
    return _sample(chosen or judged[0]) if judged else None


def _sample(trajectory: Trajectory) -> EpisodeSample:
    exchanges = [exchange for turn in trajectory.turns for exchange in turn.exchanges]
    call, result = exchanges[-1] if exchanges else (None, None)
    answer = trajectory.answer
    return EpisodeSample(
        episode_id=trajectory.episode_id,
        domain=trajectory.task.domain,
        task=trajectory.task.description[:MAX_SAMPLE_CHARACTERS],
        tool=call.tool if call else "",
        call=call.input[:MAX_SAMPLE_CHARACTERS] if call else "",
        output=result.output[:MAX_SAMPLE_CHARACTERS] if result else "",
        answer=None if answer is None else answer[:MAX_SAMPLE_CHARACTERS],
        correct=trajectory.verdict is not None and trajectory.verdict.correct,
    )
