"""Settings from presets and YAML files, with errors that name the file, the key and what was expected."""

import difflib
import reprlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TypeVar, get_args

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from .base_config import IMPLAUSIBLE, BaseConfig
from .errors import SettingsError
from .settings import Settings
from .yaml_core import YamlSyntaxError, parse_yaml
from .yaml_core import YamlValue as YamlValue

PRESETS = Path(__file__).parent / "presets"

SectionT = TypeVar("SectionT", bound=BaseConfig)


def preset_names() -> tuple[str, ...]:
    """The presets that ship with the project."""
    return tuple(sorted(path.stem for path in PRESETS.glob("*.yaml")))


def load_settings(
    name_or_file: str = "laptop", overrides: Mapping[str, YamlValue] | None = None, said_by: str = "overrides"
) -> Settings:
    """Load a preset by name, or a YAML file that may build on one with `extends: NAME`.

    `overrides` maps dotted keys (`loop.rounds`) to values that win over the file's; `said_by` is what
    they are called where one of them is wrong. Raises SettingsError, which names the file and the key.
    """
    path = _find(name_or_file)
    values = _read_with_base(path, seen=())
    for key, value in (overrides or {}).items():
        values = merge(values, expand_dotted_key(key, value))
    try:
        return Settings.model_validate(values)
    except ValidationError as error:
        wrong = _overridden(error, overrides or {})
        where = f"{said_by} {wrong}" if wrong else str(path)
        raise SettingsError(format_validation_error(error, where=where, model=Settings)) from error


def load_section(path: Path, section: type[SectionT]) -> SectionT:
    """Read a YAML file that holds one section. Raises SettingsError, which names the file and the key."""
    if not path.is_file():
        raise SettingsError(f"{path}: there is no such settings file")
    try:
        return section.model_validate(read_yaml(path))
    except ValidationError as error:
        raise SettingsError(format_validation_error(error, where=str(path), model=section)) from error


def read_stored(path: Path) -> Settings:
    """Read the settings that a run keeps in its folder."""
    try:
        return Settings.model_validate_json(path.read_bytes())
    except OSError as error:
        raise SettingsError(
            f"{path}: cannot be read ({error.strerror}); expected a run's settings"
        ) from error
    except ValidationError as error:
        raise SettingsError(format_validation_error(error, where=str(path), model=Settings)) from error


def _overridden(error: ValidationError, overrides: Mapping[str, YamlValue]) -> str:
    """The override that an error is about; empty where it is about the file."""
    first = _likely_cause(error)
    keys = ".".join(_place(Settings, first["loc"])[0])
    for key in overrides:
        about = f"{keys}.".startswith(f"{key}.") or f"{key}.".startswith(f"{keys}.") if keys else False
        if about or key in first["msg"]:
            return key
    return ""


def _likely_cause(error: ValidationError) -> ErrorDetails:
    found = error.errors(include_url=False)
    first = next((each for each in found if each["type"] == "extra_forbidden"), found[0])
    if first["type"] == IMPLAUSIBLE:  # pydantic lets a section say this only of itself, not of its field
        context = first["ctx"]
        return {**first, "loc": (*first["loc"], context["field"]), "input": context["input"]}
    return first


def format_validation_error(error: ValidationError, where: str, model: type[BaseModel]) -> str:
    """One sentence for a validation error: the file, the key, what was found and expected."""
    first = _likely_cause(error)
    keys, options = _place(model, first["loc"])
    key = ".".join(keys)
    more = f" (and {error.error_count() - 1} more)" if error.error_count() > 1 else ""
    if first["type"] == "extra_forbidden":
        known = sorted({name for option in options for name in option.model_fields})
        return f"{where}: unknown key {key!r}; {suggest(keys[-1], known, 'known keys')}{more}"
    if first["type"] in {"union_tag_invalid", "union_tag_not_found"}:
        tags = [tag for option in options if (tag := _tag(option)) is not None]
        field = first["ctx"]["discriminator"].strip("'")
        if first["type"] == "union_tag_not_found":
            return f"{where}: {key}: {field} is missing; expected {_quoted(tags)}{more}"
        wrong = first["ctx"]["tag"]
        return f"{where}: {key}: unknown {field} {wrong!r}; {suggest(wrong, tags, 'expected')}{more}"
    message = first["msg"].removeprefix("Value error, ")
    if first["type"] in {"model_type", "dict_type"}:
        message = "expected keys and values"
    shown = f", found {shorten(first['input'])}" if key and not isinstance(first["input"], dict) else ""
    return f"{where}: {key or 'settings'}: {message}{shown}{more}"


