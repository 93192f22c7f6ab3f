"""Loading of transformers, and of a base model with it: one way for the engine and the Trainer.

It lies in this room because both may import it and neither the other; the settings that it follows are here,
too. torch and transformers are imported by the functions that need them, never by this module.
"""

from __future__ import annotations

from threading import Lock
from typing import TYPE_CHECKING, Any, Final

from .errors import SettingsError
from .models import ModelSettings

if TYPE_CHECKING:
    from transformers import PreTrainedModel

LOADING: Final = Lock()
"""Hold it around `from_pretrained`: transformers loads through state that all threads share, and the
engine and the Trainer of a local run load at the same time."""
_UNUSED: Final = ("sklearn", "scipy", "pandas")
"""For assisted decoding and for the losses of image models."""


def load_base_model(settings: ModelSettings, *, attention: str) -> PreTrainedModel:
    """The frozen base model on its device, in its dtype, quantized if asked for.

    `attention` is an implementation that transformers knows. Raises SettingsError where the settings are to
    blame; running out of memory is the caller's to judge.
    """
    import torch
    import transformers

    device = _choose_device(settings)
    options = _quantization_options(settings, device)
    source = settings.locate()
    transformers.logging.disable_progress_bar()
    try:
        with LOADING:
            model: PreTrainedModel = transformers.AutoModelForCausalLM.from_pretrained(
                source, dtype=getattr(torch, settings.dtype), attn_implementation=attention, **options
            )
    except (OSError, ValueError, ImportError) as error:
        raise SettingsError(f"model.source {settings.source!r} cannot be loaded: {error}") from error
    if not options:
        model.to(device)
    model.requires_grad_(False)
    return model


def _choose_device(settings: ModelSettings) -> str:
    import torch

    cuda = torch.cuda.is_available()
    if settings.device == "cuda" and not cuda:
        raise SettingsError("model.device is cuda, but PyTorch sees no GPU; use `auto` or `cpu`")
    return "cuda" if cuda and settings.device != "cpu" else "cpu"


def _quantization_options(settings: ModelSettings, device: str) -> dict[str, Any]:
    """Arguments of `from_pretrained`; a quantized model is put on its device by them."""
    if settings.quantize == "none":
        return {}
    if device != "cuda":
        raise SettingsError("model.quantize is nf4, which needs a GPU; use `none` on a processor")
    import torch
    from transformers import BitsAndBytesConfig

    quantization = BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=getattr(torch, settings.dtype),
    )
    return {"quantization_config": quantization, "device_map": {"": device}}


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
