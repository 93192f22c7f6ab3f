"""Starting vLLM's processes, and saying why they did not start."""

from __future__ import annotations

import asyncio
import os
from typing import TYPE_CHECKING

import structlog

from ...configs.errors import SettingsError
from ...configs.models import ModelSettings, VllmEngineSettings
from .base import EngineFailed
from .vllm_log import cause_in, is_about_memory, keep_log

if TYPE_CHECKING:
    from vllm.engine.arg_utils import AsyncEngineArgs
    from vllm.v1.engine.async_llm import AsyncLLM

log = structlog.get_logger("engine")

INSTALL = "install it with `pip install 'agentfactory[vllm]'`, or use engine.kind transformers"
FREED_S = 10.0
"""How long the memory of an engine that has just died may take to be free again."""
LESS = (
    "lower engine.max_context, engine.max_batch or engine.max_adapters; change engine.gpu_memory (on a "
    "processor engine.cpu_cache_gb); or take a smaller or quantized model (model.quantize)"
)


class OutOfMemory(EngineFailed):
    """Model, caches and adapters need more memory than there is."""


async def start_llm(model: ModelSettings, settings: VllmEngineSettings) -> AsyncLLM:
    """Start vLLM; where memory is short, once more when what died before has let go of it.

    Raises EngineFailed, and SettingsError for what other settings would mend.
    """
    made: list[AsyncLLM] = []  # frames of its start live on in vLLM, and would keep a returned one
    try:
        await asyncio.to_thread(_start, model, settings, made)
        return made.pop()
    except OutOfMemory as error:
        log.warning("vLLM found too little memory and is started again", cause=str(error))
    await asyncio.sleep(FREED_S)
    try:
        await asyncio.to_thread(_start, model, settings, made)
        return made.pop()
    except OutOfMemory as error:
        raise SettingsError(f"{model.source}: does not fit: {error}; {LESS}") from error


def _start(model: ModelSettings, settings: VllmEngineSettings, made: list[AsyncLLM]) -> None:
    """Start vLLM's processes and wait for them. Blocks. Raises OutOfMemory, EngineFailed, SettingsError."""
    log_file = keep_log()
    os.environ.setdefault("VLLM_NO_USAGE_STATS", "1")
    os.environ.setdefault("VLLM_LOGGING_LEVEL", "ERROR")
    os.environ.setdefault("VLLM_CPU_KVCACHE_SPACE", str(settings.cpu_cache_gb))
    os.environ.setdefault("VLLM_WORKER_MULTIPROC_METHOD", "spawn")
    try:
        from vllm.v1.engine.async_llm import AsyncLLM
    except ImportError as error:
        raise SettingsError(f"engine.kind: vllm is not installed ({error}); {INSTALL}") from error
    if settings.sleep and not _can_sleep():
        raise SettingsError("engine.sleep: vLLM cannot sleep on this device; it is for GPUs")
    known = log_file.stat().st_size
    try:
        made.append(AsyncLLM.from_engine_args(_arguments(model, settings)))
    except Exception as error:  # whatever is wrong: vLLM's own processes have logged it
        cause = cause_in(log_file.read_bytes()[known:].decode(errors="replace")) or str(error)
        if is_about_memory(cause):
            raise OutOfMemory(cause) from error
        raise EngineFailed(
            f"vLLM could not start with {model.source!r}: {cause}; its log: {log_file}"
        ) from error


def _can_sleep() -> bool:
    from vllm.platforms import current_platform

    return bool(current_platform.is_sleep_mode_available())


def _arguments(model: ModelSettings, settings: VllmEngineSettings) -> AsyncEngineArgs:
    from transformers import AutoConfig
    from vllm.engine.arg_utils import AsyncEngineArgs

    source = model.locate()
    config = AutoConfig.from_pretrained(source).get_text_config()
    longest = getattr(config, "max_position_embeddings", None) or settings.max_context
    return AsyncEngineArgs(
        model=source,
        dtype=model.dtype,
        quantization="bitsandbytes" if model.quantize == "nf4" else None,
        max_model_len=min(settings.max_context, longest),
        max_num_seqs=settings.max_batch,
        tensor_parallel_size=settings.tensor_parallel,
        gpu_memory_utilization=settings.gpu_memory,
        enable_sleep_mode=settings.sleep,
        enforce_eager=not settings.compile,
        enable_lora=True,
        max_loras=settings.max_adapters,
        max_cpu_loras=settings.max_adapters,
        max_lora_rank=settings.max_lora_rank,
        enable_prefix_caching=True,
        logprobs_mode="processed_logprobs",
        disable_log_stats=True,
    )
