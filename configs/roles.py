"""One section for each role: an actor gets its own and no other."""

from typing import Final, Literal, Self

from pydantic import Field, field_validator, model_validator

from .base_config import BaseConfig, PlaceOrName
from .sandbox import AuditSettings
from .tools import ToolBoxSettings, check_tool_names

MAX_EXAMPLES: Final = 3
"""Worked examples that every domain has for a prompt."""


class SandboxSettings(BaseConfig):
    """Limits of one tool call."""

    timeout_s: float = Field(default=2.0, gt=0.0, le=3600.0)
    memory_mb: int = Field(default=256, ge=32)
    output_bytes: int = Field(default=4096, ge=64)
    modules: tuple[str, ...] = (
        "math", "cmath", "fractions", "decimal", "statistics", "itertools", "functools",
        "collections", "operator", "random", "re", "string", "datetime", "json",
    )  # fmt: skip
    """Modules that the tool's code may import."""
    max_parallel: int = Field(default=4, ge=1)
    """Calls that run at the same time in one Student."""
    allow_weak: bool = False
    """Go on where the kernel offers no isolation beyond resource limits."""
    audit: AuditSettings = AuditSettings()


class TrialSettings(SandboxSettings):
    """Limits of one hidden test; an answer may be a whole program, and imports what programs do."""

    modules: tuple[str, ...] = (
        "abc", "array", "ast", "atexit", "base64", "binascii", "bisect", "builtins", "calendar", "cmath",
        "codecs", "collections", "colorsys", "contextlib", "contextvars", "copy", "csv", "dataclasses",
        "datetime", "decimal", "difflib", "enum", "errno", "fileinput", "fractions", "functools", "gc",
        "graphlib", "hashlib", "heapq", "html", "inspect", "io", "ipaddress", "itertools", "json", "keyword",
        "logging", "math", "numbers", "operator", "os", "pathlib", "pickle", "pprint", "queue", "random",
        "re", "secrets", "statistics", "string", "struct", "sys", "textwrap", "threading", "time", "timeit",
        "traceback", "types", "typing", "unicodedata", "unittest", "uuid", "warnings", "weakref", "zlib",
        "zoneinfo",
    )  # fmt: skip
    """Modules that an answer may import."""


class RetrieveSettings(BaseConfig):
    """The tool that looks passages up in stored texts."""

    tags: tuple[str, ...] = ()
    """Tags that it may search; the first is the one it searches unless told. Empty: no such tool."""
    passages: int = Field(default=3, ge=1, le=20)
    """Passages of one answer, at most."""
    max_chars: int = Field(default=1500, ge=100)
    """Length of one answer, in characters."""
    timeout_s: float = Field(default=30.0, gt=0.0)


class DataToolSettings(BaseConfig):
    """The tools of the `data` domain: the actions of the data plane."""

    max_chars: int = Field(default=1500, ge=40)
    """Length of one observation, in characters."""
    timeout_s: float = Field(default=60.0, gt=0.0)
    """An action that takes longer fails the episode."""


class NoveltySettings(BaseConfig):
    """Recognition of near-duplicates, over all rounds."""

    embedder: PlaceOrName = "ngrams"
    """`ngrams` (hashed character n-grams, nothing to download) or a sentence-transformers model."""
    duplicate_similarity: float = Field(default=0.98, gt=0.0, le=1.0)
    """Cosine similarity from which a task counts as a near-duplicate."""
    cluster_similarity: float = Field(default=0.9, gt=0.0, le=1.0)
    """Cosine similarity from which tasks of one batch share a cluster: the R_rep of the reward."""
    max_archive: int = Field(default=100_000, ge=1)


class TeacherSettings(BaseConfig):
    """The Teacher: who proposes tasks."""

    temperature: float = Field(default=1.0, gt=0.0)
    max_tokens: int = Field(default=64, ge=1)
    require_reference: bool = False
    """Drop tasks without an answer or a goal to judge by; otherwise the Student's majority stands in."""
    train: bool = True
    """Train the Teacher's own adapter by the frontier reward."""
    oversample: float = Field(default=1.5, ge=1.0, le=16.0)
    """Proposals sampled for each task asked for, since some are dropped."""
    max_attempts: int = Field(default=8, ge=1)
    """Sampling waves before the Teacher gives back fewer tasks than asked."""
    uncertainty_weight: float = Field(default=1.0, ge=0.0)
    """λ_unc of the frontier reward."""
    tool_weight: float = Field(default=0.6, ge=0.0)
    """λ_tool of the frontier reward."""
    tool_gain: float = Field(default=0.05, ge=0.0)
    """γ: reward for each tool call of the Student's episodes, up to four."""
    repetition_weight: float = Field(default=1.0, ge=0.0)
    """λ_rep of the frontier reward."""
    novelty: NoveltySettings = NoveltySettings()
    grounding_tag: str = ""
    """Each task is asked for with a passage of this tag's texts at hand. Empty: from nothing."""
    examples: int = Field(default=0, ge=0, le=MAX_EXAMPLES)
    """Worked examples in the prompt; 0 for none."""
    grounding_timeout_s: float = Field(default=120.0, gt=0.0)
    """To get passages; the first time the tag's index may have to be made."""


