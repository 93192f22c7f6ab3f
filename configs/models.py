"""Settings of the model and of the engine that runs it.

Engines of our own are a tagged union by `kind`. Others come from installed packages, by entry points of the
group `agentfactory.engines` (`runtime.engines.registry`): what they name has their settings, too. Nobody asks
for the class of an engine's settings: what matters elsewhere is a capability of `BaseEngineSettings`.
"""

from collections.abc import Mapping
from functools import cache
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from typing import (
    TYPE_CHECKING,
    Annotated,
    ClassVar,
    Final,
    Literal,
    NamedTuple,
    Protocol,
    Self,
    cast,
    get_args,
)

from pydantic import Field, SerializeAsAny, ValidatorFunctionWrapHandler, WrapValidator

from .base_config import BaseConfig, PlaceOrName
from .errors import SettingsError

ENGINES: Final = "agentfactory.engines"
"""The group of entry points by which installed packages bring engines."""
CACHE_SHARE: Final = 0.5
"""Of the memory that is free beside the weights, the part for the longest sequence's keys and values:
shorter sequences and the work itself need the rest."""
ROWS_AT_LEAST: Final = 8
"""Rows that the engine on transformers allocates at once (`kv_cache.FIRST_ROWS`)."""
SEED_MODEL = Path(__file__).parent / "models" / "seed"
SEEDS = {"seed": SEED_MODEL, "seed-data": SEED_MODEL.with_name("seed-data")}
"""The models that ship with the project: one for sums, logic and errands, one for errands alone."""


class ModelSettings(BaseConfig):
    """The base model that all policies adapt."""

    source: PlaceOrName = "seed"
    """`seed` or `seed-data` (small models that ship with the project), a folder, or a hub name."""
    dtype: Literal["float32", "bfloat16", "float16"] = "float32"
    device: Literal["auto", "cpu", "cuda"] = "auto"
    quantize: Literal["none", "nf4"] = "none"
    """`nf4` holds the frozen base in four bits while the adapter trains (QLoRA)."""

    def locate(self) -> str:
        """The folder or hub name to load from. Raises SettingsError for a folder that is not one."""
        if self.source in SEEDS:
            return str(SEEDS[self.source])
        path = Path(self.source).expanduser()
        looks_like_a_path = self.source.startswith((".", "/", "~")) or self.source.count("/") > 1
        if path.is_dir():
            if not (path / "config.json").is_file():
                raise SettingsError(
                    f"model.source: the folder {path} has no config.json; "
                    "expected a model in the Hugging Face folder format"
                )
            return str(path)
        if looks_like_a_path or "/" not in self.source:
            raise SettingsError(
                f"model.source: there is no model folder {self.source!r}; expected `seed`, "
                "`seed-data`, an existing folder, or a hub name such as Qwen/Qwen2.5-7B-Instruct"
            )
        return self.source


class AdapterLimits(NamedTuple):
    """The adapters that an engine holds at once, and their largest rank."""

    adapters: int
    rank: int


class Requirement(NamedTuple):
    """A package that an engine needs beside ours."""

    module: str
    name: str
    install: str


class BaseEngineSettings(BaseConfig):
    """Settings that all engines have in common, and the capabilities that others ask for."""

    copies: int = Field(default=1, ge=1)
    """Replicas, each with the whole model."""
    start_timeout_s: float = Field(default=1200.0, gt=0.0)
    """The longest that loading the model may take, vLLM's compiling included."""
    kind: str

    has_model: ClassVar[bool] = True
    """It samples from a model. Without one there is nothing to train."""
    constrains_output: ClassVar[bool] = False
    """It can constrain its output to a JSON schema."""
    requirement: ClassVar[Requirement | None] = None

    @property
    def context_tokens(self) -> int | None:
        """Limit of prompt and completion together; None where there is none."""
        return None

    @property
    def adapter_limits(self) -> AdapterLimits | None:
        """None where any number of any rank is loaded."""
        return None

    @property
    def gpus_per_replica(self) -> int:
        """GPUs of one node that a replica runs on, where it runs on GPUs."""
        return 1

    @property
    def sleeps_while_training(self) -> bool:
        """It leaves the GPU's memory to the Trainer while that works."""
        return False

    def with_context(self, tokens: int) -> Self:
        """The same with another limit, for kinds that have one."""
        return self.model_copy(update={"max_context": tokens})

    def longest_cache_bytes(self, free: int, gpu_memory: int, weights: int) -> int:
        """Bytes for the keys and values of the longest sequence.

        `free` is what the GPU or the machine has, `gpu_memory` all of the GPU's or 0 without one.
        """
        return max(0, int(CACHE_SHARE * (free - weights)))


class TransformersEngineSettings(BaseEngineSettings):
    """Continuous batching on transformers: the laptop's engine."""

    kind: Literal["transformers"] = "transformers"
    max_batch: int = Field(default=256, ge=1)
    """Sequences decoded together."""
    max_parked: int = Field(default=256, ge=0)
    """Key-value caches of unfinished episodes kept between their turns."""
    max_context: int = Field(default=2048, ge=16)
    """Prompt and completion together, tokens."""
    max_waiting: int = Field(default=4096, ge=1)
    """Requests queued before callers have to wait."""
    threads: int = Field(default=1, ge=1)
    """Processor threads of the engine."""

    @property
    def context_tokens(self) -> int:
        """`max_context`"""
        return self.max_context

    def longest_cache_bytes(self, free: int, gpu_memory: int, weights: int) -> int:
        """As many rows are allocated at once, each of the longest sequence's length."""
        return super().longest_cache_bytes(free, gpu_memory, weights) // ROWS_AT_LEAST


