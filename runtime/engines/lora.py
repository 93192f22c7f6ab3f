"""LoRA adapters: checking an adapter's bytes, and a model that has it, merged (or with peft's layers).

Merging by hand, W' = W + scaling·B·A, rather than by peft's `merge_and_unload`: that one adds into
the weight in place, and here every other version shares it. The few lines are held to peft's own
forward by the tests. On a quantized base nothing can be merged, so peft's layers stay in.
"""

from __future__ import annotations

import copy
import hashlib
import json
import math
import re
from collections.abc import Mapping
from itertools import chain
from pathlib import PurePath
from typing import NamedTuple, TypeVar

import torch
from pydantic import BaseModel, ConfigDict, ValidationError
from safetensors import SafetensorError
from safetensors.torch import load as load_safetensors
from torch import Tensor, nn
from transformers import PreTrainedModel

from ...messages.adapters import LoadAdapter
from .base import AdapterRejected

V = TypeVar("V")

_PREFIX = "base_model.model."
_TENSOR = re.compile(rf"{re.escape(_PREFIX)}(?P<module>.+)\.lora_(?P<part>[AB])\.weight")


class LoraFile(BaseModel):
    """The fields of `adapter_config.json` that matter here; peft writes many more."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    r: int
    lora_alpha: float
    use_rslora: bool = False
    rank_pattern: dict[str, int] = {}
    alpha_pattern: dict[str, float] = {}
    fan_in_fan_out: bool = False
    base_model_name_or_path: str | None = None
    peft_type: str = "LORA"
    use_dora: bool = False
    bias: str = "none"
    modules_to_save: list[str] | None = None

    def rank(self, module: str) -> int:
        """Rank of the adapter on this module."""
        return _by_pattern(self.rank_pattern, module, self.r)

    def scaling(self, module: str) -> float:
        """alpha/r, or alpha/√r for rank-stabilized LoRA."""
        rank = self.rank(module)
        alpha = _by_pattern(self.alpha_pattern, module, self.lora_alpha)
        return alpha / (math.sqrt(rank) if self.use_rslora else rank)


class LoraPair(NamedTuple):
    """The two factors of one module's update, ΔW = scaling·B·A."""

    a: Tensor
    """[r, in]"""
    b: Tensor
    """[out, r]"""
    scaling: float


class Lora(NamedTuple):
    """A checked adapter."""

    sha256: str
    pairs: Mapping[str, LoraPair]
    """By module name."""
    fan_in_fan_out: bool
    request: LoadAdapter


def read_adapter(request: LoadAdapter, base: PreTrainedModel, base_name: str) -> Lora:
    """Check the bytes against their digest, their configuration and the base model's shapes.

    Raises AdapterRejected.
    """
    lora, config = read_files(request, base_name)
    name = request.adapter.name or "the base model"
    for module, pair in lora.pairs.items():
        _check_shapes(name, module, pair, base, config)
    return lora


def read_files(request: LoadAdapter, base_name: str) -> tuple[Lora, LoraFile]:
    """Check what can be checked without the base model. Raises AdapterRejected."""
    name = request.adapter.name or "the base model"
    digest = hashlib.sha256(request.weights).hexdigest()
    if request.adapter.sha256 and digest != request.adapter.sha256:
        raise AdapterRejected(
            f"{name}: the weights' sha256 is {digest}, expected {request.adapter.sha256}; fetch them again"
        )
    config = _read_config(name, request.config_json, base_name)
    pairs = _pair(name, _read_weights(name, request.weights), config)
    return Lora(digest, pairs, config.fan_in_fan_out, request), config


def merge_lora(base: PreTrainedModel, lora: Lora) -> PreTrainedModel:
    """A model that shares all of the base's tensors but the targeted weights."""
    model = _share(base)
    for name, pair in lora.pairs.items():
        module = model.get_submodule(name)
        delta = (pair.b.float() @ pair.a.float()) * pair.scaling
        weight = module.weight
        assert isinstance(weight, Tensor)
        change = (delta.T if lora.fan_in_fan_out else delta).to(weight.device)
        new = (weight.float() + change).to(weight.dtype)
        module.weight = nn.Parameter(new, requires_grad=False)
    return model


