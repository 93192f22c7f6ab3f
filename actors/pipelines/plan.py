"""A pipeline with its actions and variables: everything that can be wrong is found before anything runs."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Final, Self

from pydantic import ValidationError

from actors.environment import ACTIONS
from actors.pipelines.outputs import OUTPUTS, outputs_of
from configs.errors import BadInput
from configs.pipelines import PIPELINE, PipelineAgent, PipelineSpec, PipelineStep, nearest
from configs.references import Reference, fill, references_in
from messages.data import Action, Param
from messages.pipelines import StepOutput

Outputs = Mapping[str, Param]
SPECIALISTS: Final = {
    "ingestor": ("assimilate",),
    "retriever": ("query", "retrieve", "prune"),
}
"""What they may do; any other agent may do all."""


class BadPipeline(BadInput):
    """A pipeline that cannot run as it is. Nothing of it has."""


class NothingThere(BadInput):
    """An output that a step needs is empty, as the first match of a query that matched nothing."""


@dataclass(frozen=True)
class PlannedStep:
    """A step whose action is known."""

    spec: PipelineStep
    agent: PipelineAgent
    action: str
    inputs: Outputs
    """The action's parameters, with the agent's defaults and with `${…}` as they stand."""
    needs: tuple[str, ...]
    retries: int
    timeout_s: float

    @property
    def offered(self) -> tuple[str, ...]:
        """The names of its outputs."""
        return tuple(self.spec.outputs) or OUTPUTS[self.action]


@dataclass(frozen=True)
class Plan:
    """A pipeline that can run."""

    spec: PipelineSpec
    steps: Mapping[str, PlannedStep]
    """By name, in the file's order."""
    variables: Outputs

    @classmethod
    def of(cls, spec: PipelineSpec, given: Outputs | None = None) -> Self:
        """Check the pipeline with these variables. Raises BadPipeline."""
        steps = {step.id: _planned(spec, step) for step in spec.steps}
        variables = _variables(spec, given or {})
        for step in steps.values():
            for reference in step.spec.references:
                if reference.owner != PIPELINE and reference.key not in steps[reference.owner].offered:
                    known = steps[reference.owner].offered
                    raise BadPipeline(
                        f"{step.spec.id}: {reference}: {reference.owner!r} has no output {reference.key!r}; "
                        f"{nearest(reference.key, known)}"
                    )
            _check_values(step, variables)
        return cls(spec, steps, variables)

    def action(self, step: PlannedStep, outputs: Mapping[str, Outputs]) -> Action:
        """The step's action, with the outputs of what came before it. Raises NothingThere."""

        def value_of(reference: Reference) -> Param:
            if reference.owner == PIPELINE:
                return self.variables[reference.key]
            value = outputs[reference.owner][reference.key]
            if value is None:
                raise NothingThere(f"{reference} is empty: {reference.owner!r} has found nothing of the kind")
            return value

        filled = {key: _filled(value, value_of) for key, value in step.inputs.items()}
        return Action.of(step.action, **filled)

    def outputs(self, done: StepOutput) -> Outputs:
        """What later steps may use of a step that is done."""
        found = outputs_of(done.result) if done.result is not None else {}
        names = self.steps[done.step].spec.outputs
        return {new: found[key] for new, key in names.items()} if names else found

    def kept(self, earlier: Mapping[str, StepOutput]) -> dict[str, StepOutput]:
        """The outcomes of an earlier run that are still good: the same action, after kept steps only."""
        kept: dict[str, StepOutput] = {}
        outputs: dict[str, Outputs] = {}
        for name in self.spec.sorted_steps():
            step, before = self.steps[name], earlier.get(name)
            if before is None or not before.done or not all(needed in kept for needed in step.needs):
                continue
            try:
                same = before.action == self.action(step, outputs)
            except NothingThere:
                continue  # it fails again, and says so
            if same:
                kept[name], outputs[name] = before, self.outputs(before)
        return kept


def actions_of(agent: PipelineAgent) -> tuple[str, ...]:
    """What an agent of a pipeline may do."""
    kind = agent.type or agent.blueprint.removesuffix("_agent")
    return SPECIALISTS.get(kind, tuple(ACTIONS))


