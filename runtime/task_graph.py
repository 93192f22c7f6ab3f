"""Executor of a directed acyclic graph of tasks: pipelines' steps, and the tool calls of a plan.

Consumes the graph and one coroutine function; waits for nothing but the nodes; unblocked by their ends.

Invariants: a node begins once all that it needs have ended, and at once then; whether it has something to do
after a failure, and how many may work at the same time, is decided by the coroutine function.
"""

from collections.abc import Awaitable, Callable, Collection, Mapping
from graphlib import TopologicalSorter

from anyio.abc import TaskGroup

from .tasks import task_group


async def run_graph(needs: Mapping[str, Collection[str]], visit: Callable[[str], Awaitable[bool]]) -> None:
    """Visit every node, each in a task of its own. Raises the first error of a visit, and CycleError.

    `needs`: for each node those that must have ended before; of several that may begin, the first of the
    mapping begins first. A visit that returns False cancels all that run, and no further node begins.
    """
    sorter: TopologicalSorter[str] = TopologicalSorter()
    for node in needs:
        sorter.add(node)  # first by itself, so that the mapping's order is kept
    for node, needed in needs.items():
        sorter.add(node, *needed)
    sorter.prepare()

    async def run(node: str, group: TaskGroup) -> None:
        if not await visit(node):
            group.cancel_scope.cancel()
            return
        sorter.done(node)
        begin_ready(group)

    def begin_ready(group: TaskGroup) -> None:
        for node in sorter.get_ready():
            group.start_soon(run, node, group)

    async with task_group() as group:
        begin_ready(group)
