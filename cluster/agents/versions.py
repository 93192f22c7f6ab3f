"""The versions of an agent, and how far each has come: TRAIN, EVALUATE, DEPLOY.

    train  ──begun──▶  evaluate  ──passed, deployed──▶  deploy
      ▲                 │     ▲                           │
      └─────failed──────┘     └────another is deployed────┘

Invariants:
  - a version never changes: what it is made of stands in it;
  - at most one version is in DEPLOY, and its newest evaluation was passed;
  - `deployed` is the way back: the versions that were in use one after the other, the present one last.
"""

import hashlib
from typing import Literal, Self

from pydantic import Field

from ...configs.agents.blueprints import Blueprint, read_blueprint
from ...configs.agents.evaluation import EvaluationRecord
from ...configs.base_config import BaseConfig
from ...configs.errors import BadInput
from ...configs.yaml_core import parse_mapping
from ...messages.adapters import AdapterRef

State = Literal["train", "evaluate", "deploy"]


class AgentManifest(BaseConfig):
    """Manifest of an agent's parts; two with the same are the same agent."""

    model: str
    """In words, such as `rule_based` or `ollama llama3.2`."""
    adapter: AdapterRef | None = None
    """None: no policy of ours, or the base model."""
    prompt: str = ""
    """The system prompt in full; empty for rules."""
    blueprint: str
    """YAML, in which whatever could change later is settled: the prompt, an adapter's version."""

    def sha256(self) -> str:
        """Digest of it all; of an adapter that of its weights."""
        weights = self.adapter.sha256 if self.adapter is not None else ""
        whole = [self.model, weights, self.prompt, self.read().sha256()]
        return hashlib.sha256("\0".join(whole).encode()).hexdigest()

    def read(self) -> Blueprint:
        """The blueprint. Raises SettingsError for one that this version of the project does not know."""
        return read_blueprint(parse_mapping(self.blueprint), "a version's blueprint")


class AgentVersion(BaseConfig):
    """One version."""

    number: int = Field(ge=1)
    made_at: float
    """Seconds since 1970."""
    state: State = "train"
    makeup: AgentManifest
    evaluations: tuple[EvaluationRecord, ...] = ()

    @property
    def passed(self) -> bool:
        """True if it passed the newest of its evaluations."""
        return bool(self.evaluations) and self.evaluations[-1].passed


class AgentRecord(BaseConfig):
    """All versions of an agent. Each method gives the record as it is after the change."""

    agent: str
    versions: tuple[AgentVersion, ...] = ()
    deployed: tuple[int, ...] = ()

    @property
    def in_use(self) -> AgentVersion | None:
        """The version that is in DEPLOY."""
        return self.version(self.deployed[-1]) if self.deployed else None

    @property
    def state(self) -> State:
        """Of the agent: that of its newest version."""
        return self.versions[-1].state if self.versions else "train"

    def version(self, number: int) -> AgentVersion:
        """Raises BadInput for one that there is not."""
        for each in self.versions:
            if each.number == number:
                return each
        known = ", ".join(str(each.number) for each in self.versions) or "none yet"
        raise BadInput(f"{self.agent} has no version {number}; versions: {known}")

    def like(self, makeup: AgentManifest) -> AgentVersion | None:
        """The version that is made of the same."""
        wanted = makeup.sha256()
        return next((each for each in self.versions if each.makeup.sha256() == wanted), None)

    def added(self, makeup: AgentManifest, at: float) -> Self:
        """With one more version, in TRAIN."""
        new = AgentVersion(number=len(self.versions) + 1, made_at=at, makeup=makeup)
        return self.model_copy(update={"versions": (*self.versions, new)})

    def begun(self, number: int) -> Self:
        """Its evaluation begins. One that is in use stays so meanwhile."""
        version = self.version(number)
        return self if version.state == "deploy" else self._with(version, state="evaluate")

    def evaluated(self, number: int, outcome: EvaluationRecord) -> Self:
        """With the outcome. One that failed goes back to TRAIN, and out of use: the one before it returns."""
        version = self.version(number)
        known = self._with(version, evaluations=(*version.evaluations, outcome))
        if outcome.passed:
            return known
        left = tuple(each for each in known.deployed if each != number)
        return known._with(known.version(number), state="train")._deploying(left)

    def deploying(self, number: int) -> Self:
        """With this version in use. Raises BadInput for one that did not pass its evaluation."""
        version = self.version(number)
        if not version.passed:
            why = "it did not pass its evaluation" if version.evaluations else "it was not evaluated"
            raise BadInput(
                f"{self.agent} version {number} is not deployed: {why}; see "
                f"`agentfactory versions {self.agent}`"
            )
        return self if self.deployed[-1:] == (number,) else self._deploying((*self.deployed, number))

    def rolled_back(self) -> Self:
        """With the version in use that was before this one. Raises BadInput where there is none."""
        if len(self.deployed) < 2:
            why = "no version is deployed"
            if self.deployed:
                why = f"version {self.deployed[0]} is the first that was deployed"
            raise BadInput(f"{self.agent} cannot be rolled back: {why}")
        return self._deploying(self.deployed[:-1])

    def _deploying(self, deployed: tuple[int, ...]) -> Self:
        changed = self.model_copy(update={"deployed": _without_repeats(deployed)})
        now = changed.deployed[-1:]
        for version in self.versions:
            if (version.number,) == now:
                changed = changed._with(version, state="deploy")
            elif version.state == "deploy":
                changed = changed._with(version, state="evaluate")
        return changed

    def _with(self, version: AgentVersion, **changes: object) -> Self:
        new = version.model_copy(update=changes)
        versions = tuple(new if each.number == new.number else each for each in self.versions)
        return self.model_copy(update={"versions": versions})


def _without_repeats(numbers: tuple[int, ...]) -> tuple[int, ...]:
    """A version that would follow itself, since the one between them is gone, stands once."""
    return tuple(n for place, n in enumerate(numbers) if place == 0 or n != numbers[place - 1])
