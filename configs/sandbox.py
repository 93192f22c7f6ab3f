"""Settings of the command sandbox, its audit log, and its rules of what agents must not run or touch."""

import re
from pathlib import Path
from typing import Annotated, Final, Literal, Self

from pydantic import Field, field_validator, model_validator

from .base_config import PLACE, BaseConfig, PlaceText

Level = Literal["bubblewrap", "landlock", "limits"]
"""What stands between a program and this machine, the strongest first."""


class AuditSettings(BaseConfig):
    """The record of every call: JSON lines, the oldest thrown away."""

    file: PlaceText = ""
    """Where the lines go. Empty: nothing is written."""
    max_mb: float = Field(default=16.0, gt=0.0)
    """A file that would grow beyond it is renamed to `FILE.1`, and so on."""
    files: int = Field(default=4, ge=1)
    """Files that are kept, the current one included."""
    max_chars: int = Field(default=300, ge=20)
    """Length of one argument in a line; what is beyond is left out."""


class CommandSandboxSettings(BaseConfig):
    """Limits of one program that an agent starts."""

    level: Literal["auto", "bubblewrap", "landlock", "limits"] = "auto"
    """`auto`: the strongest that holds here."""
    allow_weak: bool = False
    """Go on with resource limits alone where no level holds."""
    timeout_s: float = Field(default=10.0, gt=0.0, le=86400.0)
    memory_mb: int = Field(default=512, ge=32)
    """Of one process, and of all of a call together."""
    output_bytes: int = Field(default=65536, ge=64)
    """Of standard output, and again of standard error."""
    file_mb: int = Field(default=64, ge=1)
    """Size of one file that is written."""
    tmp_mb: int = Field(default=64, ge=1)
    """Size of the private /tmp, where the level has one."""
    workdir_mb: int = Field(default=256, ge=1)
    """Size of all files in the workdir together; one that is larger already must not grow."""
    workdir_files: int = Field(default=10_000, ge=1)
    """Files and folders in the workdir, and again in each private folder for temporary files."""
    processes: int = Field(default=64, ge=1)
    """Processes and threads at the same time."""
    open_files: int = Field(default=256, ge=16)
    readable: Annotated[tuple[str, ...], PLACE] = ()
    """Folders and files that programs may read besides the system's own and Python's."""
    max_parallel: int = Field(default=4, ge=1)
    """Calls that run at the same time."""
    audit: AuditSettings = AuditSettings()

    @model_validator(mode="after")
    def _weak_is_asked_for_twice(self) -> Self:
        if self.level == "limits" and not self.allow_weak:
            raise ValueError("level `limits` is no isolation; set allow_weak to accept that")
        return self


SHIPPED_RULES: Final = Path(__file__).parent / "safety.yaml"


class CommandRule(BaseConfig):
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


class PathRule(BaseConfig):
    """Files that are refused."""

    name: str = Field(min_length=1)
    pattern: str = Field(pattern=r"^(/|\*\*/)")
    """From the root, or from `**/`; `*` stands for anything but a slash, `**` for anything."""
    reason: str = Field(min_length=1)


class SafetyRuleSettings(BaseConfig):
    """A file of rules."""

    commands: tuple[CommandRule, ...] = ()
    paths: tuple[PathRule, ...] = ()
