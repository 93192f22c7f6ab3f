"""What `agentfactory route` does, once its arguments are read."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console

from ..cluster.data_plane.services import ServicePlan, running_plan
from ..configs.chat_models import RouterSettings
from ..configs.errors import BadInput
from ..configs.load import load_section, load_settings
from ..configs.printable import printable
from ..messages.routing import Considered, Routed, RouteDecision
from ..runtime.llm.routing import NoAnswer, Router
from ..runtime.telemetry import LogSettings, configure_logging
from ..terminal.tables import show_rows

if TYPE_CHECKING:
    from ..bridge.client.tiered_store import BlobCache

COLOURS = {"taken": "green", "unsure": "yellow", "failed": "red", "skipped": "dim", "not_needed": "dim"}
COLUMNS = ("model", "outcome", "confidence", "expected", "cost", "seconds", "why")


def route(task: str, *, models: str | None, preset: str, explain: bool, as_json: bool) -> int:
    """Answer a task; with `explain`, show how the answer was found, or why there is none."""
    if not task.strip():
        raise BadInput("the task is empty; say what is to be answered")
    settings = RouterSettings() if models is None else load_section(Path(models), RouterSettings)
    plan = running_plan(Path(load_settings(preset).data.folder).resolve())
    console = Console(stderr=as_json)
    configure_logging(LogSettings(level="error", format="console"))
    try:
        routed = asyncio.run(_routed(task, settings, plan))
    except NoAnswer as error:
        if explain:
            show_decision(console, error.decision)
        raise
    if as_json:
        print(routed.model_dump_json())
    else:
        print(printable(routed.reply.text, lines=True))
    if explain:
        show_decision(console, routed.decision)
    return 0


async def _routed(task: str, settings: RouterSettings, plan: ServicePlan | None) -> Routed:
    async with _cache(plan) as tier, Router(settings, tier=tier) as router:
        return await router.ask(task)


@asynccontextmanager
async def _cache(plan: ServicePlan | None) -> "AsyncIterator[BlobCache | None]":
    """The cache of the data plane that is up, if one is."""
    if plan is None:
        yield None
        return
    from ..cluster.data_plane.tiers import open_tiers  # slow to import, and seldom needed here

    async with open_tiers(plan.data) as tiers:
        yield tiers.cache


def show_decision(console: Console, decision: RouteDecision) -> None:
    """A table at a terminal; elsewhere a line for each model, its columns parted by tabs."""
    rows = [_row(each) for each in decision.considered]
    show_rows(console, COLUMNS, rows, [COLOURS[each.outcome] for each in decision.considered])
    print(_summary(decision), file=console.file)


def _row(seen: Considered) -> tuple[str, ...]:
    sure = "-" if seen.confidence is None else f"{seen.confidence.value:.2f} {seen.confidence.origin}"
    asked = seen.outcome in {"taken", "unsure", "failed"}
    return (
        seen.model,
        seen.outcome,
        sure,
        _expected(seen),
        f"{seen.cost:.6g}" if asked else "-",
        f"{seen.latency_s:.2f}" if asked else "-",
        " ".join(seen.reason.split()),
    )


def _expected(seen: Considered) -> str:
    if seen.estimate is None:
        return "-"
    latency = "" if seen.estimate.latency_s is None else f", {seen.estimate.latency_s:.2f} s"
    return f"{seen.estimate.cost:.6g}{latency}"


def _summary(decision: RouteDecision) -> str:
    took = f"cost {decision.cost:.6g}, {decision.tokens} tokens, {decision.latency_s:.2f} s"
    if decision.cache_hit:
        return f"decision {decision.decision_id}: kept from before, by {decision.model}; {took}"
    if decision.model is None:
        return f"decision {decision.decision_id}: no answer; {took}"
    sure = "sure enough" if decision.accepted else "the surest there was, below the threshold"
    return f"decision {decision.decision_id}: {decision.model}, {sure}; {took}"
