"""Context length of a served model where no preset says it: the model's own, if it fits here."""

from __future__ import annotations

from pathlib import Path
from typing import Final, NamedTuple

import psutil

from ...configs.models import EngineSettings, ModelSettings

LEAST_TOKENS: Final = 16
_BYTES: Final = {"float32": 4, "bfloat16": 2, "float16": 2}


class Shape(NamedTuple):
    """Shape of a model, from its configuration."""

    longest: int | None
    """Tokens; None where it does not say."""
    bytes_per_token: int
    """Keys and values of all layers."""


def fit_context(model: ModelSettings, engine: EngineSettings) -> tuple[EngineSettings, str]:
    """The engine's settings with the model's own context, and a sentence about it.

    Reads the model's configuration, which may come from the hub. Raises OSError, ValueError.
    """
    if engine.context_tokens is None:
        return engine, ""
    shape = _shape_of(model)
    longest = shape.longest or engine.context_tokens
    fits = max(LEAST_TOKENS, _room(model, engine) // shape.bytes_per_token)
    tokens = min(longest, fits)
    whose = "the model's own" if shape.longest else "the model does not say its own"
    if tokens < longest:
        whose = f"of the model's {longest}: what the memory here holds; a preset's engine.max_context wins"
    return engine.with_context(tokens), f"context: {tokens} tokens, {whose}"


def _shape_of(model: ModelSettings) -> Shape:
    from transformers import AutoConfig

    config = AutoConfig.from_pretrained(model.locate()).get_text_config()
    longest = getattr(config, "max_position_embeddings", None)
    heads = getattr(config, "num_key_value_heads", None) or config.num_attention_heads
    width = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    values = 2 * config.num_hidden_layers * heads * width
    return Shape(longest if isinstance(longest, int) else None, values * _BYTES[model.dtype])


def _room(model: ModelSettings, engine: EngineSettings) -> int:
    """Bytes for the longest sequence's keys and values."""
    free, total = _gpu_memory(model)
    available = free if total else psutil.virtual_memory().available
    return engine.longest_cache_bytes(available, total, _weight_bytes(model))


def _gpu_memory(model: ModelSettings) -> tuple[int, int]:
    """Free and all bytes of the GPU that the model would run on; none where it runs on the processor."""
    import torch

    if model.device == "cpu" or not torch.cuda.is_available():
        return 0, 0
    free, total = torch.cuda.mem_get_info()
    return int(free), int(total)


def _weight_bytes(model: ModelSettings) -> int:
    """Of a model in a folder; a model of the hub is not there yet."""
    folder = Path(model.locate())
    return sum(file.stat().st_size for file in folder.glob("*.safetensors")) if folder.is_dir() else 0