def shorten(value: object, most: int = 200) -> str:
    """A value as it reads in a sentence."""
    text = repr(value) if isinstance(value, str | int | float) else reprlib.repr(value)
    return text if len(text) <= most else f"{text[:most]}…"


def suggest(wrong: str, known: Sequence[str], otherwise: str) -> str:
    """The nearest of what is known, or all of it after the word `otherwise`."""
    close = difflib.get_close_matches(wrong, known, n=1)
    return f"did you mean {close[0]!r}?" if close else f"{otherwise}: {_quoted(known)}"


def _find(name_or_file: str) -> Path:
    preset = PRESETS / f"{name_or_file}.yaml"
    if "/" not in name_or_file and preset.is_file():
        return preset
    path = Path(name_or_file)
    if path.suffix in {".yaml", ".yml"} or "/" in name_or_file:
        if path.is_file():
            return path
        raise SettingsError(f"{path}: there is no such settings file")
    names = preset_names()
    hint = suggest(name_or_file, names, "presets")
    raise SettingsError(f"unknown preset {name_or_file!r}; {hint} (or give a .yaml file)")


def _read_with_base(path: Path, seen: tuple[Path, ...]) -> dict[str, YamlValue]:
    if path.resolve() in seen:
        raise SettingsError(f"{path}: extends: the files extend one another in a circle")
    values = read_yaml(path)
    base = values.pop("extends", None)
    if base is None:
        return values
    if not isinstance(base, str):
        raise SettingsError(f"{path}: extends: expected the name of a preset or a file")
    beside = path.parent / base
    base_path = beside if beside.is_file() else _find(base)
    return merge(_read_with_base(base_path, (*seen, path.resolve())), values)


def read_yaml(path: Path) -> dict[str, YamlValue]:
    """Read a YAML file of keys and values. Raises SettingsError, which names the file and the line."""
    try:
        loaded = parse_yaml(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise SettingsError(f"{path}: cannot be read ({error})") from error
    except YamlSyntaxError as error:
        raise SettingsError(f"{path}: {error}") from error
    if loaded is None:
        raise SettingsError(f"{path}: the file is empty; expected keys and values")
    if not isinstance(loaded, dict):
        raise SettingsError(f"{path}: expected keys and values, found {type(loaded).__name__}")
    return loaded


def expand_dotted_key(dotted: str, value: YamlValue) -> dict[str, YamlValue]:
    """Sections for a dotted key: `a.b` with 1 is `{a: {b: 1}}`."""
    for part in reversed(dotted.split(".")):
        value = {part: value}
    assert isinstance(value, dict)
    return value


def merge(base: Mapping[str, YamlValue], over: Mapping[str, YamlValue]) -> dict[str, YamlValue]:
    """`over` wins, key by key; a section of another `kind` replaces the old one whole."""
    merged = dict(base)
    if "kind" in over and over["kind"] != base.get("kind"):
        return dict(over)
    for key, value in over.items():
        old = merged.get(key)
        merged[key] = merge(old, value) if isinstance(old, dict) and isinstance(value, dict) else value
    return merged


def _place(model: type[BaseModel], loc: tuple[int | str, ...]) -> tuple[list[str], Sequence[type[BaseModel]]]:
    """The keys that `loc` goes through as a file has them, without the tags of unions; and the sections
    that can stand where its last key stands in."""
    keys: list[str] = []
    here: Sequence[type[BaseModel]] = (model,)
    for number, part in enumerate(map(str, loc)):
        fields = [field for option in here if (field := option.model_fields.get(part)) is not None]
        if fields:
            inner = [found for field in fields for found in _sections(field.annotation)]
            last = number == len(loc) - 1
            keys.append(part)
            here = inner or (here if last else ())
        elif any(_tag(option) == part for option in here) and len(here) > 1:
            here = [option for option in here if _tag(option) == part]
        else:
            keys.append(part)
    return keys, here


def _sections(annotation: object) -> list[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [found for part in get_args(annotation) for found in _sections(part)]


def _tag(model: type[BaseModel]) -> str | None:
    """Tag that tells a section from the others of its union."""
    field = model.model_fields.get("kind") or model.model_fields.get("type")
    if field is None:
        return None
    return str(get_args(field.annotation)[0] if field.is_required() else field.default)


def _quoted(names: Sequence[str]) -> str:
    return ", ".join(map(repr, names))
