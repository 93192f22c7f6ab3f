"""The base model, and the LoRA adapters that are trained on it, as standard PEFT files."""

import hashlib
import json
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import safetensors.torch
import torch
from peft import (
    LoraConfig,
    PeftModel,
    get_peft_model,
    get_peft_model_state_dict,
    prepare_model_for_kbit_training,
    set_peft_model_state_dict,
)
from transformers import PreTrainedModel

from ..configs.errors import SettingsError
from ..configs.model_loading import load_base_model
from ..configs.models import ModelSettings
from ..configs.roles import LoraSettings
from ..messages.adapters import Policy
from .errors import CannotLoadModel


def load_base(settings: ModelSettings) -> PreTrainedModel:
    """The frozen base model, in four bits if asked. Raises CannotLoadModel, SettingsError."""
    settings.locate()  # a folder that is none is the settings' error, not the loading's
    try:
        base = load_base_model(settings, attention="sdpa")
    except SettingsError as error:
        raise CannotLoadModel(str(error)) from error
    if settings.quantize == "nf4":
        prepare_model_for_kbit_training(base, use_gradient_checkpointing=False)
    return base


def add_adapters(
    base: PreTrainedModel, settings: LoraSettings, policies: Sequence[Policy], source: str, seed: int
) -> PeftModel:
    """Wrap the base with one fresh adapter for each policy; each starts as the base model itself.

    An adapter's first weights follow from `seed` and its policy's name alone, whichever others are
    there. `source` is what the adapter's file names as its base: a word that means the same on every
    machine. Raises CannotLoadModel if the model lacks a target module.
    """
    model: PeftModel | None = None
    for policy in policies:
        config = LoraConfig(
            task_type="CAUSAL_LM",
            r=settings.rank,
            lora_alpha=settings.alpha,
            lora_dropout=settings.dropout,
            target_modules=list(settings.target_modules),
        )
        try:
            with seeded(f"{seed}:{policy}:lora"), warnings.catch_warnings():
                # peft asks transformers for a name that transformers has deprecated.
                warnings.filterwarnings("ignore", message="`is_gradient_checkpointing`")
                if model is None:
                    model = get_peft_model(base, config, adapter_name=policy)
                else:
                    model.add_adapter(policy, config)
        except ValueError as error:
            raise CannotLoadModel(f"trainer.lora does not fit the model {source!r}: {error}") from error
        config.base_model_name_or_path = source
    if model is None:
        raise ValueError("no policies to adapt the base model for")
    return model


def export_adapter(model: PeftModel, policy: Policy) -> tuple[bytes, bytes]:
    """The content of `adapter_config.json` and `adapter_model.safetensors`, the same bytes each time."""
    config = model.peft_config[policy].to_dict()
    config["inference_mode"] = True
    plain = {key: sorted(value) if isinstance(value, set) else value for key, value in config.items()}
    state = get_peft_model_state_dict(model, adapter_name=policy, save_embedding_layers=False)
    tensors = {key: value.detach().to("cpu").contiguous() for key, value in state.items()}
    config_json = json.dumps(plain, indent=2, sort_keys=True) + "\n"
    return config_json.encode(), safetensors.torch.save(tensors, metadata={"format": "pt"})


def import_adapter(model: PeftModel, policy: Policy, weights: bytes) -> None:
    """Overwrite a policy's adapter with the content of an `adapter_model.safetensors`."""
    outcome: Any = set_peft_model_state_dict(model, safetensors.torch.load(weights), adapter_name=policy)
    if outcome.unexpected_keys:
        raise CannotLoadModel(
            f"the {policy} adapter has tensors that the model lacks, such as "
            f"{outcome.unexpected_keys[0]}; was it trained on another model?"
        )


@contextmanager
def seeded(text: str) -> Iterator[None]:
    """Inside, torch's random numbers follow from the text; outside, nothing has changed."""
    devices = range(torch.cuda.device_count())
    with torch.random.fork_rng(devices=devices):
        torch.manual_seed(int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big"))
        yield
