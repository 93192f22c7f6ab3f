"""Terms of an episode's reward, and their weights."""

from typing import Annotated, Final, Literal, Self

from pydantic import Field, model_validator

from .base_config import BaseConfig


class _Term(BaseConfig):
    """One term of a composed reward: a function of the episode, times its weight."""

    name: str = ""
    """What the reports call it; empty: its kind."""
    weight: float = 1.0
    """A negative one makes a reward a penalty."""
    domains: tuple[str, ...] = ()
    """Tasks of these domains only; elsewhere the term is 0. Empty: all."""


class UncertaintyTerm(_Term):
    """1 − 2|p̂ − 0.5|, of the task's siblings."""

    kind: Literal["uncertainty"]


class NoveltyTerm(_Term):
    """Novelty of the task, 0 to 1."""

    kind: Literal["novelty"]


class CorrectnessTerm(_Term):
    """The verdict's score, 0 to 1."""

    kind: Literal["correctness"]
    partial: bool = True
    """Give credit for parts; otherwise an answer that is not correct earns 0."""


class ToolUseTerm(_Term):
    """score / (1 + needless calls) for a correct answer with a call that succeeded; 0 otherwise."""

    kind: Literal["tool_use"]


class ToolChainTerm(_Term):
    """Pays for the calls that the answer follows from, and charges for the others.

    score · (share of `chain` that was made) − min(most, charge · needless), the first part only where the
    answer is correct.
    """

    kind: Literal["tool_chain"]
    chain: tuple[str, ...] = ()
    """Tools in the order in which a solution needs them; empty: any call that the answer follows from."""
    charge: float = Field(default=0.1, ge=0.0, le=1.0)
    """For each call that failed, repeats another, or that nothing follows from."""
    most: float = Field(default=0.5, ge=0.0, le=1.0)
    """Charged in one episode, however many there are."""


class LengthTerm(_Term):
    """1 − (tokens sampled) / `tokens`, not below 0, for a correct answer; 0 otherwise."""

    kind: Literal["brevity"]
    tokens: int = Field(ge=1)


class FormatTerm(_Term):
    """Share of the turns that hold a call or the answer."""

    kind: Literal["format"]


class EnvironmentTerm(_Term):
    """The sum of what an environment's steps gave, between −1 and 1."""

    kind: Literal["environment"]


class BrierScoreTerm(_Term):
    """1 − (confidence − correct)²: pays for being as sure as one is right."""

    kind: Literal["honesty"]


RewardTermSettings = Annotated[
    UncertaintyTerm
    | NoveltyTerm
    | CorrectnessTerm
    | ToolUseTerm
    | ToolChainTerm
    | LengthTerm
    | FormatTerm
    | EnvironmentTerm
    | BrierScoreTerm,
    Field(discriminator="kind"),
]

_WEIGHTS: Final = ("uncertainty", "tool_use", "novelty", "correctness")


class RewardWeights(BaseConfig):
    """R = w_u·uncertainty + w_t·tool_use + w_n·novelty + w_c·correctness, or a sum of `terms`."""

    uncertainty: float = Field(default=0.3, ge=0.0)
    tool_use: float = Field(default=0.3, ge=0.0)
    novelty: float = Field(default=0.2, ge=0.0)
    correctness: float = Field(default=0.2, ge=0.0)
    terms: tuple[RewardTermSettings, ...] = ()
    """What the reward is the weighted sum of, in place of the four parts above."""
    shuffle: bool = False
    """Deal the group's rewards out at random: the control that shows a gain to be learning."""

    @model_validator(mode="after")
    def _terms_stand_alone(self) -> Self:
        if not self.terms:
            return self
        fields = type(self).model_fields
        changed = next((name for name in _WEIGHTS if getattr(self, name) != fields[name].default), None)
        if changed:
            raise ValueError(
                f"rewards.{changed} has no say where there are rewards.terms; add a term of kind {changed}"
            )
        names = [term.name or term.kind for term in self.terms]
        twice = next((name for name in names if names.count(name) > 1), None)
        if twice:
            raise ValueError(f"two terms of the reward are called {twice}; give one of them another name")
        return self
