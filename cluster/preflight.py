"""Checks of a run before anything is started or written; what fails is refused in a sentence."""

import asyncio
import importlib.util
import os
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Final

from ..actors.domains import domain_named
from ..configs.errors import BadInput, SettingsError
from ..configs.load import load_section
from ..configs.models import EngineSettings, ModelSettings
from ..configs.sandbox import SafetyRuleSettings
from ..configs.settings import Settings
from ..runtime.daemon_thread import daemon_thread
from .placement import gpu_requests

HUB_TIMEOUT_S: Final = 10.0
_WEIGHTS: Final = ("model.safetensors", "model.safetensors.index.json", "pytorch_model.bin")
_GPU_FILES: Final = ("dev/nvidia[0-9]*", "dev/dxg", "dev/kfd")
"""NVIDIA's, WSL's and AMD's."""


async def check_run(settings: Settings, *, joins: bool) -> None:
    """Check the whole settings of a run. Raises BadInput; nothing has been started or written then.

    `joins`: the run goes to a cluster whose machines have GPUs, packages and a network of their own.
    """
    for name in settings.curriculum.domains:
        _blamed("curriculum.domains", partial(domain_named, name))
    for number, term in enumerate(settings.rewards.terms):
        for name in term.domains:
            _blamed(f"rewards.terms.{number}.domains", partial(domain_named, name))
    settings.data.locate_library()
    if rules := settings.student.toolbox.rules:
        _blamed("student.toolbox.rules", lambda: load_section(Path(rules).expanduser(), SafetyRuleSettings))
    await check_model(settings.model, settings.engine, trains=True, joins=joins)


async def check_model(
    model: ModelSettings, engine: EngineSettings, *, trains: bool = False, joins: bool = False
) -> None:
    """Check that a model can be loaded, and by this engine. Raises BadInput."""
    source = model.locate()
    if joins:
        return
    needed = engine.requirement
    if needed is not None and not _installed(needed.module):
        raise SettingsError(f"engine.kind: {needed.name} is not installed; {needed.install}")
    _check_gpus(model, engine, trains=trains)
    if model.quantize == "nf4" and not _installed("bitsandbytes"):
        raise SettingsError(
            "model.quantize: nf4 needs bitsandbytes; pip install 'agentfactory[qlora]', or set it to none"
        )
    if not os.path.isabs(source) and not os.path.isdir(source):  # noqa: ASYNC240 - as quick as a stat
        await _check_hub(source)


def _check_gpus(model: ModelSettings, engine: EngineSettings, *, trains: bool) -> None:
    needed = int(sum(part.gpus for part in gpu_requests(model, engine, trains=trains)))
    if not needed and model.quantize == "none":
        return
    shown = os.environ.get("CUDA_VISIBLE_DEVICES")
    files = [path for pattern in _GPU_FILES for path in Path("/").glob(pattern)]
    if not files or (shown is not None and shown.strip() in {"", "-1"}):
        what = "model.device: cuda" if needed else "model.quantize: nf4"
        raise SettingsError(
            f"{what} needs a GPU, and this machine has none that this process can see; use the preset "
            "laptop, or set model.device to cpu and model.quantize to none"
        )
    counted = [path for path in files if path.name.startswith("nvidia")]
    if counted and len(counted) < needed:
        raise SettingsError(
            f"engine: {engine.copies} copies need {needed} GPUs, and this machine has {len(counted)}; "
            "set engine.copies or engine.tensor_parallel to less"
        )


async def _check_hub(name: str) -> None:
    """Check that a model lies in the hub's cache on this machine, or that the hub answers for it."""
    with daemon_thread("hub") as thread:
        try:
            async with asyncio.timeout(HUB_TIMEOUT_S):
                await thread.run(lambda: _ask_hub(name))
        except TimeoutError:
            raise BadInput(
                f"model.source: {name!r} is not in the hub's cache on this machine, and the hub does not "
                f"answer within {HUB_TIMEOUT_S:g} s; is there a network?"
            ) from None


def _ask_hub(name: str) -> None:
    from huggingface_hub import constants, get_hf_file_metadata, hf_hub_url, try_to_load_from_cache
    from huggingface_hub.errors import GatedRepoError, HFValidationError, RepositoryNotFoundError

    where = f"model.source: {name!r}"
    try:
        if any(isinstance(try_to_load_from_cache(name, file), str) for file in _WEIGHTS):
            return
        if not constants.HF_HUB_OFFLINE:
            get_hf_file_metadata(hf_hub_url(name, "config.json"), timeout=HUB_TIMEOUT_S)
    except HFValidationError as error:
        raise BadInput(f"{where} is neither a folder nor a name that the hub can have") from error
    except GatedRepoError as error:
        raise BadInput(f"{where}: only those get it who accepted its terms (HF_TOKEN)") from error
    except RepositoryNotFoundError as error:
        raise BadInput(f"{where}: the hub has no such model, or not for you (HF_TOKEN)") from error
    except Exception as error:  # OSError, or one of httpx's own, which have no base in common with it
        raise BadInput(f"{where}: the hub cannot be reached ({_first_line(error)})") from error
    if constants.HF_HUB_OFFLINE:
        raise BadInput(
            f"{where} is not in the hub's cache on this machine, and HF_HUB_OFFLINE forbids to get it; "
            "unset it, or give a folder"
        )


def _blamed(key: str, check: Callable[[], object]) -> None:
    try:
        check()
    except BadInput as error:
        raise SettingsError(f"{key}: {error}") from error


def _installed(package: str) -> bool:
    return importlib.util.find_spec(package) is not None


def _first_line(error: BaseException) -> str:
    return next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)
