"""The messages that the message benchmark sends, and who counts them.

They live in a module of their own since a script's classes travel by value with each raw Ray call,
which would make those look ten times worse than they are.
"""

from agentfactory.messages.base import Message, Request
from agentfactory.runtime.actor import Actor


class Told(Message):
    """0.6 KB when pickled."""

    number: int
    text: str


class Asked(Request["Counted"]):
    """0.6 KB when pickled."""

    number: int
    text: str


class Counted(Message):
    """The answer."""

    number: int


class CountAll(Request[Counted]):
    """How many have come?"""


class Counter(Actor):
    """Counts messages."""

    def __init__(self) -> None:
        self._count = 0

    async def told(self, message: Told) -> None:
        """Count one."""
        self._count += 1

    async def asked(self, message: Asked) -> Counted:
        """Answer with its number."""
        return Counted(number=message.number)

    async def count_all(self, message: CountAll) -> Counted:
        """How many have come."""
        return Counted(number=self._count)


class RawCounter:
    """The same as a plain async Ray actor."""

    async def told(self, message: Told) -> None:
        """Take one."""

    async def asked(self, message: Asked) -> Counted:
        """Answer with its number."""
        return Counted(number=message.number)