def _planned(spec: PipelineSpec, step: PipelineStep) -> PlannedStep:
    agent = spec.agents[step.agent]
    name = _chosen(step, agent)
    planned = PlannedStep(
        spec=step,
        agent=agent,
        action=name,
        inputs=_defaults(agent, name) | step.inputs,
        needs=spec.needs(step),
        retries=spec.retries if step.retries is None else step.retries,
        timeout_s=spec.timeout_s if step.timeout_s is None else step.timeout_s,
    )
    for key in step.outputs.values():
        if key not in OUTPUTS[name]:
            raise BadPipeline(
                f"{step.id}: outputs: {name} has no output {key!r}; {nearest(key, OUTPUTS[name])}"
            )
    return planned


def _chosen(step: PipelineStep, agent: PipelineAgent) -> str:
    """The action that the step names, or the first that takes its inputs. Raises BadPipeline."""
    allowed = actions_of(agent)
    if step.action and step.action not in allowed:
        raise BadPipeline(
            f"{step.id}: {step.agent!r} cannot do {step.action!r}; {nearest(step.action, allowed)}"
        )
    candidates = (step.action,) if step.action else allowed
    misfits = {name: _misfit(name, _defaults(agent, name) | step.inputs) for name in candidates}
    for name, misfit in misfits.items():
        if not misfit:
            return name
    reasons = "; ".join(f"{name}: {misfit}" for name, misfit in misfits.items())
    raise BadPipeline(f"{step.id}: the inputs fit no action of {step.agent!r}: {reasons}")


def _misfit(name: str, inputs: Outputs) -> str:
    """Why an action does not take inputs of these names; empty if it does."""
    fields = ACTIONS[name].model_fields
    for key in inputs:
        if key not in fields:
            return f"it has no input {key!r}, {nearest(key, fields)}"
    missing = [key for key, field in fields.items() if field.is_required() and key not in inputs]
    return f"it needs {', '.join(map(repr, missing))}" if missing else ""


def _defaults(agent: PipelineAgent, action: str) -> dict[str, Param]:
    if action == "assimilate":
        return {"dst": agent.default_tag, "format": agent.default_format}
    if action in ("query", "list_blobs") and agent.default_tag_pattern:
        return {"tag_pattern": agent.default_tag_pattern}
    return {}


def _variables(spec: PipelineSpec, given: Outputs) -> Outputs:
    """The given ones before the pipeline's own. Raises BadPipeline for one too many, or too few."""
    used = {
        reference.key: f"{step.id}: {reference}"
        for step in reversed(spec.steps)
        for reference in step.references
        if reference.owner == PIPELINE
    }
    known = {**spec.variables, **given}
    for key, where in used.items():
        if key not in known:
            hint = f"; {nearest(key, known)}" if known else ""
            raise BadPipeline(f"{where}: there is no variable {key!r}{hint} Give it as {key}=VALUE")
    for key in given:
        if key not in used and key not in spec.variables:
            raise BadPipeline(f"{key}: no step uses ${{{PIPELINE}.{key}}}; {nearest(key, used)}")
    return known


def _check_values(step: PlannedStep, variables: Outputs) -> None:
    """Check what is known already, the texts without `${step.key}`. Raises BadPipeline."""
    waiting = {key for key, value in step.inputs.items() if _waits(value)}
    known = {
        key: _filled(value, lambda reference: variables[reference.key])
        for key, value in step.inputs.items()
        if key not in waiting
    }
    try:
        ACTIONS[step.action].model_validate(known)
    except ValidationError as error:
        for found in error.errors(include_url=False):
            key = str(found["loc"][0])
            if key not in waiting:
                raise BadPipeline(
                    f"{step.spec.id}: inputs.{key}: {found['msg']}, found {known.get(key)!r}"
                ) from error


def _filled(value: Param, value_of: Callable[[Reference], Param]) -> Param:
    """The value with its references replaced; a list inside a list becomes part of it."""
    if isinstance(value, str):
        return fill(value, value_of, _in_words)
    if not isinstance(value, tuple):
        return value
    items: list[str] = []
    for text in value:
        item = fill(text, value_of, _in_words)
        items += item if isinstance(item, tuple) else (_in_words(item),)
    return tuple(items)


def _in_words(value: Param) -> str:
    """A value inside a text."""
    if isinstance(value, bool):
        return str(value).lower()
    return ", ".join(value) if isinstance(value, tuple) else str(value)


def _waits(value: Param) -> bool:
    return any(reference.owner != PIPELINE for text in _texts(value) for reference in references_in(text))


def _texts(value: Param) -> Iterable[str]:
    return (value,) if isinstance(value, str) else value if isinstance(value, tuple) else ()
