"""Which model, and which engine runs it."""

from pathlib import Path
from threading import Lock
from typing import Annotated, Literal

from pydantic import Field

from configs.errors import SettingsError
from configs.section import Section

LOADING = Lock()
"""Hold it around `from_pretrained`: transformers loads through state that all threads share, and the
engine and the Trainer of a local run load at the same time."""
SEED_MODEL = Path(__file__).parent / "models" / "seed"
SEEDS = {"seed": SEED_MODEL, "seed-data": SEED_MODEL.with_name("seed-data")}
"""The models that ship with the project: one for arithmetic, one for errands in the data plane."""


class ModelSettings(Section):
    """The base model that all policies adapt."""

    source: str = "seed"
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


class TransformersEngineSettings(Section):
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


class SimulatedEngineSettings(Section):
    """An engine that answers from a script in a fixed time: for benchmarks and tests."""

    kind: Literal["simulated"] = "simulated"
    seconds_per_request: float = Field(default=0.0, ge=0.0)
    reply: str = "Answer: 0"


EngineSettings = Annotated[TransformersEngineSettings | SimulatedEngineSettings, Field(discriminator="kind")]
