"""Reads plans, as JSON or as ReAct's lines, and refuses those that cannot be carried out.

    {"steps": [{"id": "a", "tool": "python", "input": "print(6*7)"},
               {"id": "b", "tool": "write_file", "input": {"path": "n.txt", "content": "$a"}}]}

    Thought: Compute, then keep it.
    Action: python
    Input: print(6*7)
    Action: write_file
    Input: {"path": "n.txt", "content": "$1"}

The steps of the second form are called 1, 2, … and each needs the one before.
"""

from collections.abc import Collection, Mapping
from graphlib import CycleError, TopologicalSorter
from typing import Final

from pydantic import JsonValue, ValidationError

from ....configs.errors import BadInput
from ....configs.tools import PlanSettings
from ....messages.pipelines import Plan, PlanStep
from ..calls.lenient_json import read_literal, skip_space
from ..calls.react import next_label, read_action
from .template_refs import references

_LISTED: Final = 8
MAX_CHARACTERS: Final = 1_000_000


class BadPlan(BadInput):
    """A plan that cannot be carried out: nothing of it was. One sentence says why."""


def read_plan(text: str) -> Plan:
    """A plan of either form; a JSON list is its steps. Raises BadPlan."""
    if len(text) > MAX_CHARACTERS:
        raise BadPlan(f"the plan has {len(text)} characters, at most {MAX_CHARACTERS} are read")
    at = skip_space(text, 0)
    if text[at : at + 1] not in ("{", "["):
        return _read_react(text)
    found = read_literal(text, at)
    if found is None or found.cut or text[found.end :].strip():
        raise BadPlan("the plan is not valid JSON")
    try:
        return Plan.model_validate({"steps": found.value} if isinstance(found.value, list) else found.value)
    except ValidationError as error:
        problem = error.errors(include_url=False, include_input=False)[0]
        where = ".".join(str(part) for part in problem["loc"])
        raise BadPlan(f"the plan's {where or 'JSON'} is wrong: {problem['msg']}") from None


def _read_react(text: str) -> Plan:
    steps: list[PlanStep] = []
    label = next_label(text, 0)
    while label is not None:
        kind, start = label.lastgroup, label.end()
        label = next_label(text, start)
        if kind != "action":
            continue
        content = text[start : label.start() if label else len(text)]
        given: str | None = None
        if label is not None and label.lastgroup == "input":
            after = next_label(text, label.end())
            given = text[label.end() : after.start() if after else len(text)]
            label = after
        call = read_action(content, given, {})
        number = str(len(steps) + 1)
        if call is None:
            raise BadPlan(f"the plan's step {number} names no tool, or has no input")
        steps.append(PlanStep(id=number, tool=call.tool, input=_as_value(call.input)))
    if not steps:
        raise BadPlan("the plan is empty: write JSON with `steps`, or lines with `Action:` and `Input:`")
    return Plan(steps=tuple(steps), sequential=True)


def _as_value(text: str) -> JsonValue:
    """An input that is an object as a whole, else the text."""
    found = read_literal(text, 0) if text.startswith("{") else None
    return found.value if found and found.end == len(text) and not found.cut else text


def needs_of(plan: Plan, tools: Collection[str], settings: PlanSettings) -> Mapping[str, frozenset[str]]:
    """For each step the steps that it needs.

    Raises BadPlan for too many steps, two of one name, a tool or a step that is not there, and for steps
    that need one another in a circle.
    """
    if len(plan.steps) > settings.max_steps:
        raise BadPlan(f"the plan has {len(plan.steps)} steps, at most {settings.max_steps} are allowed")
    ids = [step.id for step in plan.steps]
    needs: dict[str, frozenset[str]] = {}
    for number, step in enumerate(plan.steps):
        if step.id in needs:
            raise BadPlan(f"two steps of the plan are called {step.id}")
        if step.tool not in tools:
            raise BadPlan(f"step {step.id}: there is no tool {step.tool}; the tools are: {_names(tools)}")
        wanted = {*references(step.input), *step.after}
        unknown = sorted(wanted.difference(ids))
        if unknown:
            raise BadPlan(
                f"step {step.id}: there is no step {unknown[0]}; the steps are: {_names(ids)}"
                " (write $$ for a dollar sign)"
            )
        before = {ids[number - 1]} if plan.sequential and number else set()
        needs[step.id] = frozenset(wanted | before)
    try:
        TopologicalSorter(needs).prepare()
    except CycleError as error:
        raise BadPlan(f"steps need one another in a circle: {' → '.join(error.args[1])}") from None
    return needs


def _names(names: Collection[str]) -> str:
    shown = list(names)[:_LISTED]
    return ", ".join(shown) + (", …" if len(names) > _LISTED else "") if shown else "none"
