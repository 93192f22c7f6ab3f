"""What the Coordinator and the Trainer say to each other."""

from pydantic import Field

from .adapters import AdapterRef, Policy
from .base import Message, Request
from .trajectories import Group


class StepReport(Message):
    """One finished training step, and the adapter it made."""

    adapter: AdapterRef
    config_json: bytes = b""
    """Empty, like `weights`, where the adapter's files lie in the data plane: see `adapter.tag`."""
    weights: bytes = b""
    loss: float
    kl_to_base: float | None = None
    """Mean estimate over policy tokens, nats; None where it is not measured."""
    clip_fraction: float = 0.0
    entropy: float = 0.0
    """Mean of −log p of the sampled tokens under the new policy, nats."""
    grad_norm: float = 0.0
    """Before clipping, the mean over the step's updates."""
    tokens: int = 0
    """Policy tokens trained on."""
    groups_used: int = 0
    """Groups with a non-zero advantage."""
    train_s: float = 0.0


class TrainStep(Request[StepReport]):
    """Make version `version + 1` of a policy from these groups.

    Asking again with the same `version` (after a crash) redoes the step from the checkpoint of
    `version`; a step that was already finished is answered from its checkpoint.
    """

    policy: Policy
    version: int = Field(ge=0)
    """The version that the Trainer must hold; it restores that checkpoint if it does not."""
    groups: tuple[Group, ...]
    tag: str = ""
    """Where in the data plane to put the new version's files; empty: answer with them."""
