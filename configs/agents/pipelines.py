"""A pipeline: steps that agents take, in the order that they depend on one another.

What can be seen from the file alone is checked when it is read: names that are said twice, steps and roles
that there are not, circles. What depends on the actions is checked by `actors.pipelines.plan`.
"""

from functools import cached_property
from graphlib import CycleError, TopologicalSorter
from pathlib import Path
from typing import Annotated, Final, Literal, Self

from pydantic import AliasChoices, BeforeValidator, Field, ValidationError, model_validator

from ...messages.data import Param
from ..base_config import BaseConfig
from ..errors import SettingsError
from ..load import format_validation_error, read_yaml, suggest
from .references import BadReference, Reference, references_of
from .settings import AgentSettings

PIPELINES: Final = Path(__file__).parents[1] / "pipelines"
"""Those that ship with the project."""
PIPELINE: Final = "pipeline"
"""The owner of the variables, in `${pipeline.x}`; no step may bear the name."""
Name = Annotated[str, Field(pattern=r"^[A-Za-z_][\w-]{0,63}$")]
OnFailure = Literal["stop", "go_on"]


class BlueprintAgent(BaseConfig):
    """The agent of a blueprint. In YAML also its name alone."""

    type: Literal["blueprint"] = "blueprint"
    name: str = Field(min_length=1)


def _named(value: object) -> object:
    return {"type": "blueprint", "name": value} if isinstance(value, str) else value


PipelineAgent = Annotated[
    Annotated[AgentSettings | BlueprintAgent, Field(discriminator="type")], BeforeValidator(_named)
]


def _renamed(value: object) -> object:
    return {name: name for name in value} if isinstance(value, list | tuple) else value


class PipelineStep(BaseConfig):
    """One step: an action of an agent."""

    id: Name = Field(validation_alias=AliasChoices("id", "name"))
    agent: str
    """The role that takes it."""
    instruction: str = ""
    """What the agent is told, in words; it decides what to do. May hold `${…}`, as inputs may."""
    action: str = ""
    """Without an instruction: what to do. Empty: the first of the role's actions that takes these inputs."""
    inputs: dict[str, Param] = Field(default_factory=dict)
    """The action's parameters. Texts may hold `${pipeline.x}` and `${step.key}`."""
    outputs: Annotated[dict[Name, str], BeforeValidator(_renamed)] = Field(default_factory=dict)
    """What later steps may use: new names for the action's outputs, or a list of those. Empty: all."""
    depends_on: tuple[str, ...] = ()
    """Steps that come first; those whose outputs are used come first in any case."""
    retries: int | None = Field(default=None, ge=0, le=100)
    """None: the pipeline's."""
    timeout_s: float | None = Field(default=None, gt=0.0)
    """Of each attempt. None: the pipeline's."""

    @cached_property
    def references(self) -> tuple[Reference, ...]:
        """All in the inputs, in order. Raises BadReference, which names the input."""
        said = {"instruction": self.instruction, **{f"inputs.{key}": v for key, v in self.inputs.items()}}
        return tuple(found for key, value in said.items() for found in _references(key, value))

    @model_validator(mode="after")
    def _said_once(self) -> Self:
        if self.instruction and (self.inputs or self.action):
            raise ValueError("an instruction says it all: expected it, or an action with its inputs")
        return self


