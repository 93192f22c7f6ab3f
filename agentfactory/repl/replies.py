"""Replies at the prompt: lines for people, and the same as data for programs."""

import sys
from collections.abc import Iterable
from typing import TYPE_CHECKING, Final, NamedTuple

from pydantic import JsonValue

from ..configs.printable import printable
from ..messages.conversations import AgentReply, ClarificationRequest, Routing
from ..messages.data import ActionError, ListResult, QueryResult, Retrieved, StepResult

if TYPE_CHECKING:
    from ..actors.agents.session import SessionStatistics

SHOWN_CHARACTERS: Final = 4000
"""Of a blob."""
SHOWN_ROWS: Final = 50
"""Of a listing."""
_STYLES: Final = {"route": "36", "good": "32", "bad": "31", "dim": "2", "bold": "1"}
"""ANSI colours, at a terminal."""


class ReplyLine(NamedTuple):
    """A line, or several with line breaks between them, and how it looks."""

    text: str
    style: str = ""


class CommandReply(NamedTuple):
    """Reply to one input."""

    lines: tuple[ReplyLine, ...]
    data: dict[str, JsonValue]
    ok: bool = True


def of_routing(routing: Routing) -> tuple[ReplyLine, ...]:
    """Lines on where a command went, or what is asked back."""
    if isinstance(routing, ClarificationRequest):
        return ReplyLine(f"  ? {routing.question}", "route"), ReplyLine(f"    ({routing.reason})", "dim")
    why = routing.reason if routing.score is None else f"{routing.reason}, {routing.score:.2f}"
    return (ReplyLine(f"  → Coordinator routing to {routing.role!r} agent ({why})", "route"),)


def of_said(said: AgentReply) -> tuple[ReplyLine, ...]:
    """Lines on a command's outcome; none where a question was asked, which was shown already."""
    if said.result is None:
        return ()
    style = "good" if said.ok else "bad"
    return (
        ReplyLine(f"  {said.result.observation.text}  [{said.result.reward:+.2f}]", style),
        *_content(said.result),
    )


def of_statistics(agent: str, statistics: "SessionStatistics | None") -> CommandReply:
    """`status`."""
    if statistics is None:
        return CommandReply((ReplyLine(f"{agent}: no steps yet"),), {"agent": agent, "steps": 0})
    asked = statistics.hits + statistics.misses
    rate = "none retrieved yet" if statistics.hit_rate is None else f"{statistics.hit_rate:.0%} of {asked}"
    lines = (
        ReplyLine(f"agent           {agent}"),
        ReplyLine(f"steps           {statistics.steps}"),
        ReplyLine(f"total reward    {statistics.reward:+.2f}"),
        ReplyLine(f"cache hit rate  {rate} ({statistics.hits} hits, {statistics.misses} misses)"),
        ReplyLine(f"refused         {statistics.refused}"),
    )
    data: dict[str, JsonValue] = {"agent": agent, **statistics._asdict(), "hit_rate": statistics.hit_rate}
    del data["episodes"]
    return CommandReply(lines, data)


def of_history(history: Iterable[AgentReply]) -> CommandReply:
    """`history`."""
    steps = [said for said in history if said.result is not None]
    lines = [ReplyLine(_step(number, said)) for number, said in enumerate(steps, start=1)]
    data: dict[str, JsonValue] = {"steps": [said.model_dump(mode="json") for said in steps]}
    return CommandReply(tuple(lines) or (ReplyLine("no steps yet"),), data)


def colours_wanted() -> bool:
    """True if a person is looking."""
    return sys.stdout.isatty()


def show(lines: Iterable[ReplyLine], *, colours: bool) -> None:
    """Print them."""
    for line in lines:
        code = _STYLES.get(line.style) if colours else None
        print(f"\x1b[{code}m{line.text}\x1b[0m" if code else line.text, flush=True)


def _content(result: StepResult) -> tuple[ReplyLine, ...]:
    match result.observation.data:
        case Retrieved(content=bytes() as content, tag=tag, blob_name=name):
            return _text(content, f"`agentfactory get {tag} {name}` has all of it")
        case QueryResult(matches=matches):
            return _rows([f"{each.tag}/{each.blob_name}  {each.size:,} bytes" for each in matches])
        case ListResult(blobs=blobs):
            return _rows([f"{each.tag}/{each.name}  {each.size:,} bytes" for each in blobs])
    return ()


def _text(content: bytes, more: str) -> tuple[ReplyLine, ...]:
    try:
        text = content.decode()
    except UnicodeDecodeError:
        return (ReplyLine("  (no text)", "dim"),)
    shown = printable(text[:SHOWN_CHARACTERS], lines=True).strip()
    rest = len(text) - SHOWN_CHARACTERS
    lines = (ReplyLine("\n".join(f"  | {line}".rstrip() for line in shown.splitlines())),)
    return (*lines, ReplyLine(f"  … {rest:,} characters more; {more}", "dim")) if rest > 0 else lines


def _rows(rows: list[str]) -> tuple[ReplyLine, ...]:
    shown = [ReplyLine(f"    {printable(row)}") for row in rows[:SHOWN_ROWS]]
    rest = len(rows) - SHOWN_ROWS
    return (*shown, ReplyLine(f"    … {rest:,} more", "dim")) if rest > 0 else tuple(shown)


def _step(number: int, said: AgentReply) -> str:
    assert said.result is not None
    data = said.result.observation.data
    what = said.action.name if said.action is not None else "nothing"
    params = (
        ", ".join(f"{key}={value!r}" for key, value in said.action.params) if said.action else said.command
    )
    note = f"  {data.error}" if isinstance(data, ActionError) else ""
    return f"{number:>3}  {said.result.reward:+.2f}  {said.agent}  {what}({params}){note}"
