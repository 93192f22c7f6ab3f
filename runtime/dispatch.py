"""What an actor has in hand: messages taken from the mailbox and not yet answered.

Consumes the mailbox; produces answers; waits for handlers; unblocked by their end, by the asker
giving up, and by the actor's death.
"""

import asyncio
from collections import Counter
from functools import partial

import structlog

from ..messages.base import Message
from .actor import Actor, BatchHandler
from .errors import UnhandledMessage
from .mailbox import Envelope, Mailbox

log = structlog.get_logger("actor")


class MessageProcessor:
    """Serves an actor from its mailbox, in order or several messages at once."""

    def __init__(self, name: str, mailbox: Mailbox) -> None:
        self._name = name
        self._mailbox = mailbox
        self._in_flight: dict[Envelope, asyncio.Task[None] | None] = {}
        """With the task to cancel if nobody waits any more; None in a batch."""
        self._changed = asyncio.Event()
        """Set whenever a message is put down."""
        self.handled = 0

    def __len__(self) -> int:
        return len(self._in_flight)

    def in_flight_types(self) -> tuple[str, ...]:
        """Types of the messages in hand, as `Generate` or `Generate x3`."""
        counts = Counter(envelope.kind for envelope in self._in_flight)
        return tuple(f"{kind} x{count}" if count > 1 else kind for kind, count in counts.items())

    def cancel(self, envelope: Envelope) -> None:
        """Cancel the handling of this message, if it has begun."""
        task = self._in_flight.get(envelope)
        if task is not None:
            task.cancel()

    def take_in_flight(self) -> list[Envelope]:
        """Let go of everything, and say what it was."""
        dropped = list(self._in_flight)
        self._in_flight.clear()
        self._changed.set()
        return dropped

    async def wait_empty(self, limit_s: float) -> bool:
        """Wait until nothing is in hand; False if that takes longer than `limit_s`."""
        try:
            async with asyncio.timeout(limit_s):
                while self._in_flight:
                    self._changed.clear()
                    await self._changed.wait()
        except TimeoutError:
            return False
        return True

    async def serve(self, actor: Actor, group: asyncio.TaskGroup) -> None:
        """Take and handle for ever. Raises what a handler broke with."""
        if actor.concurrency == 1:
            await self._serve_in_order(actor)
        else:
            await self._serve_at_once(actor, group)

    async def _serve_in_order(self, actor: Actor) -> None:
        # No task for each message: the handler runs in the actor's own, which is several times faster.
        task = asyncio.current_task()
        assert task is not None
        while True:
            await self._mailbox.wait()
            envelope = self._mailbox.take_nowait()
            if envelope is None:
                continue
            batch_handler = actor.batch_handlers.get(type(envelope.message))
            if batch_handler is not None:
                await self._handle_batch(actor, batch_handler, envelope)
                continue
            self._in_flight[envelope] = task
            await self._handle(actor, envelope, task)
            self._done(envelope)

    async def _handle_batch(self, actor: Actor, handler: BatchHandler, first: Envelope) -> None:
        """Handle what waits of the same type together. Nobody's giving up cancels the others' work."""
        batch = self._mailbox.take_batch(first, actor.max_batch)
        self._in_flight.update(dict.fromkeys(batch))
        try:
            answers = await handler(actor, [envelope.message for envelope in batch])
        except actor.supervision.answered as error:
            for envelope in batch:
                self._refuse(envelope, error)
        else:
            if len(answers) != len(batch):
                raise TypeError(f"{len(batch)} x {first.kind} were handled and {len(answers)} answered")
            for envelope, answer in zip(batch, answers, strict=True):
                if envelope.reply is not None:
                    envelope.answer(_checked(answer, envelope))
        for envelope in batch:
            self._done(envelope)

    async def _serve_at_once(self, actor: Actor, group: asyncio.TaskGroup) -> None:
        while True:
            await self._mailbox.wait()
            while len(self._in_flight) >= actor.concurrency:
                self._changed.clear()
                await self._changed.wait()
            envelope = self._mailbox.take_nowait()
            if envelope is not None:
                task = group.create_task(self._handle_alone(actor, envelope))
                self._in_flight[envelope] = task
                task.add_done_callback(partial(self._task_done, envelope))

    async def _handle_alone(self, actor: Actor, envelope: Envelope) -> None:
        task = asyncio.current_task()
        assert task is not None
        await self._handle(actor, envelope, task)

    def _task_done(self, envelope: Envelope, task: asyncio.Task[None]) -> None:
        died = task.cancelled() or task.exception() is not None
        if not died or envelope.abandoned:
            self._done(envelope)  # else it stays in hand until the actor is buried

    def _done(self, envelope: Envelope) -> None:
        self.handled += 1
        self._in_flight.pop(envelope, None)
        self._changed.set()

    async def _handle(self, actor: Actor, envelope: Envelope, task: asyncio.Task[None]) -> None:
        """Handle one message and answer it. What is not to be answered ends the actor's life."""
        handler = actor.handlers.get(type(envelope.message))
        if handler is None:
            cls = type(actor).__name__
            self._refuse(
                envelope, UnhandledMessage(f"{self._name!r} ({cls}) has no handler for {envelope.kind}")
            )
            return
        cancelled_before = task.cancelling()
        try:
            answer = await handler(actor, envelope.message)
        except actor.supervision.answered as error:
            self._refuse(envelope, error)
        except asyncio.CancelledError as error:
            if task.cancelling() == cancelled_before:
                raise RuntimeError(f"the handler of {envelope.kind} cancelled itself") from error
            if not envelope.abandoned or task.uncancel() > cancelled_before:
                raise  # the actor is being stopped or killed, not just this message
        else:
            if envelope.reply is not None:
                envelope.answer(_checked(answer, envelope))
        if task.cancelling() > cancelled_before and envelope.abandoned:
            task.uncancel()  # the handler overheard that it was cancelled

    def _refuse(self, envelope: Envelope, error: Exception) -> None:
        if not envelope.fail(error) and envelope.reply is None:
            log.warning("message failed", message=envelope.kind, error=repr(error))


def _checked(answer: Message | None, envelope: Envelope) -> Message:
    if answer is None:
        raise TypeError(f"the handler of {envelope.kind} returned nothing to whoever asked")
    return answer
