"""`agentfactory route`: a task answered by the first model that is sure enough."""

from __future__ import annotations

import argparse
import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from ..configs.errors import BadInput
from ..configs.printable import printable
from .arguments import AddParser

if TYPE_CHECKING:
    from rich.console import Console

    from ..bridge.client.tiered_store import BlobCache
    from ..cluster.data_plane.process_supervisor import ServicePlan
    from ..configs.chat_models import RouterSettings
    from ..messages.routing import RouteCandidate, Routed, RouteDecision

COLOURS = {"taken": "green", "unsure": "yellow", "failed": "red", "skipped": "dim", "not_needed": "dim"}
COLUMNS = ("model", "outcome", "confidence", "expected", "cost", "seconds", "why")


def add_route_command(add_parser: AddParser) -> None:
    """Add it to the parser. Nothing heavy is imported until it runs."""
    parser = add_parser("route", help="have a task answered by the first model that is sure enough")
    parser.add_argument("task", metavar="TASK")
    parser.add_argument("--models", metavar="FILE.yaml", help="a router's settings (the seed model alone)")
    parser.add_argument("--explain", action="store_true", help="show which models were considered, and why")
    parser.add_argument("--json", action="store_true", help="print one JSON object to stdout")
    parser.add_argument(
        "--preset",
        default="laptop",
        help="a preset or a .yaml file, for its `data` section, where replies are kept",
    )
    parser.set_defaults(command=route)


def route(options: argparse.Namespace) -> int:
    """Answer a task; with `--explain`, show how the answer was found, or why there is none."""
    from rich.console import Console

    from ..cluster.data_plane.services import running_plan
    from ..configs.chat_models import RouterSettings
    from ..configs.load import load_section, load_settings
    from ..runtime.llm.routing import NoAnswer
    from ..runtime.telemetry import LogSettings, configure_logging

    if not options.task.strip():
        raise BadInput("the task is empty; say what is to be answered")
    settings = (
        RouterSettings() if options.models is None else load_section(Path(options.models), RouterSettings)
    )
    plan = running_plan(Path(load_settings(options.preset).data.folder).resolve())
    console = Console(stderr=options.json)
    configure_logging(LogSettings(level="error", format="console"))
    try:
        routed = asyncio.run(_routed(options.task, settings, plan))
    except NoAnswer as error:
        if options.explain:
            show_decision(console, error.decision)
        raise
    if options.json:
        print(routed.model_dump_json())
    else:
        print(printable(routed.reply.text, lines=True))
    if options.explain:
        show_decision(console, routed.decision)
    return 0


async def _routed(task: str, settings: RouterSettings, plan: ServicePlan | None) -> Routed:
    from ..runtime.llm.routing import Router

    async with _cache(plan) as tier, Router(settings, tier=tier) as router:
        return await router.ask(task)


@asynccontextmanager
async def _cache(plan: ServicePlan | None) -> AsyncIterator[BlobCache | None]:
    """The cache of the data plane that is up, if one is."""
    if plan is None:
        yield None
        return
    from ..cluster.data_plane.tiers import open_tiers  # slow to import, and seldom needed here

    async with open_tiers(plan.data) as tiers:
        yield tiers.cache


def show_decision(console: Console, decision: RouteDecision) -> None:
    """A table at a terminal; elsewhere a line for each model, its columns parted by tabs."""
    from ..terminal.tables import show_rows

    rows = [_row(each) for each in decision.considered]
    show_rows(console, COLUMNS, rows, [COLOURS[each.outcome] for each in decision.considered])
    print(_summary(decision), file=console.file)


def _row(seen: RouteCandidate) -> tuple[str, ...]:
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


def _expected(seen: RouteCandidate) -> str:
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
