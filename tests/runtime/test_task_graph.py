"""The executor of task graphs: order, failure, and what a visit may end."""

import anyio
import pytest

from agentfactory.runtime.task_graph import run_graph

NEEDS = {"d": ("b", "c"), "b": ("a",), "c": ("a",), "a": ()}


async def test_a_node_begins_once_all_that_it_needs_have_ended() -> None:
    ended: list[str] = []

    async def visit(node: str) -> bool:
        assert set(NEEDS[node]) <= set(ended)
        await anyio.lowlevel.checkpoint()
        ended.append(node)
        return True

    with anyio.fail_after(5):
        await run_graph(NEEDS, visit)
    assert ended == ["a", "b", "c", "d"]


async def test_nodes_that_do_not_need_one_another_run_at_the_same_time() -> None:
    both = {"b": anyio.Event(), "c": anyio.Event()}

    async def visit(node: str) -> bool:
        if node in both:
            both[node].set()
            for event in both.values():
                await event.wait()
        return True

    with anyio.fail_after(5):
        await run_graph(NEEDS, visit)


async def test_a_visit_that_says_so_cancels_all_others() -> None:
    begun: list[str] = []

    async def visit(node: str) -> bool:
        begun.append(node)
        if node == "b":
            await anyio.sleep_forever()
        return node != "c"

    with anyio.fail_after(5):
        await run_graph(NEEDS, visit)
    assert begun == ["a", "b", "c"]


async def test_an_error_of_a_visit_is_raised_as_it_is() -> None:
    async def visit(node: str) -> bool:
        raise KeyError(node)

    with pytest.raises(KeyError, match="a"):
        await run_graph(NEEDS, visit)
