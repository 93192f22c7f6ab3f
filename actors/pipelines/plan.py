"""Plan of a pipeline with its agents and variables: what can be wrong is found before anything runs."""

import glob
from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple, Self

from ...configs.agents.pipelines import PIPELINE, BlueprintAgent, PipelineSpec, PipelineStep
from ...configs.agents.references import Reference, substitute
from ...configs.agents.settings import AgentSettings, IngestorAgentSettings, RetrieverAgentSettings
from ...configs.errors import BadInput
from ...configs.load import suggest
from ...messages.data import Action, Param
from ...messages.pipelines import StepOutput
from ..agents.rule_agents import INGESTOR_ACTIONS, RETRIEVER_ACTIONS
from ..environment import ACTIONS
from .action_matching import check_values, exact_inputs, match_action, with_defaults
from .outputs import OUTPUTS, outputs_of

Outputs = Mapping[str, Param]


class BadPipeline(BadInput):
    """A pipeline that cannot run as it is. Nothing of it has."""


class MissingOutput(BadInput):
    """An output that a step needs is empty, as the first match of a query that matched nothing."""


class StepRequest(NamedTuple):
    """Request of a step to its agent: an action, or what the agent makes of an instruction."""

    action: Action | None
    instruction: str = ""


@dataclass(frozen=True)
class PlannedStep:
    """A step that can be taken once those that it needs are done."""

    spec: PipelineStep
    agent: AgentSettings
    action: str
    """Empty where the agent decides."""
    inputs: Outputs
    """The action's parameters, with the agent's defaults and with `${…}` as they stand."""
    needs: tuple[str, ...]
    retries: int
    timeout_s: float
    exact: tuple[str, ...] = ()
    """Inputs that are names where the action takes a pattern."""

    @property
    def offered(self) -> tuple[str, ...]:
        """The names of its outputs."""
        return tuple(self.spec.outputs) or self.given

    @property
    def given(self) -> tuple[str, ...]:
        """The names of what its action gives; of all that the agent may do, where it decides."""
        actions = (self.action,) if self.action else actions_of(self.agent)
        return tuple(dict.fromkeys(name for action in actions for name in OUTPUTS[action]))


@dataclass(frozen=True)
class PipelinePlan:
    """A pipeline that can run."""

    spec: PipelineSpec
    steps: Mapping[str, PlannedStep]
    """By name, in the file's order."""
    variables: Outputs

    @classmethod
    def of(
        cls,
        spec: PipelineSpec,
        given: Outputs | None = None,
        blueprints: Mapping[str, AgentSettings] | None = None,
    ) -> Self:
        """Check the pipeline with these variables. Raises BadPipeline.

        `blueprints` are the agents of the roles that name one, by role.
        """
        steps = {step.id: _planned(spec, step, blueprints or {}) for step in spec.steps}
        variables = _variables(spec, given or {})
        for step in steps.values():
            _check_outputs(step, steps)
            if step.action:
                problem = check_values(step.action, step.inputs, variables)
                if problem:
                    raise BadPipeline(f"{step.spec.id}: {problem}")
        return cls(spec, steps, variables)

    def request(self, step: PlannedStep, outputs: Mapping[str, Outputs]) -> StepRequest:
        """Request of a step, with the outputs of what came before it. Raises MissingOutput."""

        def value_of(reference: Reference) -> Param:
            if reference.owner == PIPELINE:
                return self.variables[reference.key]
            value = outputs[reference.owner].get(reference.key)
            if value is None:
                raise MissingOutput(
                    f"{reference} is empty: {reference.owner!r} has found nothing of the kind"
                )
            return value

        if not step.action:
            return StepRequest(None, str(substitute(step.spec.instruction, value_of)))
        values = {key: substitute(value, value_of) for key, value in step.inputs.items()}
        values |= {key: glob.escape(str(values[key])) for key in step.exact}
        return StepRequest(Action.of(step.action, **values))

    def outputs(self, done: StepOutput) -> Outputs:
        """Outputs of a step that is done, for later steps."""
        found = outputs_of(done.result) if done.result is not None else {}
        names = self.steps[done.step].spec.outputs
        return {new: found.get(key) for new, key in names.items()} if names else found

    def kept(self, earlier: Mapping[str, StepOutput]) -> dict[str, StepOutput]:
        """The outcomes of an earlier run that are still good: asked for the same, after kept steps only."""
        kept: dict[str, StepOutput] = {}
        outputs: dict[str, Outputs] = {}
        for name in self.spec.sorted_steps():
            step, before = self.steps[name], earlier.get(name)
            if before is None or not before.done or not all(needed in kept for needed in step.needs):
                continue
            try:
                request = self.request(step, outputs)
            except MissingOutput:
                continue  # it fails again, and says so
            if before.instruction == request.instruction and request.action in (None, before.action):
                kept[name], outputs[name] = before, self.outputs(before)
        return kept


def actions_of(agent: AgentSettings) -> tuple[str, ...]:
    """Actions that an agent may take."""
    match agent:
        case IngestorAgentSettings():
            return INGESTOR_ACTIONS
        case RetrieverAgentSettings():
            return RETRIEVER_ACTIONS
    return tuple(ACTIONS)


def _planned(spec: PipelineSpec, step: PipelineStep, blueprints: Mapping[str, AgentSettings]) -> PlannedStep:
    chosen = spec.agents[step.agent]
    agent = blueprints[step.agent] if isinstance(chosen, BlueprintAgent) else chosen
    action = ""
    if not step.instruction:
        action, problem = match_action(step.action, actions_of(agent), step.inputs, agent)
        if problem:
            raise BadPipeline(f"{step.id}: {step.agent!r} {problem}")
    planned = PlannedStep(
        spec=step,
        agent=agent,
        action=action,
        inputs=with_defaults(action, step.inputs, agent),
        needs=spec.needs(step),
        retries=spec.retries if step.retries is None else step.retries,
        timeout_s=spec.timeout_s if step.timeout_s is None else step.timeout_s,
        exact=exact_inputs(action, step.inputs),
    )
    for key in step.outputs.values():
        if key not in planned.given:
            raise BadPipeline(
                f"{step.id}: outputs: it gives no {key!r}; {suggest(key, planned.given, 'it gives')}"
            )
    return planned


def _check_outputs(step: PlannedStep, steps: Mapping[str, PlannedStep]) -> None:
    """Every `${step.key}` names something that the step gives."""
    for reference in step.spec.references:
        if reference.owner == PIPELINE:
            continue
        known = steps[reference.owner].offered
        if reference.key not in known:
            raise BadPipeline(
                f"{step.spec.id}: {reference}: {reference.owner!r} has no output {reference.key!r}; "
                f"{suggest(reference.key, known, 'it has')}"
            )


def _variables(spec: PipelineSpec, given: Outputs) -> Outputs:
    """The given ones before the pipeline's own. Raises BadPipeline for one too many, or too few."""
    used = {
        reference.key: f"{step.id}: {reference}"
        for step in reversed(spec.steps)
        for reference in step.references
        if reference.owner == PIPELINE
    }
    values = {**spec.variables, **given}
    for key, where in used.items():
        if key not in values:
            hint = suggest(key, tuple(values), "there are") if values else "there are none"
            raise BadPipeline(f"{where}: there is no variable {key!r}; {hint} (or give it: {key}=VALUE)")
    for key in given:
        if key not in used and key not in spec.variables:
            hint = suggest(key, tuple(used), "it uses") if used else "it uses none"
            raise BadPipeline(f"{key}=…: the pipeline has no variable {key!r}; {hint}")
    return values