def attach_lora(base: PreTrainedModel, lora: Lora) -> PreTrainedModel:
    """A model that shares all of the base's tensors and runs peft's LoRA layers on top."""
    from peft import LoraConfig, inject_adapter_in_model, set_peft_model_state_dict

    fields = json.loads(lora.request.config_json)
    targets = {"target_modules": sorted(lora.pairs), "inference_mode": True}
    config = LoraConfig.from_peft_type(**{**fields, **targets})
    model = inject_adapter_in_model(config, _share(base))
    set_peft_model_state_dict(model, load_safetensors(lora.request.weights))
    assert isinstance(model, PreTrainedModel)
    return model.eval()


def _share(base: PreTrainedModel) -> PreTrainedModel:
    """A copy of the module tree around the same tensors."""
    tensors: dict[int, object] = {id(t): t for t in chain(base.parameters(), base.buffers())}
    return copy.deepcopy(base, tensors)


def _read_config(name: str, content: bytes, base_name: str) -> LoraFile:
    try:
        config = LoraFile.model_validate_json(content)
    except ValidationError as error:
        raise AdapterRejected(f"{name}: adapter_config.json cannot be used: {error}") from error
    if config.peft_type != "LORA" or config.use_dora or config.bias != "none" or config.modules_to_save:
        raise AdapterRejected(f"{name}: only plain LoRA is served: no DoRA, biases or modules_to_save")
    trained_on = config.base_model_name_or_path
    if trained_on and PurePath(trained_on).name != PurePath(base_name).name:
        raise AdapterRejected(f"{name}: trained on {trained_on!r}, but this engine runs {base_name!r}")
    return config


def _read_weights(name: str, content: bytes) -> dict[str, Tensor]:
    try:
        return load_safetensors(content)
    except SafetensorError as error:
        raise AdapterRejected(f"{name}: adapter_model.safetensors cannot be read: {error}") from error


def _pair(name: str, tensors: Mapping[str, Tensor], config: LoraFile) -> dict[str, LoraPair]:
    halves: dict[str, dict[str, Tensor]] = {}
    for key, tensor in tensors.items():
        match = _TENSOR.fullmatch(key)
        if match is None:
            raise AdapterRejected(f"{name}: unexpected tensor {key!r}; only LoRA on linear layers is served")
        if not torch.isfinite(tensor).all():
            raise AdapterRejected(f"{name}: {key} holds values that are not finite")
        halves.setdefault(match["module"], {})[match["part"]] = tensor
    lonely = [module for module, parts in halves.items() if len(parts) < 2]
    if lonely or not halves:
        raise AdapterRejected(f"{name}: LoRA pairs are incomplete: {lonely or 'there are none'}")
    return {
        module: LoraPair(parts["A"], parts["B"], config.scaling(module)) for module, parts in halves.items()
    }


def _check_shapes(name: str, module: str, pair: LoraPair, base: PreTrainedModel, config: LoraFile) -> None:
    try:
        layer = base.get_submodule(module)
    except AttributeError as error:
        raise AdapterRejected(f"{name}: the base model has no module {module!r}") from error
    rank = config.rank(module)
    size = _in_and_out(layer, config.fan_in_fan_out)
    if pair.a.shape != (rank, size[0]) or pair.b.shape != (size[1], rank):
        raise AdapterRejected(
            f"{name}: {module} takes A {(rank, size[0])} and B {(size[1], rank)}, "
            f"found A {tuple(pair.a.shape)} and B {tuple(pair.b.shape)}: wrong rank or wrong base model"
        )


def _in_and_out(layer: nn.Module, fan_in_fan_out: bool) -> tuple[int, int]:
    """Widths of a linear layer; a quantized one stores packed bytes but knows its features."""
    if isinstance(layer, nn.Linear):
        return layer.in_features, layer.out_features
    weight = getattr(layer, "weight", None)
    if not isinstance(weight, Tensor) or weight.ndim != 2:
        raise AdapterRejected(f"{type(layer).__name__} is not a linear layer")
    rows, columns = weight.shape
    return (rows, columns) if fan_in_fan_out else (columns, rows)


def _by_pattern(patterns: Mapping[str, V], module: str, default: V) -> V:
    """peft's rule: the first pattern that matches the end of the module's name."""
    for pattern, value in patterns.items():
        if re.match(rf"(.*\.)?({pattern})$", module):
            return value
    return default
