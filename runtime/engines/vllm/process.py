"""The life of vLLM's processes: their start, the cause of a failed start, their end.

vLLM runs the model in processes of its own. When one cannot start, its parent hears that it failed, and the
reason is in the log alone. So the log goes to a file, and the reason is read from there.
"""

from __future__ import annotations

import asyncio
import json
import os
import re
import tempfile
from functools import cache, partial
from pathlib import Path
from typing import TYPE_CHECKING, Final

import structlog

from ....configs.errors import SettingsError
from ....configs.models import ModelSettings, VllmEngineSettings
from ...daemon_thread import in_daemon_thread
from ..base import EngineFailed

if TYPE_CHECKING:
    from vllm.engine.arg_utils import AsyncEngineArgs
    from vllm.v1.engine.async_llm import AsyncLLM

log = structlog.get_logger("engine")

INSTALL = "install it with `pip install 'agentfactory[vllm]'`, or use engine.kind transformers"
FREED_S = 10.0
"""Wait until the memory of an engine that has just died is free again."""
_ERROR: Final = re.compile(r"^(?:\w+\.)*\w*(?:Error|Exception)\b:? *(.*)$", re.MULTILINE)
_QUOTED: Final = re.compile(r"Worker failed with error '(.*)', please check", re.DOTALL)
_MEMORY: Final = re.compile(r"memory|KV cache|bad_alloc", re.IGNORECASE)
_FORMAT: Final = "%(asctime)s %(process)d %(levelname)s %(message)s"
MAX_CHARACTERS: Final = 400
MEMORY_ADVICE = (
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
        raise SettingsError(f"{model.source}: does not fit: {error}; {MEMORY_ADVICE}") from error


def has_died(llm: AsyncLLM) -> bool:
    """True if vLLM says so, or its process has ended: it says so only after a shutdown that may hang."""
    manager = getattr(getattr(llm.engine_core, "resources", None), "engine_manager", None)
    return llm.errored or bool(getattr(manager, "finished_procs", dict)())


async def shut_down(llm: AsyncLLM, limit_s: float) -> None:
    """Have vLLM end its processes; its own limit does not hold where one of them stands still."""
    try:
        async with asyncio.timeout(2 * limit_s):
            await in_daemon_thread(partial(llm.shutdown, limit_s))
    except TimeoutError:
        log.error("vLLM does not end; it is left to itself", after_s=2 * limit_s)


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


@cache
def keep_log() -> Path:
    """The file that the errors of this process's engines go to; asked for before vLLM is imported."""
    folder = Path(tempfile.mkdtemp(prefix="agentfactory-vllm-"))
    log = folder / "vllm.log"
    log.touch()
    config = {
        "version": 1,
        "disable_existing_loggers": False,
        "formatters": {"plain": {"format": _FORMAT}},
        "handlers": {"file": {"class": "logging.FileHandler", "filename": str(log), "formatter": "plain"}},
        "loggers": {"vllm": {"handlers": ["file"], "level": "ERROR", "propagate": False}},
    }
    (folder / "logging.json").write_text(json.dumps(config))
    os.environ.setdefault("VLLM_LOGGING_CONFIG_PATH", str(folder / "logging.json"))
    return log


def cause_in(text: str) -> str:
    """The last error in a log, in one line; empty where there is none."""
    causes = [match for match in _ERROR.findall(text) if match]
    if not causes:
        return ""
    quoted = _QUOTED.search(causes[-1])
    cause = " ".join((quoted.group(1) if quoted else causes[-1]).split()).rstrip(".")
    return cause if len(cause) <= MAX_CHARACTERS else cause[:MAX_CHARACTERS] + "…"


def is_about_memory(cause: str) -> bool:
    """True if less of something would have helped."""
    return _MEMORY.search(cause) is not None
