"""Replicas of an engine as one ref: least-loaded routing with session affinity.

Invariants:
  - a request goes to a replica that is neither gone nor avoided, as long as there is one;
  - the requests of a session go to one replica, which may have their key-value cache, unless it has
    `AFFINITY_RATIO` times the work of the least loaded one;
  - sessions are remembered up to `MAX_SESSIONS`, the least recently used are forgotten first.
"""

from collections import OrderedDict
from collections.abc import Iterable
from typing import TypeVar

from ...messages.base import Message, Request
from ...messages.generation import EndSessions, Generate
from ..ref import ActorRef, PoolRef

ReplyT = TypeVar("ReplyT")

AFFINITY_RATIO = 2
AFFINITY_MIN_PENDING = 8
"""Pending requests of a replica up to which its sessions stay, whatever the others' load."""
MAX_SESSIONS = 1 << 16


class EnginePool(PoolRef):
    """Each holder of the pool decides for itself, by the requests that it has under way."""

    def __init__(self, name: str, members: tuple[ActorRef, ...]) -> None:
        super().__init__(name, members)
        self._homes: OrderedDict[str, ActorRef] = OrderedDict()
        self._avoided: frozenset[str] = frozenset()

    def __reduce__(self) -> tuple[object, ...]:
        return EnginePool, (self.name, self.members)

    def avoid(self, names: Iterable[str]) -> None:
        """From now on send nothing new to these replicas; what they have under way goes on."""
        self._avoided = frozenset(names)

    def candidates(self) -> tuple[ActorRef, ...]:
        """Neither gone nor avoided; if there are none, those that are not gone."""
        there = super().candidates()
        return tuple(member for member in there if member.name not in self._avoided) or there

    async def ask(self, message: Request[ReplyT], *, timeout_s: float) -> ReplyT:
        """Ask the session's replica, or the least loaded one."""
        session = message.session if isinstance(message, Generate) else None
        member = self.least_loaded() if session is None else self._home_of(session)
        return await member.ask(message, timeout_s=timeout_s)

    async def tell(self, message: Message) -> None:
        """Tell the sessions' own replicas of their end; anything else goes to one replica."""
        if not isinstance(message, EndSessions):
            await super().tell(message)
            return
        ending: dict[str, list[str]] = {}
        for session in message.sessions:
            home = self._homes.pop(session, None)
            if home is not None and not home.terminated:
                ending.setdefault(home.name, []).append(session)
        for member in self.members:
            if member.name in ending:
                await member.tell(EndSessions(sessions=tuple(ending[member.name])))

    def _home_of(self, session: str) -> ActorRef:
        home, least = self._homes.get(session), self.least_loaded()
        if (
            home is None
            or home not in self.candidates()
            or home.pending > max(AFFINITY_MIN_PENDING, AFFINITY_RATIO * least.pending)
        ):
            home = least
        self._homes[session] = home
        self._homes.move_to_end(session)
        if len(self._homes) > MAX_SESSIONS:
            self._homes.popitem(last=False)
        return home
