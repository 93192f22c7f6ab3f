"""Giving out work, and keeping what comes back until it is trained on.

Consumes tasks; produces accepted groups; waits for room, for tasks and for groups; unblocked by each
entry of the record, and by the deadlines of the episodes.
"""

import time
from collections.abc import Awaitable, Callable

from anyio.abc import TaskGroup

from ...configs.roles import LoopSettings
from ...messages.adapters import AdapterRef
from ...messages.runs import GroupDropped, GroupFinished, GroupLeased
from ...messages.trajectories import Group
from .admission import capacity
from .episodes import GroupRunner
from .publisher import PolicyPublisher
from .record import Record
from .samples import sample_of
from .tasks import TaskStock

RunGroup = Callable[[GroupLeased, AdapterRef], Awaitable[tuple[GroupFinished, Group]]]


class Rollouts:
    """Leases groups while there is room, and runs them."""

    def __init__(
        self,
        settings: LoopSettings,
        record: Record,
        groups: GroupRunner,
        stock: TaskStock,
        publisher: PolicyPublisher,
    ) -> None:
        self._settings = settings
        self._record = record
        self._groups = groups
        self._stock = stock
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
            self._begin(group, lease, self._groups.take_up)
        while not self.draining:
            if self._capacity() == 0:
                await self._record.changed.wait()
                continue
            proposal = await self._stock.next()
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

    def take_busy_s(self) -> float:
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
        sample = sample_of(group)
        if sample is not None:
            await self._record.tell(sample)