class ConfidenceSettings(BaseConfig):
    """Estimate of the Student's confidence in its answers."""

    self_critique: bool = False
    """Ask the model, too, once for each answer: that costs a call, which is not trained on."""
    critique_weight: float = Field(default=0.5, ge=0.0, le=1.0)
    """Share of what the model says in the confidence; the rest goes by the probabilities of its tokens."""
    max_tokens: int = Field(default=64, ge=1)
    """Of the model's reply about itself."""


class StudentSettings(BaseConfig):
    """The Student: who solves tasks."""

    copies: int = Field(default=1, ge=1)
    concurrent_episodes: int = Field(default=256, ge=1)
    """Episodes that one copy runs at the same time."""
    temperature: float = Field(default=1.0, gt=0.0)
    top_p: float = Field(default=1.0, gt=0.0, le=1.0)
    max_turns: int = Field(default=20, ge=1)
    max_tokens_per_turn: int = Field(default=512, ge=1)
    max_calls_per_turn: int = Field(default=8, ge=1, le=32)
    """Calls of one reply that are carried out, at the same time; further ones are refused."""
    generate_timeout_s: float = Field(default=120.0, gt=0.0)
    tools: tuple[str, ...] = ("python",)
    """The tools it has, by name. `retrieve` is among them where `retrieve.tags` names texts."""
    toolbox: ToolBoxSettings = ToolBoxSettings()
    examples: int = Field(default=0, ge=0, le=MAX_EXAMPLES)
    """Worked examples of the task's domain in the prompt; 0 for none."""
    sandbox: SandboxSettings = SandboxSettings()
    confidence: ConfidenceSettings = ConfidenceSettings()
    retrieve: RetrieveSettings = RetrieveSettings()
    data: DataToolSettings = DataToolSettings()

    @field_validator("tools")
    @classmethod
    def _tools_exist(cls, names: tuple[str, ...]) -> tuple[str, ...]:
        check_tool_names(names)
        return names


class VerifierSettings(BaseConfig):
    """The Verifier: who judges."""

    copies: int = Field(default=1, ge=1)
    timeout_s: float = Field(default=10.0, gt=0.0)
    """A grader that takes longer is killed, and the episode counts as failed."""
    graders: int = Field(default=1, ge=1)
    """Grader processes of one copy."""
    memory_mb: int = Field(default=1024, ge=128)
    """Memory of one grader process."""
    rel_tolerance: float = Field(default=1e-6, ge=0.0)
    step_credit: float = Field(default=0.0, ge=0.0, lt=1.0)
    """Most that a wrong answer in mathematics can score by steps that follow; 0 leaves steps unread."""
    trials: TrialSettings = TrialSettings()
    """Limits of each hidden test that an answer's code is put to; its modules may be imported."""

    @field_validator("trials", mode="before")
    @classmethod
    def _limits_of_a_tool_call_will_do(cls, trials: object) -> object:
        if isinstance(trials, SandboxSettings) and not isinstance(trials, TrialSettings):
            return trials.model_dump(exclude_unset=True)
        return trials


class SinkSettings(BaseConfig):
    """The TrajectorySink: what makes trajectories durable."""

    segment_mb: int = Field(default=64, ge=1)
    max_batch: int = Field(default=64, ge=1)
    """Requests, each of a whole group, committed with one fsync."""