class PipelineSpec(BaseConfig):
    """The whole of it."""

    pipeline_id: Name
    description: str = ""
    agents: dict[Name, PipelineAgent] = Field(min_length=1)
    """Who takes the steps of each role: a blueprint's name, or an agent as blueprints describe it."""
    variables: dict[Name, Param] = Field(default_factory=dict)
    """Values of `${pipeline.x}` where none are given. Others must be given."""
    steps: tuple[PipelineStep, ...] = Field(min_length=1)
    on_failure: OnFailure = "stop"
    """When a step fails for good: `stop` ends what runs, `go_on` leaves out only what depends on it."""
    retries: int = Field(default=0, ge=0, le=100)
    """Further attempts of a step that failed."""
    retry_pause_s: float = Field(default=0.5, ge=0.0)
    """Before the second attempt; doubled for each further one."""
    timeout_s: float = Field(default=600.0, gt=0.0)
    """Of each attempt of a step."""
    max_concurrent: int = Field(default=256, ge=1)
    """Steps under way at a time."""

    @model_validator(mode="after")
    def _holds_together(self) -> Self:
        names = [step.id for step in self.steps]
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise ValueError(f"steps: {', '.join(map(repr, twice))}: there are several of this name")
        for step in self.steps:
            self._check_names(step, names)
        _check_references(self)
        _check_circles(self)
        return self

    def _check_names(self, step: PipelineStep, names: list[str]) -> None:
        if step.id == PIPELINE:
            raise ValueError(f"steps: {PIPELINE!r} is what the variables belong to; choose another name")
        if step.agent not in self.agents:
            hint = suggest(step.agent, tuple(self.agents), "there are")
            raise ValueError(f"{step.id}: there is no role {step.agent!r}; {hint}")
        for needed in step.depends_on:
            if needed not in names:
                hint = suggest(needed, names, "there are")
                raise ValueError(f"{step.id}: depends_on: there is no step {needed!r}; {hint}")

    def needs(self, step: PipelineStep) -> tuple[str, ...]:
        """The steps that must be done first: those that are named, and those whose outputs are used."""
        used = (reference.owner for reference in step.references if reference.owner != PIPELINE)
        return tuple(dict.fromkeys((*step.depends_on, *used)))

    def sorter(self) -> "TopologicalSorter[str]":
        """A fresh one over the steps, not yet prepared."""
        return TopologicalSorter({step.id: self.needs(step) for step in self.steps})

    def sorted_steps(self) -> tuple[str, ...]:
        """The names of the steps, each behind those that it needs. Raises CycleError."""
        return tuple(self.sorter().static_order())


def load_pipeline(path: Path) -> PipelineSpec:
    """Read a pipeline from a YAML file. Raises SettingsError, which names the file and the key."""
    if not path.is_file():
        shipped = ", ".join(str(found.relative_to(PIPELINES)) for found in sorted(PIPELINES.glob("*.yaml")))
        raise SettingsError(f"{path}: there is no such pipeline file (those that are shipped: {shipped})")
    try:
        return PipelineSpec.model_validate(read_yaml(path))
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        if not first["loc"]:  # said of the pipeline as a whole, and it names the step itself
            raise SettingsError(f"{path}: {first['msg'].removeprefix('Value error, ')}") from error
        raise SettingsError(format_validation_error(error, where=str(path), model=PipelineSpec)) from error


def find_pipeline(name_or_file: str) -> Path:
    """A file, or one that ships with the project by its name."""
    shipped = PIPELINES / f"{name_or_file}.yaml"
    return shipped if "/" not in name_or_file and shipped.is_file() else Path(name_or_file)


def _references(key: str, value: Param) -> list[Reference]:
    try:
        return references_of(value)
    except BadReference as error:
        raise BadReference(f"{key}: {error}") from error


def _check_references(spec: PipelineSpec) -> None:
    """Every `${…}` can be read, and its owner is the pipeline or another step."""
    names = [step.id for step in spec.steps]
    for step in spec.steps:
        try:
            references = step.references
        except BadReference as error:
            raise ValueError(f"{step.id}: {error}") from error
        for reference in references:
            if reference.owner not in (PIPELINE, *names):
                known = [PIPELINE, *(name for name in names if name != step.id)]
                raise ValueError(
                    f"{step.id}: {reference}: there is no step {reference.owner!r}; "
                    f"{suggest(reference.owner, known, 'there are')}"
                )


def _check_circles(spec: PipelineSpec) -> None:
    try:
        spec.sorted_steps()
    except CycleError as error:
        circle: list[str] = error.args[1]
        raise ValueError(f"steps: a circle: {' → '.join(circle)}; none of them could ever begin") from None
