"""A person and an agent: what is said, what is done, and what has come of it so far."""

from collections import deque
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING, Final

from ..messages.conversations import AgentReply, ClarificationRequest, CommandRouted, Routing
from ..messages.data import Action, Observation
from .session_manager import SessionManager

if TYPE_CHECKING:
    from ..actors.agents.session import AgentStep, SessionStatistics

HISTORY: Final = 1000
"""Steps that are remembered."""


class Conversation:
    """With one agent at a time, or with a coordinator and through it with all others.

    Invariant: what was done is in `history` and in the statistics, also if the next command fails.
    """

    def __init__(self, manager: SessionManager, agent: str) -> None:
        self.manager = manager
        self.agent = agent
        self.history: deque[AgentReply] = deque(maxlen=HISTORY)
        """The newest steps, without the bytes of blobs."""
        self.statistics: SessionStatistics | None = None
        """None before the first step."""
        self.seen = Observation(text="")
        """The last observation."""

    def switch(self, agent: str) -> None:
        """Go on with another agent. Raises BadInput for one that is not there."""
        self.manager.blueprint(agent)
        self.agent = agent
        self.manager.prefetch(agent)

    async def say(self, text: str) -> AsyncIterator[Routing | AgentReply]:
        """Carry out what a text asks for: routings as they are decided, and what each command came to.

        Raises what the agent's model or the data plane fails with; the commands after that are left undone.
        """
        dispatcher = await self.manager.dispatcher(self.agent)
        if dispatcher is None:
            yield await self._carry_out(self.agent, text, None)
            return
        async for routing in dispatcher.route(text):
            yield routing
            if isinstance(routing, ClarificationRequest):
                yield AgentReply(command=routing.command, agent="", routing=routing)
            else:
                yield await self._carry_out(routing.agent, routing.command, routing)

    async def manual(self, action: Action) -> AgentReply:
        """Take a step that the person decided on. Raises what the data plane fails with."""
        session = await self.manager.session(self.agent)
        return self._remember(action.model_dump_json(), self.agent, None, await session.manual(action))

    async def _carry_out(self, agent: str, command: str, routing: CommandRouted | None) -> AgentReply:
        session = await self.manager.session(agent)
        return self._remember(command, agent, routing, await session.command(command))

    def _remember(
        self, command: str, agent: str, routing: CommandRouted | None, step: "AgentStep"
    ) -> AgentReply:
        from ..actors.agents.session import AgentEpisode, SessionStatistics

        kept = step.without_content()
        before = self.statistics or SessionStatistics()
        self.statistics = before.after(AgentEpisode("", command, (kept,)))
        said = AgentReply(
            command=command,
            agent=agent,
            routing=routing,
            thought=step.thought,
            action=step.action,
            result=step.result,
        )
        self.history.append(said.model_copy(update={"result": kept.result}))
        self.seen = step.result.observation
        return said
