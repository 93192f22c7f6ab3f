"""Peers of an actor's parts: real refs to something that answers as a test tells it to."""

from collections.abc import Callable

from agentfactory.messages.base import Message
from agentfactory.runtime.ref import ActorRef, PoolRef
from agentfactory.runtime.topics import Topics


class Peer:
    """The far side of a ref. What it was told and asked is kept, in order."""

    def __init__(self, *answers: Message | Exception | Callable[[Message], Message]) -> None:
        self.heard: list[Message] = []
        self._answers = list(answers)
        """One an ask; the last one goes on for ever."""

    async def tell(self, message: Message) -> None:
        self.heard.append(message)

    async def ask(self, message: Message, timeout_s: float) -> Message:
        self.heard.append(message)
        answer = self._answers.pop(0) if len(self._answers) > 1 else self._answers[0]
        if isinstance(answer, Exception):
            raise answer
        return answer if isinstance(answer, Message) else answer(message)

    def ref(self, name: str = "peer") -> ActorRef:
        return ActorRef(name, self)

    def pool(self, name: str = "pool") -> PoolRef:
        return PoolRef(name, (self.ref(f"{name}-0"),))

    def topics(self) -> Topics:
        return Topics(self.ref("topics"))
