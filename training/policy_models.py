"""Policy models: one base model, an adapter for each policy, and the log-probabilities they give."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import torch
from peft import PeftModel
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint
from transformers import PreTrainedModel

from ..configs.models import ModelSettings
from ..configs.roles import TrainerSettings
from ..messages.adapters import Policy
from .batching import TokenBatch
from .errors import CannotLoadModel
from .lora import add_adapters, export_adapter, import_adapter, load_base

MAX_LOGITS = 2**26
"""Logits held at a time (256 MB in float32): with a large vocabulary they outweigh all the rest."""


class PolicyModels:
    """The policies in training. They share the base model's memory and differ by their adapter.

    `temperatures` names the policies, and at what temperature each is sampled: the log-probabilities
    are those of the distribution that the tokens were drawn from.
    """

    def __init__(
        self,
        model: ModelSettings,
        settings: TrainerSettings,
        temperatures: Mapping[Policy, float],
        seed: int,
    ) -> None:
        base = load_base(model)
        for name in ("final_logit_softcapping", "logit_scale", "logits_scaling"):
            if getattr(base.config, name, None) not in (None, 1.0):
                raise CannotLoadModel(f"{model.source!r} transforms its logits ({name}); not supported")
        self._temperatures = dict(temperatures)
        self._model: PeftModel = add_adapters(base, settings.lora, tuple(temperatures), model.source, seed)
        if settings.gradient_checkpointing:
            _checkpoint_activations(base)
        self._backbone: nn.Module = base.base_model
        self._head: nn.Module = base.get_output_embeddings()
        self._vocabulary = int(base.config.vocab_size)
        self._training = settings.gradient_checkpointing or settings.lora.dropout > 0.0
        self._initial = {policy: self.export(policy)[1] for policy in temperatures}
        self.device: torch.device = base.device

    def parameters(self, policy: Policy) -> list[nn.Parameter]:
        """The trained weights of one policy, in a fixed order."""
        return [value for name, value in self._model.named_parameters() if f".{policy}." in name]

    def export(self, policy: Policy) -> tuple[bytes, bytes]:
        """The contents of the policy's two PEFT files: configuration, weights."""
        return export_adapter(self._model, policy)

    def restore(self, policy: Policy, weights: bytes | None) -> None:
        """Take on weights from a PEFT file; None goes back to the first ones, version 0."""
        import_adapter(self._model, policy, self._initial[policy] if weights is None else weights)

    @contextmanager
    def active_policy(self, policy: Policy) -> Iterator[None]:
        """Inside, this policy's adapter is active, and the only one that gradients reach."""
        before = self._model.active_adapter
        self._model.set_adapter(policy)
        self._model.train(self._training)
        try:
            yield
        finally:  # a step that fails must not leave its adapter, or dropout, to whatever comes next
            self._model.eval()
            self._model.set_adapter(before)

    def logprobs(self, policy: Policy, batch: TokenBatch) -> Tensor:
        """Log-probability of each policy token, [N] float32, with its gradient."""
        # The head is applied at policy tokens only; the last token of a row is a target and no input.
        predicts = batch.mask[:, 1:]
        hidden = self._backbone(input_ids=batch.tokens[:, :-1], use_cache=False).last_hidden_state
        return self._token_logprobs(
            hidden[predicts], batch.tokens[:, 1:][predicts], self._temperatures[policy]
        )

    @torch.no_grad()
    def no_grad_logprobs(self, policy: Policy, batch: TokenBatch) -> Tensor:
        """The same as `logprobs` without gradient or dropout: a fixed point to compare with."""
        self._model.eval()
        logprobs = self.logprobs(policy, batch)
        self._model.train(self._training)
        return logprobs

    def base_logprobs(self, policy: Policy, batch: TokenBatch) -> Tensor:
        """The base model's log-probabilities of the same tokens, [N], without gradient."""
        with self._model.disable_adapter():
            return self.no_grad_logprobs(policy, batch)

    def _token_logprobs(self, hidden: Tensor, targets: Tensor, temperature: float) -> Tensor:
        """log softmax(head(hidden)/temperature) at the targets: [N, D], [N] -> [N]."""
        rows = max(1, MAX_LOGITS // self._vocabulary)
        if len(targets) <= rows:
            return _at_targets(self._head, hidden, targets, temperature)
        parts = [
            checkpoint(_at_targets, self._head, some, wanted, temperature, use_reentrant=False)
            for some, wanted in zip(torch.split(hidden, rows), torch.split(targets, rows), strict=True)
        ]
        return torch.cat(parts)


def _checkpoint_activations(base: PreTrainedModel) -> None:
    if hasattr(base, "activation_checkpointing_enable"):  # later versions' name for it
        base.activation_checkpointing_enable({"use_reentrant": False})
    else:
        base.gradient_checkpointing_enable({"use_reentrant": False})


def _at_targets(head: nn.Module, hidden: Tensor, targets: Tensor, temperature: float) -> Tensor:
    logits: Tensor = head(hidden).float() / temperature  # [N, V]
    chosen = logits.gather(-1, targets[:, None]).squeeze(-1)
    return chosen - logits.logsumexp(-1)
