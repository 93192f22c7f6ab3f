"""The model router's settings: a chain of chat models, when a reply is good enough, and what may be spent."""

from typing import Literal, Self

from pydantic import Field, model_validator

from ..messages.generation import SamplingSettings
from .chat_models import ChatModelSettings, EngineModelSettings
from .section import Section


class RoutedModelSettings(Section):
    """One model of the chain, and how sure its replies are taken to be (see `runtime.router.confidence`)."""

    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._:-]{0,63}$")
    """In decisions and reports."""
    model: ChatModelSettings
    logprobs: bool = True
    """Use log-probabilities where the model gives them. False for servers that refuse to."""
    agreement_samples: int = Field(default=0, ge=0, le=16)
    """Without log-probabilities: how many replies are compared; each costs a request. 0: none are."""
    agreement_temperature: float = Field(default=0.7, gt=0.0, le=10.0)
    """Of the further samples, where the request itself is greedy."""
    declared_confidence: float | None = Field(default=None, ge=0.0, le=1.0)
    """Where neither of these says anything: how sure you are of it."""

    @model_validator(mode="after")
    def _one_sample_agrees_with_itself(self) -> Self:
        if self.agreement_samples == 1:
            raise ValueError("agreement_samples: one reply always agrees with itself; expected 0, or 2 to 16")
        return self


class BudgetSettings(Section):
    """What may be spent, by an estimate from above before each ask. None: no limit.

    Money is in the currency of the models' prices; a model without prices is free. Tokens are those of
    all models, prompt and completion.
    """

    request_cost: float | None = Field(default=None, ge=0.0)
    request_tokens: int | None = Field(default=None, ge=0)
    day_cost: float | None = Field(default=None, ge=0.0)
    """Days are UTC's. All routers that share a `folder` share their days."""
    day_tokens: int | None = Field(default=None, ge=0)


class CircuitSettings(Section):
    """When a model is left alone for a while."""

    open_after: int = Field(default=3, ge=1)
    """Failures in a row."""
    pause_s: float = Field(default=30.0, gt=0.0)
    """Then one request may try it again. A server's own Retry-After may be longer."""


class ResultCacheSettings(Section):
    """Which replies are kept, to be given again for the same task."""

    entries: int = Field(default=1000, ge=0)
    """The one that was used longest ago goes first. 0 keeps none."""
    sampled: bool = False
    """Keep replies to requests with a temperature above 0, too: the next one gets the same."""


class RouterSettings(Section):
    """A router."""

    chain: tuple[RoutedModelSettings, ...] = Field(
        default=(RoutedModelSettings(name="seed", model=EngineModelSettings()),), min_length=1
    )
    """The first one is always asked first: the local one."""
    threshold: float = Field(default=0.7, ge=0.0, le=1.0)
    """A reply at least this sure is taken; after any other the next model is asked."""
    order: Literal["cost", "latency", "listed"] = "cost"
    """Of those after the first: by what they are expected to cost or take, or as they are listed."""
    deadline_s: float | None = Field(default=None, gt=0.0)
    """For a whole request that brings none of its own."""
    sampling: SamplingSettings = SamplingSettings(temperature=0.0)
    """For tasks that come as plain text."""
    budget: BudgetSettings = BudgetSettings()
    circuit: CircuitSettings = CircuitSettings()
    cache: ResultCacheSettings = ResultCacheSettings()
    folder: str = ".agentfactory/router"
    """Where spending, history and accuracy are kept."""

    @model_validator(mode="after")
    def _names_differ(self) -> Self:
        names = [entry.name for entry in self.chain]
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise ValueError(f"chain: two models have the name {twice[0]!r}")
        return self
