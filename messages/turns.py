"""What passes between a policy and its tools, turn by turn."""

from itertools import zip_longest
from typing import Literal, Self

from pydantic import Field, model_validator

from .base import Message

FinishReason = Literal["stop", "length", "abort"]
Failure = Literal["", "error", "timeout", "memory", "output", "disk", "forbidden", "unknown_tool", "crashed"]
"""Why a call of a tool is not `ok`; empty where it is."""


class ToolCall(Message):
    """A call that the policy wrote."""

    tool: str
    input: str
    """The text handed to the tool, as the policy wrote it."""


class ToolResult(Message):
    """What a tool answered: the observation that the policy reads next."""

    output: str
    ok: bool
    failure: Failure = ""
    """Why `ok` is false; empty otherwise."""
    reward: float | None = None
    """What the environment gave for this step; None for a tool that is no environment."""
    duration_s: float = Field(default=0.0, ge=0.0)


class Turn(Message):
    """One prompt → completion, with the exact tokens, so that nothing is ever tokenized again."""

    prompt_ids: tuple[int, ...]
    """Tokens that the environment added since the previous turn ended (task, observation, markup)."""
    completion_ids: tuple[int, ...]
    """Tokens that the policy sampled."""
    logprobs: tuple[float, ...]
    """Log-probability of each completion token under the policy that sampled it, to 1e-6."""
    loss_mask: tuple[int, ...]
    """1 where a token counts in the loss, over `prompt_ids` followed by `completion_ids`."""
    policy_version: int = Field(ge=0)
    """Version of the policy that sampled this turn; 0 is the base model."""
    finish_reason: FinishReason = "stop"
    text: str = ""
    """The completion as text."""
    calls: tuple[ToolCall, ...] = ()
    """In the order in which the policy wrote them; they ran at the same time."""
    results: tuple[ToolResult, ...] = ()
    """One for each of the first calls; a call beyond them was not answered."""
    started_at: float = 0.0
    """Seconds since the epoch."""
    generate_s: float = Field(default=0.0, ge=0.0)

    @property
    def exchanges(self) -> tuple[tuple[ToolCall, ToolResult | None], ...]:
        """Each call with what it was answered by; None where nothing did."""
        return tuple(zip_longest(self.calls, self.results))

    @model_validator(mode="before")
    @classmethod
    def _read_older(cls, value: object) -> object:
        """Until version 2 of what is stored, a turn held at most one call and its result."""
        if not isinstance(value, dict) or not {"call", "result"} & value.keys():
            return value
        newer = {key: field for key, field in value.items() if key not in ("call", "result")}
        for older, name in (("call", "calls"), ("result", "results")):
            if value.get(older) is not None:
                newer[name] = (value[older],)
        return newer

    @model_validator(mode="after")
    def _lengths_agree(self) -> Self:
        if len(self.logprobs) != len(self.completion_ids):
            raise ValueError(f"{len(self.logprobs)} logprobs for {len(self.completion_ids)} sampled tokens")
        total = len(self.prompt_ids) + len(self.completion_ids)
        if len(self.loss_mask) != total:
            raise ValueError(f"loss_mask has {len(self.loss_mask)} entries for {total} tokens")
        if len(self.results) > len(self.calls):
            raise ValueError(f"{len(self.results)} results for {len(self.calls)} calls")
        return self
