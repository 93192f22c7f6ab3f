"""The messages and actors that the runtime's tests play with.

They signal through a `Register` actor, since on Ray they live in other processes.
"""

import asyncio
import time
from collections.abc import Sequence

from agentfactory.configs.errors import AgentFactoryError
from agentfactory.messages.base import Done, Event, Message, Request
from agentfactory.runtime.actor import Actor
from agentfactory.runtime.ref import ActorRef


class Note(Message):
    text: str


class Notes(Message):
    texts: tuple[str, ...]


class WaitFor(Request[Done]):
    text: str
    times: int = 1


class ListNotes(Request[Notes]):
    pass


class Forget(Request[Done]):
    pass


class Total(Message):
    value: int


class Add(Request[Total]):
    amount: int


class Hold(Request[Done]):
    name: str


class Break(Request[Done]):
    text: str


class Refuse(Request[Done]):
    code: int


class Block(Request[Done]):
    seconds: float


class Echo(Message):
    data: bytes


class Say(Request[Echo]):
    data: bytes


class NotAnswered(Request[Done]):
    pass


class Unknown(Request[Done]):
    pass


class CancelYourself(Request[Done]):
    pass


class Happened(Event):
    number: int


class SomethingElse(Event):
    pass


class Refusal(AgentFactoryError):
    """An error with a constructor of its own."""

    def __init__(self, code: int, *, where: str) -> None:
        super().__init__(f"refused with {code} at {where}")
        self.code = code
        self.where = where

    def __reduce__(self) -> tuple[object, ...]:
        return _refusal, (self.code, self.where)


def _refusal(code: int, where: str) -> Refusal:
    return Refusal(code, where=where)


class Unpicklable(AgentFactoryError):
    """An error that pickle cannot restore."""

    def __init__(self, first: str, second: str) -> None:
        super().__init__(f"{first} and {second}")


class RefuseOddly(Request[Done]):
    pass


class Register(Actor):
    """Remembers notes, and lets others wait for them."""

    concurrency = 256

    def __init__(self) -> None:
        self._notes: list[str] = []
        self._changed = asyncio.Condition()

    async def note(self, message: Note) -> None:
        async with self._changed:
            self._notes.append(message.text)
            self._changed.notify_all()

    async def wait_for(self, message: WaitFor) -> Done:
        async with self._changed:
            await self._changed.wait_for(lambda: self._notes.count(message.text) >= message.times)
        return Done()

    async def list_notes(self, message: ListNotes) -> Notes:
        return Notes(texts=tuple(self._notes))

    async def forget(self, message: Forget) -> Done:
        self._notes.clear()
        return Done()


class Player(Actor):
    """Does what it is told, and notes it in the register."""

    def __init__(self, register: ActorRef) -> None:
        self._register = register
        self._total = 0

    async def start(self) -> None:
        await self._note("started")

    async def aclose(self) -> None:
        await self._note("closed")

    async def add(self, message: Add) -> Total:
        self._total += message.amount
        return Total(value=self._total)

    async def note_down(self, message: Note) -> None:
        await self._note(message.text)

    async def hold(self, message: Hold) -> Done:
        await self._note(f"holding {message.name}")
        try:
            await self._register.ask(WaitFor(text=f"release {message.name}"), timeout_s=120)
        except asyncio.CancelledError:
            await self._note(f"cancelled {message.name}")
            raise
        await self._note(f"released {message.name}")
        return Done()

    async def break_down(self, message: Break) -> Done:
        raise RuntimeError(message.text)

    async def refuse(self, message: Refuse) -> Done:
        try:
            raise KeyError("the shelf is empty")
        except KeyError as error:
            raise Refusal(message.code, where="the door") from error

    async def refuse_oddly(self, message: RefuseOddly) -> Done:
        raise Unpicklable("this", "that")

    async def block(self, message: Block) -> Done:
        await self._note("blocking")
        await self._register.ask(ListNotes(), timeout_s=120)  # so the note has left this process
        time.sleep(message.seconds)  # noqa: ASYNC251 - an event loop that is blocked is what is tested
        return Done()

    async def say(self, message: Say) -> Echo:
        return Echo(data=message.data)

    async def not_answered(self, message: NotAnswered) -> Done:
        return None  # type: ignore[return-value]

    async def cancel_yourself(self, message: CancelYourself) -> Done:
        waiting = asyncio.ensure_future(asyncio.sleep(50))
        waiting.cancel()
        await waiting
        return Done()

    async def _note(self, text: str) -> None:
        await self._register.tell(Note(text=text))


class CrowdPlayer(Player):
    """The same, four messages at once."""

    concurrency = 4


class BatchPlayer(Player):
    """Adds three at once, at most; a negative amount spoils the whole batch."""

    max_batch = 3

    async def add_many(self, messages: Sequence[Add]) -> Sequence[Total]:
        await self._note(f"batch of {len(messages)}")
        if any(message.amount < 0 for message in messages):
            raise Refusal(7, where="the batch")
        return [Total(value=message.amount) for message in messages]


class NeverStarts(Actor):
    async def start(self) -> None:
        raise RuntimeError("the model is missing")


class StartsForEver(Actor):
    async def start(self) -> None:
        await asyncio.Event().wait()


class BreaksInTheBackground(Player):
    async def run(self) -> None:
        await self._register.ask(WaitFor(text="break now"), timeout_s=120)
        await self._register.tell(Note(text="breaking"))
        raise RuntimeError("the background work broke")
