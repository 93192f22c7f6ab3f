"""Rules of what agents must not run or touch: their shape, and where the shipped ones are."""

import re
from pathlib import Path
from typing import Final

from pydantic import Field, field_validator

from .section import Section

SHIPPED_RULES: Final = Path(__file__).parent / "safety.yaml"


class CommandRule(Section):
    """A command that is refused."""

    name: str = Field(min_length=1)
    program: str = ""
    """Regular expression for the program's whole name, without its folder. Empty: any."""
    arguments: str = ""
    """Regular expression found in the arguments, joined by spaces; in the whole line where there is no
    `program`. Empty: any."""
    reason: str = Field(min_length=1)

    @field_validator("program", "arguments")
    @classmethod
    def _compiles(cls, value: str) -> str:
        try:
            re.compile(value)
        except re.error as error:
            raise ValueError(f"not a regular expression ({error})") from error
        return value


class PathRule(Section):
    """Files that are refused."""

    name: str = Field(min_length=1)
    pattern: str = Field(pattern=r"^(/|\*\*/)")
    """From the root, or from `**/`; `*` stands for anything but a slash, `**` for anything."""
    reason: str = Field(min_length=1)


class SafetyRuleSettings(Section):
    """A file of rules."""

    commands: tuple[CommandRule, ...] = ()
    paths: tuple[PathRule, ...] = ()
