"""The base of every error that this project raises on purpose, and the ones about input."""

from typing import ClassVar


class AgentFactoryError(Exception):
    """Base of all our errors. The message says what was wrong, where, and what to do."""

    exit_code: ClassVar[int] = 1


class BadInput(AgentFactoryError):
    """Something a person gave us cannot be used. Nothing has been written."""

    exit_code: ClassVar[int] = 2


class SettingsError(BadInput):
    """A preset, a settings file or one of its values is wrong."""


class CannotWrite(AgentFactoryError):
    """The disk is full, or the folder may not be written. What was acknowledged before is safe."""

    exit_code: ClassVar[int] = 2
