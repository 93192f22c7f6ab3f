"""Base of all settings, and the fields that name places.

Places are relative to where a command was given, and absolute where they are kept.
"""

from pathlib import Path
from typing import Annotated, Final, LiteralString, TypeVar, get_args

from pydantic import BaseModel, ConfigDict, model_validator
from pydantic_core import PydanticCustomError

IMPLAUSIBLE: Final = "implausible"
"""The type of an error whose context has the `field` and its `input`."""
_LARGEST: Final = 2**63
_NUMBERS: Final = {int, float}


class BaseConfig(BaseModel):
    """A frozen group of settings; units are in the names; unknown keys are refused."""

    model_config = ConfigDict(
        frozen=True,
        extra="forbid",
        use_attribute_docstrings=True,
        validate_default=True,
        allow_inf_nan=False,  # JSON has neither: what is stored could not be read again
    )

    @model_validator(mode="before")
    @classmethod
    def _is_plausible(cls, values: object) -> object:
        """Refuse what pydantic would take for something that nobody meant."""
        for name, value in values.items() if isinstance(values, dict) else ():
            field = cls.model_fields.get(name)
            if field is not None and (wrong := _implausible(value, field.annotation)):
                raise PydanticCustomError(IMPLAUSIBLE, wrong, {"field": name, "input": value})
        return values


def _implausible(value: object, annotation: object) -> LiteralString:
    """Reason against a value that no section may hold; empty for a plausible one."""
    if isinstance(value, bool):
        return "expected a number" if _NUMBERS & {annotation, *get_args(annotation)} else ""
    if isinstance(value, int) and not -_LARGEST <= value < _LARGEST:
        return "the number is too large"
    return "there is a NUL character in it" if isinstance(value, str) and "\0" in value else ""


SectionT = TypeVar("SectionT", bound=BaseModel)


class _IsPlace:
    """Marks a field that names a file or a folder."""


class _MayBePlace:
    """Marks a field that names a folder, where there is such a folder, or something else."""


PLACE: Final = _IsPlace()
MAYBE: Final = _MayBePlace()
NO_PLACES: Final = {"seed", "seed-data", "auto", "ngrams"}
"""Names with a meaning of their own, whatever folders there are."""
PlaceText = Annotated[str, PLACE]
"""A file or a folder; empty for none."""
PlaceOrName = Annotated[str, MAYBE]
"""A folder, or else the name of a model."""


def with_absolute_places(section: SectionT) -> SectionT:
    """The section with every place in it, at any depth, made absolute from the working directory."""
    changes: dict[str, object] = {}
    for name, field in type(section).model_fields.items():
        value = getattr(section, name)
        changed = _absolute(value, tuple(field.metadata))
        if changed != value:
            changes[name] = changed
    return section.model_copy(update=changes) if changes else section


def _absolute(value: object, marks: tuple[object, ...]) -> object:
    if isinstance(value, BaseModel):
        return with_absolute_places(value)
    if isinstance(value, tuple):
        return tuple(_absolute(each, marks) for each in value)
    if isinstance(value, str) and value:
        path = Path(value).expanduser()
        if PLACE in marks or (MAYBE in marks and value not in NO_PLACES and path.is_dir()):
            return str(path.absolute())
    return value
