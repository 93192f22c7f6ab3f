"""The whole of a run's settings."""

import hashlib
from pathlib import Path
from typing import Literal, Self

from pydantic import Field, model_validator

from .base_config import BaseConfig, PlaceText
from .data import DataSettings
from .http_servers import EnvironmentServerSettings, ServingSettings
from .models import AdapterLimits, EngineSettings, ModelSettings, TransformersEngineSettings
from .rewards import RewardWeights
from .roles import (
    CurriculumSettings,
    EvaluationSettings,
    LoopSettings,
    SinkSettings,
    StudentSettings,
    TeacherSettings,
    TrainerSettings,
    VerifierSettings,
)


class RuntimeSettings(BaseConfig):
    """Transport, supervision and logging of actors."""

    transport: Literal["ray", "local"] = "ray"
    dashboard: bool = True
    """Start Ray's dashboard with a local cluster; a cluster that is joined has its own."""
    mailbox: int = Field(default=1024, ge=1)
    """Messages that wait in an actor's mailbox before senders have to wait."""
    max_restarts: int = Field(default=5, ge=0)
    """Restarts of one actor before its failure reaches the run."""
    restart_backoff_s: float = Field(default=0.2, ge=0.0)
    """Pause before the first restart; doubled for each further one."""
    stall_s: float = Field(default=30.0, gt=0.0)
    """An event loop that is silent for longer has its stacks written to the log."""
    log_level: Literal["debug", "info", "warning", "error"] = "info"
    log_format: Literal["json", "console"] = "json"


class AgentPaths(BaseConfig):
    """A person's own blueprints, and what became of each agent."""

    blueprints: PlaceText = ".agentfactory/blueprints"
    """Blueprints of your own."""
    versions: PlaceText = ".agentfactory/agents"
    """Each agent's versions, their evaluations, and which one is in use."""


class Settings(BaseConfig):
    """Everything that a run depends on; it is stored in the run's folder as it was used."""

    name: str = "custom"
    description: str = ""
    seed: int = Field(default=0, ge=0, lt=2**31)
    runs_dir: PlaceText = "runs"
    """New runs get a folder of their own in here."""
    runtime: RuntimeSettings = RuntimeSettings()
    model: ModelSettings = ModelSettings()
    engine: EngineSettings = TransformersEngineSettings()
    loop: LoopSettings = LoopSettings()
    curriculum: CurriculumSettings = CurriculumSettings()
    teacher: TeacherSettings = TeacherSettings()
    student: StudentSettings = StudentSettings()
    verifier: VerifierSettings = VerifierSettings()
    rewards: RewardWeights = RewardWeights()
    sink: SinkSettings = SinkSettings()
    trainer: TrainerSettings = TrainerSettings()
    evaluation: EvaluationSettings = EvaluationSettings()
    data: DataSettings = DataSettings()
    agents: AgentPaths = AgentPaths()
    serving: ServingSettings = ServingSettings()
    environment: EnvironmentServerSettings = EnvironmentServerSettings()

    @model_validator(mode="after")
    def _parts_agree(self) -> Self:
        longest, context = self.student.max_tokens_per_turn, self.engine.context_tokens
        if context is not None and longest >= context:
            raise ValueError(
                f"student.max_tokens_per_turn ({longest}) must be smaller than engine.max_context ({context})"
            )
        if self.engine.adapter_limits is not None:
            self._adapters_fit(self.engine.adapter_limits)
        if self.engine.sleeps_while_training:
            self._may_sleep()
        if not self.engine.has_model and self.trainer.simulate_s is None:
            raise ValueError(
                f"a {self.engine.kind} engine needs trainer.simulate_s: there is nothing to train"
            )
        return self

    def _adapters_fit(self, limits: AdapterLimits) -> None:
        """Of each policy that learns, a version is loaded while one is in use, and the one before that
        still sampled with where staleness allows it."""
        each = 2 + min(1, self.loop.max_staleness)
        needed = each * (2 if self.teacher.train else 1)
        if limits.adapters < needed:
            raise ValueError(
                f"engine.max_adapters ({limits.adapters}) must be at least {needed}: that many versions "
                "are loaded at once with these loop.max_staleness and teacher.train"
            )
        if self.trainer.lora.rank > limits.rank:
            raise ValueError(
                f"engine.max_lora_rank ({limits.rank}) must be at least trainer.lora.rank "
                f"({self.trainer.lora.rank})"
            )

    def _may_sleep(self) -> None:
        """An engine that sleeps while the Trainer works samples nothing meanwhile."""
        if self.loop.max_staleness:
            raise ValueError(
                f"engine.sleep needs loop.max_staleness 0 (it is {self.loop.max_staleness}): with more, the "
                "engine works while the Trainer does"
            )
        if self.engine.gpus_per_replica > 1:
            raise ValueError("engine.sleep: a replica of several GPUs shares none with the Trainer")

    @property
    def searched_tags(self) -> tuple[str, ...]:
        """Whose texts a run works with: Students look into them, a grounded Teacher draws on one."""
        grounding = self.teacher.grounding_tag
        return tuple(dict.fromkeys((*self.student.retrieve.tags, *((grounding,) if grounding else ()))))

    def data_for(self, run_dir: Path) -> DataSettings:
        """The data plane of a run in this folder: one of its own, or the one with its texts."""
        return self.data.for_run(run_dir) if self.data.of_run and not self.searched_tags else self.data

    def sha256(self) -> str:
        """Digest of every value: two runs with the same digest had the same settings."""
        return hashlib.sha256(self.model_dump_json().encode()).hexdigest()
