"""Settings that name places: relative to where a command was given, absolute where they are kept."""

from pathlib import Path
from typing import Annotated, Final, TypeVar

from pydantic import BaseModel

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
