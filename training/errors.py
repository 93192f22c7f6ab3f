"""Errors of this room, named by the boundary that was crossed."""

from ..configs.errors import AgentFactoryError, CannotWrite


class CannotLoadModel(AgentFactoryError):
    """The base model cannot be loaded, or cannot be adapted as asked."""


class UnusableTrajectory(AgentFactoryError):
    """A trajectory's record contradicts itself, so that training on it would be wrong."""


class TrainingDiverged(AgentFactoryError):
    """Every update of a step had a loss or a gradient that was not finite; nothing was saved."""


class CheckpointNotWritten(CannotWrite):
    """A checkpoint could not be made durable; what lay in the folder before still does."""


class CheckpointMissing(AgentFactoryError):
    """The version to go on from is not in the run's folder."""
