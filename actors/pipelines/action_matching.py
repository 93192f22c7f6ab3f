"""Matching of a pipeline step's inputs to the action that takes them, and checks of their values."""

from collections.abc import Mapping, Sequence
from typing import Final

from pydantic import ValidationError

from ...configs.agents.pipelines import PIPELINE
from ...configs.agents.references import references_of, substitute
from ...configs.agents.settings import AgentSettings
from ...configs.load import suggest
from ...messages.data import Param
from ..environment import ACTIONS

_BY_PATTERN: Final = ("query", "list_blobs")


def match_action(
    named: str, allowed: Sequence[str], inputs: Mapping[str, Param], agent: AgentSettings
) -> tuple[str, str]:
    """The named action, or the first that takes inputs of these names; and why there is none, if so."""
    if named and named not in allowed:
        return "", f"cannot do {named!r}; {suggest(named, tuple(allowed), 'it can do')}"
    candidates = {action: with_defaults(action, inputs, agent) for action in ((named,) if named else allowed)}
    for action, names in candidates.items():
        if _fits(action, names):
            return action, ""
    reasons = "; ".join(f"{action} {_misfit(action, names)}" for action, names in candidates.items())
    return "", f"can do nothing with these inputs: {reasons}"


def with_defaults(action: str, inputs: Mapping[str, Param], agent: AgentSettings) -> dict[str, Param]:
    """The inputs, with what the agent means where a step does not say it.

    A query or a listing takes a `tag` for its pattern; `exact_inputs` says so.
    """
    defaults: dict[str, Param] = {}
    if action == "assimilate":
        defaults["dst"] = agent.default_tag
        if agent.default_format is not None:
            defaults["format"] = agent.default_format
    elif action in _BY_PATTERN:
        defaults["tag_pattern"] = agent.default_tag_pattern
        if exact_inputs(action, inputs):
            inputs = {"tag_pattern" if key == "tag" else key: value for key, value in inputs.items()}
    return {**defaults, **inputs}


def exact_inputs(action: str, inputs: Mapping[str, Param]) -> tuple[str, ...]:
    """The patterns of an action that a step gives as names: one tag, to the letter."""
    given = action in _BY_PATTERN and "tag" in inputs and "tag_pattern" not in inputs
    return ("tag_pattern",) if given else ()


def check_values(action: str, inputs: Mapping[str, Param], variables: Mapping[str, Param]) -> str:
    """Check the values that are known before anything runs. Returns what is wrong; empty for nothing."""
    known = {
        key: substitute(value, lambda reference: variables[reference.key])
        for key, value in inputs.items()
        if all(reference.owner == PIPELINE for reference in references_of(value))
    }
    try:
        ACTIONS[action].model_validate(known)
    except ValidationError as error:
        for found in error.errors(include_url=False):
            key = str(found["loc"][0])
            if key in known:
                return f"inputs.{key}: {found['msg']}, found {known[key]!r}"
    return ""


def _fits(action: str, inputs: Mapping[str, Param]) -> bool:
    """True if an action takes inputs of these names."""
    fields = ACTIONS[action].model_fields
    return inputs.keys() <= fields.keys() and not _missing(action, inputs)


def _missing(action: str, inputs: Mapping[str, Param]) -> list[str]:
    fields = ACTIONS[action].model_fields.items()
    return [key for key, field in fields if field.is_required() and key not in inputs]


def _misfit(action: str, inputs: Mapping[str, Param]) -> str:
    """Reason why an action does not take inputs of these names."""
    fields = ACTIONS[action].model_fields
    for key in inputs:
        if key not in fields:
            return f"has no input {key!r}, {suggest(key, tuple(fields), 'it has')}"
    return f"needs {', '.join(_missing(action, inputs))}"
