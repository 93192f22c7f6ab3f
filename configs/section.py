"""What every part of the settings is."""

from typing import Final, LiteralString, get_args

from pydantic import BaseModel, ConfigDict, model_validator
from pydantic_core import PydanticCustomError

IMPLAUSIBLE: Final = "implausible"
"""The type of an error whose context has the `field` and its `input`."""
_LARGEST: Final = 2**63
_NUMBERS: Final = {int, float}


class Section(BaseModel):
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
    """What is wrong with a value whatever its section says of it."""
    if isinstance(value, bool):
        return "expected a number" if _NUMBERS & {annotation, *get_args(annotation)} else ""
    if isinstance(value, int) and not -_LARGEST <= value < _LARGEST:
        return "the number is too large"
    return "there is a NUL character in it" if isinstance(value, str) and "\0" in value else ""
