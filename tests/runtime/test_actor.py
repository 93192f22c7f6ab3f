from collections.abc import Sequence

import pytest
from players import Add, Player, Total

from agentfactory.messages.base import Done, Message, Request
from agentfactory.runtime.actor import Actor


class Later(Request["Answer"]):
    pass


class Answer(Message):
    pass


def test_handlers_are_found_by_their_annotation() -> None:
    assert Player.handlers[Add] is Player.add
    assert Actor.handlers == {}


def test_a_subclass_inherits_handlers_and_may_replace_them() -> None:
    class Louder(Player):
        async def add_louder(self, message: Add) -> Total:
            return Total(value=message.amount * 10)

    assert Louder.handlers[Add] is Louder.add_louder
    assert Player.handlers[Add] is Player.add


def test_two_handlers_for_one_message_are_an_error_of_the_class() -> None:
    with pytest.raises(TypeError, match="both one and two handle Add"):

        class Torn(Actor):
            async def one(self, message: Add) -> Total: ...

            async def two(self, message: Add) -> Total: ...


def test_a_batch_handler_replaces_the_one_for_single_messages() -> None:
    class Many(Player):
        async def add_many(self, messages: Sequence[Add]) -> Sequence[Total]: ...

    assert Many.batch_handlers == {Add: Many.add_many}
    assert Add not in Many.handlers

    class One(Many):
        async def add_one(self, message: Add) -> Total: ...

    assert One.batch_handlers == {}
    assert One.handlers[Add] is One.add_one


def test_a_batch_handler_must_answer_with_as_many() -> None:
    with pytest.raises(TypeError, match="must answer Add with a sequence of Total"):

        class Wrong(Actor):
            async def add(self, messages: Sequence[Add]) -> Total: ...


def test_batches_need_an_actor_that_keeps_order() -> None:
    with pytest.raises(TypeError, match=r"Wrong: .*concurrency 1"):

        class Wrong(Actor):
            concurrency = 2

            async def add(self, messages: Sequence[Add]) -> Sequence[Total]: ...


def test_a_handler_must_answer_what_the_request_names() -> None:
    with pytest.raises(TypeError, match=r"Wrong\.add must answer Add with Total, but .*Done"):

        class Wrong(Actor):
            async def add(self, message: Add) -> Done: ...


def test_a_request_may_name_an_answer_of_further_down() -> None:
    class Right(Actor):
        async def later(self, message: Later) -> Answer:
            return Answer()

    assert Later in Right.handlers
    with pytest.raises(TypeError, match="must answer Later with Answer"):

        class Wrong(Actor):
            async def later(self, message: Later) -> Done: ...


def test_other_methods_are_no_handlers() -> None:
    class Busy(Actor):
        async def helper(self, count: int) -> int:
            return count

        async def _private(self, message: Add) -> Total: ...

        def plain(self, message: Add) -> Total: ...

    assert Busy.handlers == {}
