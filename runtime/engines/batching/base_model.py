"""The base model as this engine decodes with it: its attention reads and writes our own key-value cache.

transformers lets a model's attention be any registered function, and hands it whatever extra
keyword arguments the forward pass was given; its own continuous batching works this way. We pass
the forward batch as `packed`: the function stores the new keys and values where they belong and
attends over them. So every family that routes through this interface works (Llama, Qwen, Mistral,
Gemma, Phi, …), and no mask is ever built by the model.
"""

from __future__ import annotations

from typing import NamedTuple, Protocol

import torch
from torch import Tensor, nn
from transformers import AttentionInterface, PreTrainedModel

from ....configs.errors import SettingsError
from ....configs.model_loading import load_base_model
from ....configs.models import ModelSettings
from ..base import EngineFailed

NAME = "agentfactory_slots"
"""Under which `packed_attention` is registered."""
MEMORY_ADVICE = "take a smaller model, a smaller model.dtype (bfloat16), or on a GPU model.quantize nf4"


class PackedAttention(Protocol):
    """One forward pass over packed tokens: where keys and values go, and what attends to what."""

    def attend(
        self, layer: int, query: Tensor, key: Tensor, value: Tensor, scaling: float, window: int | None
    ) -> Tensor:
        """Store `key` and `value` [N, kv heads, d] and return attention of `query` [N, heads, d]."""


class LayerShape(NamedTuple):
    """Shape of one token's entry in one layer's cache."""

    heads: int
    key_dim: int
    value_dim: int


def packed_attention(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    scaling: float | None = None,
    packed: PackedAttention | None = None,
    sliding_window: int | None = None,
    softcap: float | None = None,
    s_aux: Tensor | None = None,
    **unused: object,
) -> tuple[Tensor, None]:
    """Registered with transformers: tensors come as [1, heads, N, d] and leave as [1, N, heads, d]."""
    if packed is None:
        raise EngineFailed("this model does not hand the engine's slots to its attention; use vLLM for it")
    if softcap is not None or s_aux is not None:
        raise EngineFailed("this model caps or sinks its attention, which the engine cannot; use vLLM for it")
    layer = module.layer_idx
    assert isinstance(layer, int)
    out = packed.attend(
        layer,
        query[0].transpose(0, 1),
        key[0].transpose(0, 1),
        value[0].transpose(0, 1),
        query.shape[-1] ** -0.5 if scaling is None else scaling,
        sliding_window,
    )
    return out.unsqueeze(0), None


class _Probe:
    """Notes the shapes that each layer would store."""

    def __init__(self) -> None:
        self.layers: dict[int, LayerShape] = {}

    def attend(
        self, layer: int, query: Tensor, key: Tensor, value: Tensor, scaling: float, window: int | None
    ) -> Tensor:
        self.layers[layer] = LayerShape(key.shape[1], key.shape[2], value.shape[2])
        return value.new_zeros(query.shape[0], query.shape[1], value.shape[2])


def probe(model: PreTrainedModel) -> list[LayerShape]:
    """Run one token through the model and see what its layers store.

    Raises EngineFailed for a family whose layers do not all attend through the interface.
    """
    seen = _Probe()
    one = torch.zeros(1, 1, dtype=torch.long, device=model.device)
    model(input_ids=one, position_ids=one, use_cache=False, packed=seen)
    layers = [seen.layers[index] for index in sorted(seen.layers)]
    if not layers or len(layers) != model.config.get_text_config().num_hidden_layers:
        raise EngineFailed(
            f"{type(model).__name__}: {len(layers)} of {model.config.num_hidden_layers} layers attend "
            "through transformers' attention interface; use vLLM for this model"
        )
    return layers


def load_base(settings: ModelSettings) -> PreTrainedModel:
    """The frozen base model, ready to decode. Raises SettingsError where it cannot be had."""
    try:
        model = load_base_model(settings, attention=NAME)
    except (MemoryError, RuntimeError) as error:
        if isinstance(error, MemoryError | torch.OutOfMemoryError) or "allocate memory" in str(error):
            raise SettingsError(
                f"model.source: {settings.locate()!r} does not fit: {error}; {MEMORY_ADVICE}"
            ) from error
        raise
    _check_layers(model)
    return model.eval()


def _check_layers(model: PreTrainedModel) -> None:
    """Only layers with keys and values for every token can live in the cache."""
    kinds = set(getattr(model.config.get_text_config(), "layer_types", None) or ())
    strange = kinds - {"full_attention", "sliding_attention"}
    if strange:
        raise SettingsError(
            f"model.source: {type(model).__name__} has layers of kind {sorted(strange)}, which this engine "
            "cannot serve; use vLLM for it"
        )


AttentionInterface.register(NAME, packed_attention)
