"""Settings of the model and of the engine that runs it, and how transformers is loaded."""

from pathlib import Path
from threading import Lock
from typing import Annotated, Final, Literal

from pydantic import Field

from .base_config import BaseConfig, PlaceOrName
from .errors import SettingsError

LOADING = Lock()
"""Hold it around `from_pretrained`: transformers loads through state that all threads share, and the
engine and the Trainer of a local run load at the same time."""
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


class BaseEngineSettings(BaseConfig):
    """What all engines have in common."""

    copies: int = Field(default=1, ge=1)
    """Replicas, each with the whole model."""
    start_timeout_s: float = Field(default=1200.0, gt=0.0)
    """The longest that loading the model may take, vLLM's compiling included."""


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


class SimulatedEngineSettings(BaseEngineSettings):
    """An engine that answers from a script in a fixed time: for benchmarks and tests."""

    kind: Literal["simulated"] = "simulated"
    seconds_per_request: float = Field(default=0.0, ge=0.0)
    reply: str = "Answer: 0"


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


EngineSettings = Annotated[
    TransformersEngineSettings | VllmEngineSettings | SimulatedEngineSettings, Field(discriminator="kind")
]


_UNUSED: Final = ("sklearn", "scipy", "pandas")
"""For assisted decoding and for the losses of image models."""


def hide_unused_packages() -> None:
    """Let transformers take them for not installed. Call it before its models are imported.

    They cost each process that loads a model 1.8 s of processor time and 140 MB (transformers 5.19). Whoever
    imports them by themselves still gets them. Without effect on a version that asks in another way.
    """
    import transformers.utils
    from transformers.utils import import_utils

    for package in _UNUSED:
        for module in (import_utils, transformers.utils):
            name = f"is_{package}_available"
            if hasattr(module, name):
                setattr(module, name, _absent)


def _absent() -> bool:
    return False