class SimulatedEngineSettings(BaseEngineSettings):
    """An engine that answers from a script in a fixed time: for benchmarks and tests."""

    kind: Literal["simulated"] = "simulated"
    seconds_per_request: float = Field(default=0.0, ge=0.0)
    reply: str = "Answer: 0"

    has_model: ClassVar[bool] = False


class VllmEngineSettings(BaseEngineSettings):
    """vLLM: one replica on the GPUs that it is given, or on the processor where there is none."""

    kind: Literal["vllm"] = "vllm"
    max_batch: int = Field(default=256, ge=1)
    """Sequences decoded together."""
    max_context: int = Field(default=2048, ge=16)
    """Prompt and completion together, tokens."""
    max_adapters: int = Field(default=6, ge=1)
    """Adapters that one batch may mix: the versions in use, of the Student and of the Teacher."""
    max_lora_rank: Literal[8, 16, 32, 64, 128, 256] = 16
    tensor_parallel: int = Field(default=1, ge=1)
    """GPUs that share one replica."""
    gpu_memory: float = Field(default=0.45, gt=0.0, lt=1.0)
    """Share of each GPU's memory; the Trainer needs the rest where it shares the GPU."""
    cpu_cache_gb: int = Field(default=1, ge=1)
    """Key-value cache where there is no GPU."""
    sleep: bool = False
    """Leave the GPU's memory to the Trainer while it works, for a GPU that cannot hold both at once."""
    compile: bool = True
    """Compile the model and capture CUDA graphs: minutes at the start, faster ever after."""

    constrains_output: ClassVar[bool] = True
    requirement: ClassVar[Requirement | None] = Requirement(
        "vllm", "vLLM", "pip install 'agentfactory[vllm]'"
    )

    @property
    def context_tokens(self) -> int:
        """`max_context`"""
        return self.max_context

    @property
    def adapter_limits(self) -> AdapterLimits:
        """vLLM reserves memory for so many adapters of that rank."""
        return AdapterLimits(self.max_adapters, self.max_lora_rank)

    @property
    def gpus_per_replica(self) -> int:
        """`tensor_parallel`"""
        return self.tensor_parallel

    @property
    def sleeps_while_training(self) -> bool:
        """`sleep`"""
        return self.sleep

    def longest_cache_bytes(self, free: int, gpu_memory: int, weights: int) -> int:
        """vLLM takes a fixed share of its GPUs, or a fixed cache on the processor."""
        if not gpu_memory:
            return self.cpu_cache_gb << 30
        return max(0, int(CACHE_SHARE * (gpu_memory * self.gpu_memory * self.tensor_parallel - weights)))


_OwnEngineSettings = TransformersEngineSettings | VllmEngineSettings | SimulatedEngineSettings


class EnginePlugin(Protocol):
    """The part of `runtime.engines.registry.EngineKind` that settings are read by."""

    @property
    def settings(self) -> type[BaseEngineSettings]:
        """The class of the engine's settings, whose `kind` is the entry point's name."""


@cache
def engine_plugins() -> Mapping[str, EntryPoint]:
    """Engines of installed packages, by kind; ours cannot be taken over."""
    own = {option.model_fields["kind"].default for option in get_args(_OwnEngineSettings)}
    return {entry.name: entry for entry in entry_points(group=ENGINES) if entry.name not in own}


def load_engine_plugin(entry: EntryPoint) -> object:
    """Import an engine of an installed package. Raises SettingsError where that fails."""
    try:
        return entry.load()
    except (ImportError, AttributeError) as error:
        raise SettingsError(
            f"engine.kind: {entry.name!r} is {entry.value!r} of an installed package, which cannot be "
            f"imported: {error}"
        ) from error


def _of_any_kind(value: object, validate: ValidatorFunctionWrapHandler) -> object:
    if isinstance(value, BaseEngineSettings):
        return validate(value) if isinstance(value, _OwnEngineSettings) else value
    kind = value.get("kind") if isinstance(value, Mapping) else None
    entry = engine_plugins().get(kind) if isinstance(kind, str) else None
    if entry is None or not isinstance(value, Mapping):
        return validate(value)
    settings = cast(EnginePlugin, load_engine_plugin(entry)).settings
    for key in value:
        if key not in settings.model_fields:  # whoever words the union's own errors does not know these keys
            known = ", ".join(map(repr, sorted(settings.model_fields)))
            raise ValueError(f"unknown key {key!r}; known keys of {kind!r}: {known}")
    return settings.model_validate(value)


if TYPE_CHECKING:
    EngineSettings = BaseEngineSettings
else:
    EngineSettings = Annotated[
        _OwnEngineSettings, Field(discriminator="kind"), WrapValidator(_of_any_kind), SerializeAsAny()
    ]
