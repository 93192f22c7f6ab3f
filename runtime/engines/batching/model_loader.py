"""Loading the base model onto its device, in its dtype, quantized if asked for."""

from __future__ import annotations

import torch
import transformers
from transformers import AutoModelForCausalLM, PreTrainedModel

from ....configs.errors import SettingsError
from ....configs.models import LOADING, ModelSettings
from .attention import NAME

MEMORY_ADVICE = "take a smaller model, a smaller model.dtype (bfloat16), or on a GPU model.quantize nf4"


def load_base(settings: ModelSettings) -> PreTrainedModel:
    """The frozen base model, ready to decode. Raises SettingsError where it cannot be had."""
    device = _device(settings)
    source = settings.locate()
    quantization = _quantization(settings, device)
    transformers.logging.disable_progress_bar()
    try:
        with LOADING:
            model = AutoModelForCausalLM.from_pretrained(
                source,
                dtype=getattr(torch, settings.dtype),
                attn_implementation=NAME,
                quantization_config=quantization,
                device_map={"": device} if quantization else None,
            )
        if quantization is None:
            model = model.to(device)
    except (OSError, ValueError) as error:
        raise SettingsError(f"model.source: {source!r} cannot be loaded: {error}") from error
    except (MemoryError, RuntimeError) as error:
        if isinstance(error, MemoryError | torch.OutOfMemoryError) or "allocate memory" in str(error):
            raise SettingsError(f"model.source: {source!r} does not fit: {error}; {MEMORY_ADVICE}") from error
        raise
    model.requires_grad_(False)
    _check_layers(model)
    return model.eval()


def _device(settings: ModelSettings) -> str:
    available = torch.cuda.is_available()
    if settings.device == "cuda" and not available:
        raise SettingsError("model.device is cuda, but torch sees no GPU; use auto or cpu")
    return "cuda" if available and settings.device != "cpu" else "cpu"


def _quantization(settings: ModelSettings, device: str):  # type: ignore[no-untyped-def]
    if settings.quantize == "none":
        return None
    if device == "cpu":
        raise SettingsError("model.quantize: nf4 needs a GPU; use none on the processor")
    from transformers import BitsAndBytesConfig

    return BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=getattr(torch, settings.dtype),
    )


def _check_layers(model: PreTrainedModel) -> None:
    """Only layers with keys and values for every token can live in the cache."""
    kinds = set(getattr(model.config.get_text_config(), "layer_types", None) or ())
    strange = kinds - {"full_attention", "sliding_attention"}
    if strange:
        raise SettingsError(
            f"model.source: {type(model).__name__} has layers of kind {sorted(strange)}, which this engine "
            "cannot serve; use vLLM for it"
        )