class CurriculumSettings(BaseConfig):
    """Choice of the domain and the difficulty."""

    domains: tuple[str, ...] = Field(default=("math",), min_length=1)
    start_difficulty: float = Field(default=0.3, ge=0.0, le=1.0)
    step: float = Field(default=0.05, ge=0.0, le=1.0)
    target_success: float = Field(default=0.5, ge=0.0, le=1.0)
    tolerance: float = Field(default=0.1, ge=0.0, le=0.5)
    window: int = Field(default=20, ge=1)
    """Tasks over which success is averaged; it starts empty after each move."""
    frontier: float = Field(default=0.25, ge=0.0, le=0.5)
    """Groups are trained on while |p̂ − 0.5| is at most this; 0.5 keeps all."""


LogicForm = Literal["letters", "columns"]
"""Values and true rows of formulas in letters, or formulas over the columns of a truth table."""


class EvaluationSettings(BaseConfig):
    """The fixed held-out set, sampled the same way before and after."""

    tasks: int = Field(default=200, ge=1)
    seed: int = 2026
    logic: LogicForm = "letters"
    """What the held-out tasks of the logic domain look like."""
    every: int = Field(default=1, ge=1)
    """Training steps between evaluations; the last version is always evaluated."""
    temperature: float = Field(default=1.0, ge=0.0)


class LoraSettings(BaseConfig):
    """The adapter."""

    rank: int = Field(default=16, ge=1)
    alpha: int = Field(default=32, ge=1)
    dropout: float = Field(default=0.0, ge=0.0, lt=1.0)
    target_modules: tuple[str, ...] = (
        "q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj",
    )  # fmt: skip


class GrpoSettings(BaseConfig):
    """Group-relative policy optimisation."""

    kind: Literal["grpo"] = "grpo"
    clip_low: float = Field(default=0.2, ge=0.0, lt=1.0)
    clip_high: float = Field(default=0.28, ge=0.0)
    importance_cap: float = Field(default=2.0, gt=0.0)
    """Upper bound of π_prox/π_behaviour, for tokens sampled by an older version."""
    kl_weight: float = Field(default=0.0, ge=0.0)
    """Weight of the KL divergence to the base model; 0 skips the extra pass."""
    normalize_std: bool = True
    """Divide a group's advantages by its standard deviation."""


class TrainerSettings(BaseConfig):
    """The Trainer: from groups to the next version."""

    method: GrpoSettings = GrpoSettings()
    lora: LoraSettings = LoraSettings()
    learning_rate: float = Field(default=1e-3, gt=0.0)
    warmup_steps: int = Field(default=0, ge=0)
    max_grad_norm: float = Field(default=1.0, gt=0.0)
    updates_per_step: int = Field(default=4, ge=1)
    """Optimizer updates made from one batch (mini-batches of whole trajectories)."""
    micro_batch_tokens: int = Field(default=8192, ge=64)
    """Padded tokens of one forward and backward pass; gradients accumulate over them."""
    gradient_checkpointing: bool = False
    threads: int = Field(default=1, ge=1)
    keep_checkpoints: int = Field(default=2, ge=1)
    """Optimizer states kept for resuming; adapters of all versions are kept."""
    publish: Literal["store", "message"] = "message"
    """How new adapters reach the engines: by the data plane, or in messages through the Coordinator."""
    simulate_s: float | None = Field(default=None, ge=0.0)
    """Take this long and train nothing: for benchmarks of the loop itself."""


class LoopSettings(BaseConfig):
    """The training loop: the Coordinator's section."""

    rounds: int = Field(default=12, ge=0)
    """Training steps of a run; 0 only evaluates the base model."""
    batch_groups: int = Field(default=32, ge=1)
    """B: groups trained on in one step."""
    group_size: int = Field(default=8, ge=2)
    """k: episodes of one task."""
    max_staleness: int = Field(default=1, ge=0)
    """η: how many versions old a group may be when it is trained on. 0 is exactly on-policy."""
    max_concurrent_groups: int = Field(default=64, ge=1)
    max_groups_per_step: int = Field(default=256, ge=1)
    """Groups sampled for one step before it trains on what lies inside the frontier."""
    episode_timeout_s: float = Field(default=300.0, gt=0.0)
    episode_attempts: int = Field(default=3, ge=1)
    step_timeout_s: float = Field(default=3600.0, gt=0.0)
    drain_timeout_s: float = Field(default=60.0, gt=0.0)
    progress_interval_s: float = Field(default=0.25, gt=0.0)

    @model_validator(mode="after")
    def _enough_groups(self) -> Self:
        if self.max_groups_per_step < self.batch_groups:
            raise ValueError(
                f"max_groups_per_step ({self.max_groups_per_step}) must be at least batch_groups "
                f"({self.batch_groups})"
            )
        return self
