"""A model of the chain with what the router keeps beside it, and whether its settings make sense there."""

from typing import NamedTuple

from ...configs.chat_models import CircuitSettings, RoutedModelSettings
from ...configs.errors import SettingsError
from ..models import ChatModel, capabilities_of, open_model
from .circuit import Circuit
from .results import model_key


class Member(NamedTuple):
    """One model of the chain."""

    entry: RoutedModelSettings
    model: ChatModel
    circuit: Circuit
    key: str
    """To the router's memory."""


def enlist(entry: RoutedModelSettings, circuit: CircuitSettings) -> Member:
    """Not started yet. Raises SettingsError, which names the model."""
    try:
        _require_confidence(entry)
        model = open_model(entry.model)
    except SettingsError as error:
        raise SettingsError(f"chain: {entry.name}: {error}") from error
    return Member(entry, model, Circuit(circuit), model_key(entry.model))


def _require_confidence(entry: RoutedModelSettings) -> None:
    can = capabilities_of(entry.model)
    if entry.logprobs and can.logprobs:
        return
    if entry.agreement_samples and not can.temperature:
        raise SettingsError(
            "agreement_samples: this model takes no temperature, so its replies to one request are no "
            "independent samples; set declared_confidence instead"
        )
    if not entry.agreement_samples and entry.declared_confidence is None:
        raise SettingsError(
            "there are no log-probabilities to tell from how sure it is; set agreement_samples or "
            "declared_confidence"
        )
